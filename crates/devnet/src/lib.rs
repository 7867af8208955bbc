//! A Walrus of one's own: a real HTTP server over a directory of blobs.
//!
//! It answers to the network's own API (aggregator and publisher, both
//! descriptions are kept in the project's tests): true blob IDs, the same
//! success and error shapes, the same limits. It is what tests, benches and
//! offline users run against, and the client cannot tell it from the network,
//! so there is no mock inside the client.
//!
//! - [`params`]: what requests may ask for;
//! - [`reading`], [`concat`]: reading, by blob ID or by [`objects`];
//! - [`storing`]: what a publisher does and answers;
//! - [`quilts`]: several files in one blob, in the network's own encoding;
//! - [`errors`]: the network's error shape;
//! - [`traffic`]: the way of a request, over the [`link`] (a round trip per
//!   request, one shared bandwidth), past the [`faults`] that were ordered, on
//!   a [`wire`] that can be reset;
//! - [`admin`]: changing the faults while it runs; [`epochs`]: what only a chain
//!   could do: ending epochs, paying for longer, deleting;
//! - [`demand`]: what uploads have to show, and [`issuer`], who gives that out.
//!
//! Where the descriptions and the network differ, or leave something open, it
//! is decided here and there is a test for it: an answer to a body over the
//! limit, and to too many requests, is plain text; a query that cannot be read
//! is a 400 in JSON; a member of a quilt is always answered whole.
//!
//! An epoch ends when an [`admin`] says so: there is no clock.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod admin;
mod concat;
mod demand;
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
mod wire;

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

use demand::Demand;
pub use demand::Require;
use errors::ApiError;
use faults::Faults;
pub use faults::{BadFault, Fault};
use link::Link;
use walgit_format::chunk::BlobId;
use walrus_client::{LocalDir, StoreError};
use wire::{Peer, Wires};

/// Largest body of a quilt, in bytes, where none is set (the network's default).
pub const DEFAULT_MAX_QUILT: u64 = 100 << 20;

/// Takes a line for each request.
pub type RequestLog = Arc<dyn Fn(String) + Send + Sync>;

/// How an embedded Walrus runs.
#[derive(Clone)]
pub struct DevnetConfig {
    /// Directory of its blobs; made if it is not there.
    pub dir: PathBuf,
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Largest body of a blob that is stored, in bytes.
    pub max_body: u64,
    /// Largest body of a quilt that is stored, in bytes: the whole form.
    pub max_quilt: u64,
    /// Largest blob that is given out, in bytes; `None` for any.
    pub max_read: Option<u64>,
    /// Blobs that are neither stored nor given out.
    pub forbidden: Vec<BlobId>,
    /// Added to every response.
    pub latency: Duration,
    /// Bandwidth that all clients share, in megabits a second.
    pub bandwidth_mbit: Option<f64>,
    /// What goes wrong, to begin with.
    pub faults: Vec<Fault>,
    /// What the chance in them is drawn from.
    pub seed: u64,
    /// What uploads have to show.
    pub require: Require,
    /// Told of every request: method, path, range, status, bytes.
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
            require: Require::Nothing,
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
    /// What it demands cannot be checked.
    #[error("the key that tokens are checked with: {0}")]
    Require(#[from] walrus_client::auth::BadKey),
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
    faults: Faults,
    demand: Demand,
    config: DevnetConfig,
}

type Shared = Arc<Server>;

/// Does what would keep other requests waiting on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(ApiError::internal)?
}

/// Starts serving.
///
/// # Errors
/// When the directory or the address cannot be used.
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

/// How a client on this machine calls a server that listens there.
fn own_url(address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("http://127.0.0.1:{}", address.port()),
        false => format!("http://{address}"),
    }
}

/// The network's own API, and the issuer's, where this server is one.
fn network(server: &Shared) -> Router<Shared> {
    let demanded = || middleware::from_fn_with_state(server.clone(), demand::shown);
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
