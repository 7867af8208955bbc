//! The control interface of the daemon: HTTP on a Unix socket.

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
use crate::cache::{CacheError, ClearScope, VerifyReport};

/// Maximum length of an import in bytes: the longest profile, as text.
const MAX_IMPORT: usize = 40 << 20;

/// Identity of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The daemon process.
    #[serde(flatten)]
    pub(super) holder: Holder,
    /// Its settings. Absent from some other versions.
    #[serde(default)]
    pub(super) settings: Option<DaemonSettings>,
}

/// Stops the daemon.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct StopRequest {
    /// Only if it has no mounts and no work.
    pub(super) if_idle: bool,
}

/// Summary of a prepared mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Prepared {
    /// Git ID of the commit; empty for a plain folder.
    pub(super) commit: String,
    /// Number of files and directories.
    pub(super) nodes: u64,
    /// Bytes of content.
    pub(super) bytes: u64,
    /// Notices about content that is omitted or shown with restrictions.
    pub(super) notices: Vec<String>,
    /// Whether the name of the repository is confidential. Absent from older daemons.
    #[serde(default)]
    pub(super) encrypted: bool,
}

/// An error message.
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

/// A listener that rejects connections from users other than its owner and root. The
/// socket is in a private directory already; this check holds even if the directory
/// becomes accessible.
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

/// Whether the peer runs as this process's user, or root.
pub(super) fn is_owner(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred().map(|cred| cred.uid());
    let ok = peer.as_ref().is_ok_and(|&uid| uid == own || uid == 0);
    if !ok {
        tracing::warn!("turned away a peer with uid {peer:?}");
    }
    ok
}

/// Serves `control.sock` until `stop` is notified.
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

/// Polled frequently to check that the daemon answers: must not block.
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

async fn clear(State(shared): State<Shared>, Json(scope): Json<ClearScope>) -> Response {
    let cache = shared.mounts.cache().clone();
    match tokio::task::spawn_blocking(move || cache.clear(scope)).await {
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
