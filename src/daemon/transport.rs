//! Requests to the daemon: HTTP/1 over a Unix socket whose peer was verified.
//!
//! This needs no TLS, proxies or certificates, so it works without a network.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::daemon_dir::{CONTROL_SOCKET, DaemonDir, DaemonDirError, DaemonPeer};
use super::error::ClientError;
use super::protocol::{Hello, Rejection};
use crate::fuse::is_stopped;

/// Timeout of the daemon's hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of a query while the daemon still says hello.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which to check whether the daemon is stopped.
const STOPPED_CHECK_DELAY: Duration = Duration::from_millis(500);
/// Interval of hellos during another request.
const HELLO_INTERVAL: Duration = Duration::from_secs(1);

/// A request.
pub(super) struct Request {
    method: Method,
    path: &'static str,
    body: Bytes,
    /// Total timeout; `None` if the daemon itself sets limits.
    pub(super) timeout: Option<Duration>,
}

impl Request {
    /// A query that takes no work to answer.
    pub(super) fn get(path: &'static str) -> Self {
        Request {
            method: Method::GET,
            path,
            body: Bytes::new(),
            timeout: Some(QUERY_TIMEOUT),
        }
    }

    pub(super) fn post(path: &'static str, body: &impl Serialize) -> Result<Self, ClientError> {
        Ok(Request {
            method: Method::POST,
            path,
            body: serde_json::to_vec(body)
                .map_err(ClientError::interrupted)?
                .into(),
            timeout: None,
        })
    }

    /// Sends the request; returns the response, or an error if the daemon rejects it.
    pub(super) async fn send(self, peer: DaemonPeer) -> Result<Response<Incoming>, ClientError> {
        let stream = TokioIo::new(peer.stream);
        let handshake = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(ClientError::interrupted)?;
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(HOST, "daemon")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(self.body))
            .map_err(ClientError::interrupted)?;
        let response = sender.send_request(request).await;
        let response = response.map_err(ClientError::interrupted)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            // An older or newer daemon does not support the request.
            StatusCode::NOT_FOUND => Err(ClientError::interrupted("unknown request")),
            _ => Err(ClientError::Rejected(
                decode::<Rejection>(response).await?.error,
            )),
        }
    }
}

/// Decodes the value of a response.
pub(super) async fn decode<T: DeserializeOwned>(
    response: Response<Incoming>,
) -> Result<T, ClientError> {
    let body = response.into_body().collect().await;
    let body = body.map_err(ClientError::interrupted)?.to_bytes();
    serde_json::from_slice(&body).map_err(ClientError::interrupted)
}

/// Queries the identity of the daemon; returns the result and the process queried.
pub(super) async fn hello(dir: &DaemonDir) -> (Result<Hello, ClientError>, Option<u32>) {
    let pid = AtomicU32::new(0);
    let known_pid = || Some(pid.load(Ordering::Relaxed)).filter(|&pid| pid != 0);
    let query = async {
        let peer = dir.connect(CONTROL_SOCKET).await?;
        pid.store(peer.pid.unwrap_or_default(), Ordering::Relaxed);
        decode(Request::get("/v1/hello").send(peer).await?).await
    };
    tokio::pin!(query);
    let mut result = tokio::time::timeout(STOPPED_CHECK_DELAY, &mut query).await;
    if result.is_err() && !known_pid().is_some_and(is_stopped) {
        let rest = HELLO_TIMEOUT - STOPPED_CHECK_DELAY;
        result = tokio::time::timeout(rest, &mut query).await;
    }
    let result = match result {
        // The kernel's backlog of connections is full.
        Ok(Err(ClientError::Dir(DaemonDirError::Io { source, .. })))
            if source.kind() == io::ErrorKind::WouldBlock =>
        {
            None
        }
        result => result.ok(),
    };
    let result = result.unwrap_or_else(|| {
        let why = format!("no answer within {} s", HELLO_TIMEOUT.as_secs());
        Err(ClientError::unresponsive(known_pid(), why))
    });
    (result, known_pid())
}

/// Runs work with the daemon, and fails early if the daemon stops answering: so `work`
/// itself needs no timeout.
pub(super) async fn while_responsive<T>(
    dir: &DaemonDir,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let stalled = async {
        loop {
            tokio::time::sleep(HELLO_INTERVAL).await;
            if let (Err(error), _) = hello(dir).await {
                return error;
            }
        }
    };
    tokio::select! {
        biased;
        result = work => result,
        error = stalled => Err(error),
    }
}
