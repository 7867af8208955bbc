//! The daemon's questions and answers: HTTP on a Unix socket.

use std::sync::Arc;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::learned::{Import, Subject};
use super::lock::Holder;
use super::mounts::Mounts;
use super::settings::DaemonSettings;
use super::{DaemonStatus, MountRequest, warming};
use crate::cache::{CacheError, Keep, VerifyReport};

/// Longest import, in bytes: the longest profile, as text.
const MAX_IMPORT: usize = 40 << 20;

/// Who answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The daemon itself.
    #[serde(flatten)]
    pub(super) holder: Holder,
    /// What it runs with. A daemon of another version may not say.
    #[serde(default)]
    pub(super) settings: Option<DaemonSettings>,
}

/// Tells the daemon to end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct StopRequest {
    /// Only if it has no mounts and nothing to do.
    pub(super) if_idle: bool,
}

/// What a mount will show.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Prepared {
    /// The commit, as git calls it; empty for a plain folder.
    pub(super) commit: String,
    /// Files and directories.
    pub(super) nodes: u64,
    /// Bytes of content.
    pub(super) bytes: u64,
    /// Lines about what is not shown, or shown and worth a word.
    pub(super) notices: Vec<String>,
    /// Whether what it is called is nobody else's business. An older daemon
    /// does not say.
    #[serde(default)]
    pub(super) encrypted: bool,
}

/// An error, as text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) error: String,
}

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) mounts: Arc<Mounts>,
    stop: Arc<Notify>,
    hello: Arc<Hello>,
}

/// A listener that turns away everybody but its owner and root. The socket
/// lies in a private directory already; this holds even if that is opened.
struct Owned(UnixListener);

impl axum::serve::Listener for Owned {
    type Io = UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let accepted = axum::serve::Listener::accept(&mut self.0).await;
            if is_owner(&accepted.0) {
                return accepted;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// Whether the peer is this process's user, or root.
pub(super) fn is_owner(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred().map(|cred| cred.uid());
    let ok = peer.as_ref().is_ok_and(|&uid| uid == own || uid == 0);
    if !ok {
        tracing::warn!("turned away a peer with uid {peer:?}");
    }
    ok
}

/// Serves `control.sock` until `stop` is told.
pub(super) async fn serve(
    listener: UnixListener,
    mounts: Arc<Mounts>,
    stop: Arc<Notify>,
    identity: Hello,
) -> std::io::Result<()> {
    let shared = Shared {
        mounts,
        stop,
        hello: Arc::new(identity),
    };
    let large = DefaultBodyLimit::max(MAX_IMPORT);
    let routes = axum::Router::new()
        .route("/v1/hello", get(hello))
        .route("/v1/status", get(status))
        .route("/v1/mounts", get(mount_requests))
        .route("/v1/prepare", post(prepare))
        .route("/v1/cache/clear", post(clear))
        .route("/v1/cache/verify", post(verify))
        .route("/v1/learned/export", post(export))
        .route("/v1/learned/import", post(import).layer(large))
        .route("/v1/cache/warm", post(warming::warm))
        .route("/v1/cache/pins", get(warming::pins))
        .route("/v1/cache/unpin", post(warming::unpin))
        .route("/v1/stop", post(stop_now))
        .route("/metrics", get(metrics))
        .with_state(shared);
    axum::serve(Owned(listener), routes).await
}

/// Asked often, to see whether the daemon still answers: it must not wait for
/// anything.
async fn hello(State(shared): State<Shared>) -> Json<Hello> {
    Json(Hello::clone(&shared.hello))
}

async fn mount_requests(State(shared): State<Shared>) -> Json<Vec<MountRequest>> {
    Json(shared.mounts.requests())
}

async fn status(State(shared): State<Shared>) -> Json<DaemonStatus> {
    Json(DaemonStatus {
        settings: shared.hello.settings.clone(),
        ..shared.mounts.status()
    })
}

async fn metrics(State(shared): State<Shared>) -> String {
    shared.mounts.status().metrics()
}

async fn prepare(State(shared): State<Shared>, Json(request): Json<MountRequest>) -> Response {
    if let Err(error) = walgit_durable::fault_point::reach("daemon.prepare") {
        return refuse(error.to_string());
    }
    match shared.mounts.prepare(&request, None).await {
        Ok(snapshot) => {
            let commit = snapshot.commit();
            Json(Prepared {
                commit: commit.id.to_string(),
                nodes: commit.nodes,
                bytes: commit.bytes,
                notices: snapshot.repository().notices().to_vec(),
                encrypted: snapshot.repository().is_encrypted(),
            })
            .into_response()
        }
        Err(error) => refuse(error.to_string()),
    }
}

async fn clear(State(shared): State<Shared>, Json(keep): Json<Keep>) -> Response {
    let cache = shared.mounts.cache().clone();
    match tokio::task::spawn_blocking(move || cache.clear(keep)).await {
        Ok(Ok(())) => Json(()).into_response(),
        Ok(Err(error)) => refuse(error.to_string()),
        Err(error) => refuse(error.to_string()),
    }
}

async fn verify(State(shared): State<Shared>) -> Response {
    let cache = shared.mounts.cache().clone();
    let verified: Result<Result<VerifyReport, CacheError>, _> =
        tokio::task::spawn_blocking(move || cache.verify(|_, _| {})).await;
    match verified {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(error)) => refuse(error.to_string()),
        Err(error) => refuse(error.to_string()),
    }
}

async fn export(State(shared): State<Shared>, Json(subject): Json<Subject>) -> Response {
    match shared.mounts.export(&subject).await {
        Ok(learned) => Json(learned).into_response(),
        Err(error) => refuse(error.to_string()),
    }
}

async fn import(State(shared): State<Shared>, Json(import): Json<Import>) -> Response {
    match shared.mounts.import(import).await {
        Ok(imported) => Json(imported).into_response(),
        Err(error) => refuse(error.to_string()),
    }
}

async fn stop_now(State(shared): State<Shared>, Json(request): Json<StopRequest>) -> Response {
    match shared.mounts.close(request.if_idle) {
        Ok(()) => {
            shared.stop.notify_one();
            Json(()).into_response()
        }
        Err(error) => refuse(error.to_string()),
    }
}

pub(super) fn refuse(error: String) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(Refusal { error })).into_response()
}
