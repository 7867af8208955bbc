//! Start of a server, and its routes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, put};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connection::{FaultyListener, Peer};
use super::errors::ApiError;
use super::faults::Faults;
use super::link::SimulatedLink;
use super::state::{DevnetConfig, Server, Shared};
use super::upload_auth::UploadAuth;
use super::{admin, concat, epochs, issuer, quilts, reading, storing, traffic, upload_auth};
use walrus_client::{LocalDir, StoreError};

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
    let control_routes = admin::routes().merge(epochs::routes());
    let routes = network(&server)
        .layer(middleware::from_fn_with_state(
            server.clone(),
            traffic::transmit,
        ))
        .merge(control_routes.layer(middleware::from_fn(admin::restrict)))
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
