//! A Walrus of one's own: a real HTTP server over a directory of blobs.
//!
//! It answers to the network's own API (aggregator and publisher, both
//! descriptions are kept in the project's tests): true blob IDs, the same
//! success and error shapes, the same limits. It is what tests, benches and
//! offline users run against, and the client cannot tell it from the network,
//! so there is no mock inside the client.
//!
//! - [`blobs`]: reading, and storing through `PUT /v1/blobs`;
//! - [`quilts`]: several files in one blob. The network's quilt encoding is not
//!   part of its HTTP API; here a quilt is a plain blob of its members one
//!   after the other, with their places beside it. Clients see no difference,
//!   but the blob ID of a quilt is not the one the network would give it;
//! - [`errors`]: the network's error shape;
//! - [`link`]: as slow as asked for: a round trip per request, one shared
//!   bandwidth.
//!
//! Faults on order, tokens and epochs that end come with the issues that test
//! against them.

mod blobs;
mod errors;
mod link;
mod quilts;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Method;
use axum::http::header::{CONTENT_LENGTH, RANGE};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, put};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{LocalDir, StoreError};
use errors::ApiError;
use link::Link;

/// Largest quilt, in bytes (the network's default).
const MAX_QUILT: u64 = 100 << 20;

/// Takes a line for each request.
pub type RequestLog = Arc<dyn Fn(String) + Send + Sync>;

/// How an embedded Walrus runs.
#[derive(Clone)]
pub struct DevnetConfig {
    /// Directory of its blobs; made if it is not there.
    pub dir: PathBuf,
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Largest body of a PUT, in bytes.
    pub max_body: u64,
    /// Added to every response.
    pub latency: Duration,
    /// Bandwidth that all clients share, in megabits a second.
    pub bandwidth_mbit: Option<f64>,
    /// Told of every request: method, path, range, status, bytes.
    pub log: Option<RequestLog>,
}

impl Default for DevnetConfig {
    fn default() -> Self {
        DevnetConfig {
            dir: PathBuf::from("."),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            max_body: crate::config::DEFAULT_MAX_BODY,
            latency: Duration::ZERO,
            bandwidth_mbit: None,
            log: None,
        }
    }
}

impl fmt::Debug for DevnetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevnetConfig")
            .field("dir", &self.dir)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// Its directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its address cannot be used.
    #[error("cannot listen on {listen}: {source}; choose another with --listen ADDR:PORT")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running embedded Walrus.
#[derive(Debug)]
pub struct Devnet {
    address: SocketAddr,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Devnet {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it: no new connections, and those there are end at once.
    pub async fn stop(self) {
        self.stop.cancel();
        self.served.abort();
        let _ = self.served.await;
    }
}

/// What every handler needs.
struct Server {
    store: LocalDir,
    link: Arc<Link>,
    config: DevnetConfig,
}

type Shared = Arc<Server>;

/// Starts serving.
///
/// # Errors
/// When the directory or the address cannot be used.
pub async fn serve(config: DevnetConfig) -> Result<Devnet, DevnetError> {
    let store = LocalDir::open(&config.dir, config.max_body)?;
    let listen = config.listen;
    let failed = |source| DevnetError::Listen { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let server = Arc::new(Server {
        store,
        link: Arc::new(Link::new(config.latency, config.bandwidth_mbit)),
        config,
    });
    let routes = Router::new()
        .route("/v1/blobs", put(blobs::store))
        .route("/v1/blobs/{blob_id}", get(blobs::read))
        .route(
            "/v1/blobs/{blob_id}/byte-range",
            get(blobs::read_byte_range),
        )
        .route(
            "/v1/blobs/by-object-id/{object_id}",
            get(blobs::read_by_object),
        )
        .route(
            "/v1alpha/blobs/concat",
            get(blobs::concat).post(blobs::concat_post),
        )
        .route("/v1/quilts", put(quilts::store))
        .route("/v1/quilts/{quilt_id}/patches", get(quilts::list))
        .route(
            "/v1/blobs/by-quilt-id/{quilt_id}/{identifier}",
            get(quilts::read_by_identifier),
        )
        .route(
            "/v1/blobs/by-quilt-patch-id/{patch_id}",
            get(quilts::read_by_patch),
        )
        .route("/status", get(|| async { "OK" }))
        .route("/v1/api", get(describe))
        .fallback(|| async { ApiError::no_such_path() })
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(server.clone(), on_the_way))
        .with_state(server);
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let served = tokio::spawn(async move {
        let serving = axum::serve(NoDelay(listener), routes).with_graceful_shutdown(stopped);
        if let Err(error) = serving.await {
            tracing::warn!("the embedded Walrus ended: {error}");
        }
    });
    Ok(Devnet {
        address,
        stop,
        served,
    })
}

/// Sends what it has at once: a response in two segments must not wait for an
/// acknowledgement in between.
struct NoDelay(TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let accepted = axum::serve::Listener::accept(&mut self.0).await;
        let _ = accepted.0.set_nodelay(true);
        accepted
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Delays, paces and logs every exchange.
async fn on_the_way(State(server): State<Shared>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let range = text_of(&request, &RANGE).unwrap_or_else(|| "-".into());
    let uploaded = text_of(&request, &CONTENT_LENGTH);
    let link = server.link.clone();
    let request = request.map(|body| Body::from_stream(link.carry(body.into_data_stream())));
    server.link.round_trip().await;
    let response = next.run(request).await;
    if let Some(log) = &server.config.log {
        let downloaded = response.headers().get(CONTENT_LENGTH);
        let downloaded = downloaded.and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes = match method {
            Method::PUT => uploaded,
            _ => downloaded,
        };
        let bytes = bytes.unwrap_or_else(|| "-".into());
        let status = response.status().as_u16();
        log(format!("{method} {path} {range} {status} {bytes}"));
    }
    let link = server.link.clone();
    response.map(|body| Body::from_stream(link.carry(body.into_data_stream())))
}

fn text_of(request: &Request, name: &axum::http::HeaderName) -> Option<String> {
    let value = request.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

/// `GET /v1/api`: what this server answers to.
async fn describe() -> axum::Json<serde_json::Value> {
    let answers = |verbs: &[&str]| -> serde_json::Value {
        verbs
            .iter()
            .map(|verb| (verb.to_string(), serde_json::json!({"responses": {}})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    axum::Json(serde_json::json!({
        "openapi": "3.1.0",
        "info": {
            "title": "walgit-fs embedded Walrus: aggregator and publisher",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "paths": {
            "/v1/blobs": answers(&["put"]),
            "/v1/blobs/{blob_id}": answers(&["get", "head"]),
            "/v1/blobs/{blob_id}/byte-range": answers(&["get"]),
            "/v1/blobs/by-object-id/{blob_object_id}": answers(&["get"]),
            "/v1/blobs/by-quilt-id/{quilt_id}/{identifier}": answers(&["get"]),
            "/v1/blobs/by-quilt-patch-id/{quilt_patch_id}": answers(&["get"]),
            "/v1/quilts": answers(&["put"]),
            "/v1/quilts/{quilt_id}/patches": answers(&["get"]),
            "/v1alpha/blobs/concat": answers(&["get", "post"]),
            "/status": answers(&["get"]),
        },
    }))
}
