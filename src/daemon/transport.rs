//! Requests to the daemon: HTTP/1 over a Unix socket whose peer was verified.
//!
//! This needs no TLS, proxies or certificates, so it works without a network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::ClientError;
use super::control::{Hello, Refusal};
use super::location::{CONTROL, Location, LocationError, Peer};
use crate::fuse::is_stopped;

/// Timeout of the daemon's hello.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// Timeout of an answer while the daemon still says hello.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// Time after which to check whether the daemon is stopped.
const GLANCE: Duration = Duration::from_millis(500);
/// Interval of hellos during another request.
const WATCH: Duration = Duration::from_secs(1);

/// The head of an answer; its body is streamed.
pub(super) type Answer = Response<Incoming>;

/// A request.
pub(super) struct Call {
    method: Method,
    path: &'static str,
    body: Bytes,
    /// Total timeout; `None` if the daemon itself sets limits.
    pub(super) limit: Option<Duration>,
}

impl Call {
    /// A query that takes no work to answer.
    pub(super) fn get(path: &'static str) -> Self {
        Call {
            method: Method::GET,
            path,
            body: Bytes::new(),
            limit: Some(ANSWER),
        }
    }

    pub(super) fn post(path: &'static str, body: &impl Serialize) -> Result<Self, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| gone(&error))?;
        Ok(Call {
            method: Method::POST,
            path,
            body: body.into(),
            limit: None,
        })
    }

    /// Sends the request; returns the answer, or an error if the daemon refuses.
    pub(super) async fn send(self, peer: Peer) -> Result<Answer, ClientError> {
        let stream = TokioIo::new(peer.stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(|error| gone(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(HOST, "daemon")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(self.body))
            .map_err(|error| gone(&error))?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| gone(&error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            // An older or newer daemon does not support the request.
            StatusCode::NOT_FOUND => Err(ClientError::Gone("it does not know the request".into())),
            _ => {
                let refusal: Refusal = decoded(response).await?;
                Err(ClientError::Refused(refusal.error))
            }
        }
    }
}

/// Decodes the value of an answer.
pub(super) async fn decoded<T: DeserializeOwned>(response: Answer) -> Result<T, ClientError> {
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| gone(&error))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| gone(&error))
}

pub(super) fn gone(error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Gone(error.to_string())
}

/// Queries the identity of the daemon; returns the result and the process queried.
pub(super) async fn hello(location: &Location) -> (Result<Hello, ClientError>, Option<u32>) {
    let pid = AtomicU32::new(0);
    let pid_of = |pid: &AtomicU32| Some(pid.load(Ordering::Relaxed)).filter(|&pid| pid != 0);
    let asked = async {
        let peer = location.connect(CONTROL).await?;
        pid.store(peer.pid.unwrap_or_default(), Ordering::Relaxed);
        decoded(Call::get("/v1/hello").send(peer).await?).await
    };
    tokio::pin!(asked);
    let mut said = tokio::time::timeout(GLANCE, &mut asked).await;
    if said.is_err() && !pid_of(&pid).is_some_and(is_stopped) {
        said = tokio::time::timeout(PATIENCE - GLANCE, &mut asked).await;
    }
    let pid = pid_of(&pid);
    let said = said.unwrap_or_else(|_| Err(ClientError::silent(pid)));
    // The kernel's backlog of connections is full.
    let said = match said {
        Err(ClientError::Location(LocationError::Io { source, .. }))
            if source.kind() == std::io::ErrorKind::WouldBlock =>
        {
            Err(ClientError::silent(pid))
        }
        said => said,
    };
    (said, pid)
}

/// Runs work with the daemon, and fails early if the daemon stops answering: so `work`
/// itself needs no timeout.
pub(super) async fn watched<T>(
    location: &Arc<Location>,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let stalled = async {
        loop {
            tokio::time::sleep(WATCH).await;
            if let (Err(error), _) = hello(location).await {
                return error;
            }
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        error = stalled => Err(error),
    }
}
