//! The control interface of the daemon: HTTP on a Unix socket.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::daemon_dir::is_owner;
use super::protocol::{
    EncodedProfile, Hello, ImportRequest, ImportedProfile, MountRequest, PreparedMount,
    ProfileTarget, Rejection, StopRequest, WarmRequest,
};
use super::state::Daemon;
use super::status::DaemonStatus;
use super::warm;
use crate::cache::{ClearScope, Pin, VerifyReport};

/// Maximum length of an import in bytes: the longest profile, as text.
const MAX_IMPORT_BYTES: usize = 40 << 20;

/// An error of a request, reported to the client as a [`Rejection`].
struct HandlerError(String);

impl<E: Display> From<E> for HandlerError {
    fn from(error: E) -> Self {
        HandlerError(error.to_string())
    }
}

impl IntoResponse for HandlerError {
    fn into_response(self) -> Response {
        let rejection = Json(Rejection { error: self.0 });
        (StatusCode::UNPROCESSABLE_ENTITY, rejection).into_response()
    }
}

type HandlerResult<T> = Result<Json<T>, HandlerError>;

/// Access of a handler to the daemon.
type Context = State<ControlState>;

#[derive(Clone)]
struct ControlState {
    daemon: Arc<Daemon>,
    stop: Arc<Notify>,
    hello: Arc<Hello>,
}

/// A listener that rejects connections from users other than its owner and root. The
/// socket is in a private directory already; this check holds even if the directory
/// becomes accessible.
struct OwnerListener(UnixListener);

impl axum::serve::Listener for OwnerListener {
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

/// Serves `control.sock` until `stop` is notified.
pub(super) async fn serve(
    listener: UnixListener,
    daemon: Arc<Daemon>,
    stop: Arc<Notify>,
    hello: Hello,
) -> std::io::Result<()> {
    let large = DefaultBodyLimit::max(MAX_IMPORT_BYTES);
    let routes = axum::Router::new()
        .route("/v1/hello", get(self::hello))
        .route("/v1/status", get(status))
        .route("/v1/mounts", get(mount_requests))
        .route("/v1/prepare", post(prepare))
        .route("/v1/cache/clear", post(clear_cache))
        .route("/v1/cache/verify", post(verify_cache))
        .route("/v1/cache/warm", post(warm_cache))
        .route("/v1/cache/pins", get(pins))
        .route("/v1/cache/unpin", post(unpin))
        .route("/v1/learned/export", post(export))
        .route("/v1/learned/import", post(import).layer(large))
        .route("/v1/stop", post(stop_daemon))
        .route("/metrics", get(metrics))
        .with_state(ControlState {
            daemon,
            stop,
            hello: Arc::new(hello),
        });
    axum::serve(OwnerListener(listener), routes).await
}

/// Polled frequently to check that the daemon answers: must not block.
async fn hello(State(shared): Context) -> Json<Hello> {
    Json(Hello::clone(&shared.hello))
}

async fn mount_requests(State(shared): Context) -> Json<Vec<MountRequest>> {
    Json(shared.daemon.mounts.map(|mount| mount.request.clone()))
}

async fn status(State(shared): Context) -> Json<DaemonStatus> {
    Json(DaemonStatus {
        settings: shared.hello.settings.clone(),
        ..shared.daemon.status()
    })
}

async fn metrics(State(shared): Context) -> String {
    shared.daemon.status().metrics()
}

async fn prepare(
    State(shared): Context,
    Json(request): Json<MountRequest>,
) -> HandlerResult<PreparedMount> {
    walgit_durable::fault_point::reach("daemon.prepare")?;
    let snapshot = shared.daemon.prepare(&request, None).await?;
    let (commit, repository) = (snapshot.commit(), snapshot.repository());
    Ok(Json(PreparedMount {
        commit: commit.id.to_string(),
        nodes: commit.nodes,
        bytes: commit.bytes,
        notices: repository.notices().to_vec(),
        encrypted: repository.is_encrypted(),
    }))
}

async fn clear_cache(State(shared): Context, Json(scope): Json<ClearScope>) -> HandlerResult<()> {
    let cache = shared.daemon.cache().clone();
    tokio::task::spawn_blocking(move || cache.clear(scope)).await??;
    Ok(Json(()))
}

async fn verify_cache(State(shared): Context) -> HandlerResult<VerifyReport> {
    let cache = shared.daemon.cache().clone();
    let verified = tokio::task::spawn_blocking(move || cache.verify(|_, _| {}));
    Ok(Json(verified.await??))
}

async fn warm_cache(
    State(shared): Context,
    Json(request): Json<WarmRequest>,
) -> Result<Response, HandlerError> {
    Ok(warm::warm(shared.daemon, request).await?.into_response())
}

async fn pins(State(shared): Context) -> HandlerResult<Vec<Pin>> {
    Ok(Json(shared.daemon.cache().pins()?))
}

async fn unpin(State(shared): Context, Json(path): Json<PathBuf>) -> HandlerResult<String> {
    Ok(Json(warm::unpin(&shared.daemon, &path)?))
}

async fn export(
    State(shared): Context,
    Json(target): Json<ProfileTarget>,
) -> HandlerResult<EncodedProfile> {
    Ok(Json(shared.daemon.export(&target).await?))
}

async fn import(
    State(shared): Context,
    Json(request): Json<ImportRequest>,
) -> HandlerResult<ImportedProfile> {
    Ok(Json(shared.daemon.import(request).await?))
}

async fn stop_daemon(
    State(shared): Context,
    Json(request): Json<StopRequest>,
) -> HandlerResult<()> {
    shared.daemon.mounts.close(request.if_idle)?;
    shared.stop.notify_one();
    Ok(Json(()))
}
