//! Embedded Walrus: a real HTTP server over a directory of blobs.
//!
//! It implements the network's API (aggregator and publisher; the project's tests
//! contain both descriptions): true blob IDs, the same success and error formats, the
//! same limits. Tests, benchmarks and offline users run against it. The client cannot
//! distinguish it from the network and thus contains no mock.
//!
//! A request passes the [`link`] and the [`faults`] ([`traffic`]), then the authentication of
//! uploads ([`upload_auth`]); the [`admin`] API and the on-chain functions ([`epochs`]) pass
//! neither.
//!
//! Where the descriptions and the network differ, or leave something open, this crate
//! decides and tests the behavior: the answer to a body over the limit, or to too many
//! requests, is plain text; an invalid query is a 400 in JSON; a member of a quilt is
//! always returned whole.
//!
//! An epoch ends only on an [`admin`] request, not by a clock.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod admin;
mod concat;
mod connection;
mod epochs;
mod errors;
mod faults;
mod issuer;
mod link;
mod objects;
mod params;
mod peer_uid;
mod quilts;
mod reading;
mod storing;
mod traffic;
mod upload_auth;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, put};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use connection::{FaultyListener, Peer};
use errors::ApiError;
use faults::Faults;
pub use faults::{BadFault, Fault};
use link::SimulatedLink;
pub use upload_auth::RequiredAuth;
use upload_auth::UploadAuth;
use walgit_format::chunk::BlobId;
use walrus_client::{LocalDir, StoreError};

/// Default limit of a quilt's body, in bytes (the network's default).
pub const DEFAULT_MAX_QUILT: u64 = 100 << 20;

/// Receives a line for each request.
pub type RequestLog = Arc<dyn Fn(String) + Send + Sync>;

/// Configuration of an embedded Walrus.
#[derive(Clone)]
pub struct DevnetConfig {
    /// Directory of the blobs; created if missing.
    pub dir: PathBuf,
    /// Address to listen on; port 0 selects a free one.
    pub listen: SocketAddr,
    /// Largest body of a stored blob, in bytes.
    pub max_body: u64,
    /// Largest body of a quilt request, in bytes: the whole form.
    pub max_quilt: u64,
    /// Largest blob that can be read, in bytes; `None` for no limit.
    pub max_read: Option<u64>,
    /// Blobs that can neither be stored nor read.
    pub forbidden: Vec<BlobId>,
    /// Delay added to every response.
    pub latency: Duration,
    /// Bandwidth shared by all clients, in megabits a second.
    pub bandwidth_mbit: Option<f64>,
    /// Initial faults.
    pub faults: Vec<Fault>,
    /// Seed of the faults' randomness.
    pub seed: u64,
    /// Authentication required for uploads.
    pub require: RequiredAuth,
    /// Called for every request with method, path, range, status and bytes.
    pub log: Option<RequestLog>,
}

impl Default for DevnetConfig {
    fn default() -> Self {
        DevnetConfig {
            dir: PathBuf::from("."),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            max_body: walrus_client::network::DEFAULT_MAX_BODY,
            max_quilt: DEFAULT_MAX_QUILT,
            max_read: None,
            forbidden: Vec::new(),
            latency: Duration::ZERO,
            bandwidth_mbit: None,
            faults: Vec::new(),
            seed: 0,
            require: RequiredAuth::Nothing,
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

/// Error of starting the server.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages name the fields.
pub enum DevnetError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot listen on {listen}: {source}; choose another with --listen ADDR:PORT")]
    Listen {
        listen: SocketAddr,
        source: std::io::Error,
    },
    #[error("cannot verify tokens with the key: {0}")]
    Key(#[from] walrus_client::auth::BadKey),
}

/// A running embedded Walrus server.
#[derive(Debug)]
pub struct Devnet {
    address: SocketAddr,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Devnet {
    /// Address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops the server: it accepts no new connections, and closes existing ones at
    /// once.
    pub async fn stop(self) {
        self.stop.cancel();
        self.served.abort();
        let _ = self.served.await;
    }
}

/// State shared by all handlers.
struct Server {
    store: LocalDir,
    link: Arc<SimulatedLink>,
    faults: Faults,
    upload_auth: UploadAuth,
    config: DevnetConfig,
}

type Shared = Arc<Server>;

/// Runs blocking work in a separate thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(ApiError::internal)?
}

/// Starts the server.
pub async fn serve(mut config: DevnetConfig) -> Result<Devnet, DevnetError> {
    let store = LocalDir::open(&config.dir, config.max_body)?;
    let listen = config.listen;
    let failed = |source| DevnetError::Listen { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let upload_auth = UploadAuth::new(std::mem::take(&mut config.require), &own_url(address))?;
    let server = Arc::new(Server {
        store,
        upload_auth,
        link: Arc::new(SimulatedLink::new(config.latency, config.bandwidth_mbit)),
        faults: Faults::new(config.seed, config.faults.clone()),
        config,
    });
    let own = admin::routes().merge(epochs::routes());
    let routes = network(&server)
        .layer(middleware::from_fn_with_state(
            server.clone(),
            traffic::transmit,
        ))
        .merge(own.layer(middleware::from_fn(admin::restrict)))
        .with_state(server)
        .into_make_service_with_connect_info::<Peer>();
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let served = tokio::spawn(async move {
        let serving = axum::serve(FaultyListener(listener), routes).with_graceful_shutdown(stopped);
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

/// URL for clients on this machine of a server that listens on `address`.
fn own_url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return format!("http://127.0.0.1:{}", address.port());
    }
    format!("http://{address}")
}

/// Routes of the network's API, and of the issuer if this server is one.
fn network(server: &Shared) -> Router<Shared> {
    let authenticated =
        || middleware::from_fn_with_state(server.clone(), upload_auth::authenticate);
    let issuer = match server.upload_auth.issuer() {
        Some(_) => issuer::routes(),
        None => Router::new(),
    };
    issuer
        .route("/v1/blobs", put(storing::store).layer(authenticated()))
        .route("/v1/blobs/{blob_id}", get(reading::read))
        .route(
            "/v1/blobs/{blob_id}/byte-range",
            get(reading::read_byte_range),
        )
        .route(
            "/v1/blobs/by-object-id/{object_id}",
            get(reading::read_by_object),
        )
        .route(
            "/v1alpha/blobs/concat",
            get(concat::by_query).post(concat::by_body),
        )
        .route("/v1/quilts", put(quilts::store).layer(authenticated()))
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
}

/// `GET /v1/api`: lists the supported requests.
async fn describe() -> axum::Json<serde_json::Value> {
    let answers = |verbs: &[&str]| -> serde_json::Value {
        let answer = |verb: &&str| (verb.to_string(), serde_json::json!({"responses": {}}));
        serde_json::Value::Object(verbs.iter().map(answer).collect())
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
