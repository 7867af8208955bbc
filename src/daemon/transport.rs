//! Requests to the daemon: HTTP/1 over a Unix socket whose other end was checked.
//!
//! This needs no TLS, no proxies and no certificates, so it works where the network
//! does not.

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

/// How long a daemon may take to say hello.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long it may take to answer a question, if it says hello meanwhile.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// After so long it is worth a look whether it is stopped.
const GLANCE: Duration = Duration::from_millis(500);
/// How often it is asked while something else is asked of it.
const WATCH: Duration = Duration::from_secs(1);

/// The head of an answer; its body comes when it is read.
pub(super) type Answer = Response<Incoming>;

/// A request.
pub(super) struct Call {
    method: Method,
    path: &'static str,
    body: Bytes,
    /// How long it may take in all; `None` where the daemon itself sets limits.
    pub(super) limit: Option<Duration>,
}

impl Call {
    /// A question, which takes no work to answer.
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

    /// Sends it; the answer, unless it is a refusal.
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
            // An older or newer daemon does not know it.
            StatusCode::NOT_FOUND => Err(ClientError::Gone("it does not know the request".into())),
            _ => {
                let refusal: Refusal = decoded(response).await?;
                Err(ClientError::Refused(refusal.error))
            }
        }
    }
}

/// An answer's value.
pub(super) async fn decoded<T: DeserializeOwned>(response: Answer) -> Result<T, ClientError> {
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| gone(&error))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| gone(&error))
}

pub(super) fn gone(error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Gone(error.to_string())
}

/// Asks the daemon who it is; how that went, and the process asked.
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
    // So many wait for it that the kernel takes no more connections.
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

/// Does something with the daemon, and ends early where the daemon stops answering:
/// then no limit of time for `work` itself is needed.
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
