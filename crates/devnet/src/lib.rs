//! Embedded Walrus: a real HTTP server over a directory of blobs.
//!
//! It implements the network's API (aggregator and publisher; the project's tests
//! contain both descriptions): true blob IDs, the same success and error formats, the
//! same limits. Tests, benchmarks and offline users run against it. The client cannot
//! distinguish it from the network and thus contains no mock.
//!
//! - [`params`]: parameters of requests;
//! - [`reading`], [`concat`]: reads, by blob ID or by [`objects`];
//! - [`storing`]: writes, and the answers of a publisher;
//! - [`quilts`]: several files in one blob, in the network's encoding;
//! - [`errors`]: the network's error format;
//! - [`traffic`]: transmission of a request over the [`link`] (a round trip per request,
//!   one shared bandwidth), with the configured [`faults`], on a [`wire`] that can be
//!   reset;
//! - [`admin`]: changes of the faults at run time; [`epochs`]: on-chain functions:
//!   ending epochs, extending, deleting;
//! - [`demand`]: authentication of uploads, and [`issuer`], which issues the tokens.
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

use connection::{Peer, Wires};
use errors::ApiError;
use faults::Faults;
pub use faults::{BadFault, Fault};
use link::Link;
use upload_auth::Demand;
pub use upload_auth::RequiredAuth;
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
pub enum DevnetError {
    /// The directory is not usable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address is not usable.
    #[error("cannot listen on {listen}: {source}; choose another with --listen ADDR:PORT")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The configured key cannot verify tokens.
    #[error("the key that tokens are checked with: {0}")]
    RequiredAuth(#[from] walrus_client::auth::BadKey),
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
    link: Arc<Link>,
    faults: Faults,
    demand: Demand,
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
    let demand = Demand::new(std::mem::take(&mut config.require), &own_url(address))?;
    let server = Arc::new(Server {
        store,
        demand,
        link: Arc::new(Link::new(config.latency, config.bandwidth_mbit)),
        faults: Faults::new(config.seed, config.faults.clone()),
        config,
    });
    let own = admin::routes().merge(epochs::routes());
    let routes = network(&server)
        .layer(middleware::from_fn_with_state(
            server.clone(),
            traffic::on_the_way,
        ))
        .merge(own.layer(middleware::from_fn(admin::no_web_page)))
        .with_state(server)
        .into_make_service_with_connect_info::<Peer>();
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let served = tokio::spawn(async move {
        let serving = axum::serve(Wires(listener), routes).with_graceful_shutdown(stopped);
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
    match address.ip().is_unspecified() {
        true => format!("http://127.0.0.1:{}", address.port()),
        false => format!("http://{address}"),
    }
}

/// Routes of the network's API, and of the issuer if this server is one.
fn network(server: &Shared) -> Router<Shared> {
    let demanded = || middleware::from_fn_with_state(server.clone(), upload_auth::shown);
    let issuer = match server.demand.issuer() {
        Some(_) => issuer::routes(),
        None => Router::new(),
    };
    issuer
        .route("/v1/blobs", put(storing::store).layer(demanded()))
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
        .route("/v1/quilts", put(quilts::store).layer(demanded()))
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
