//! Configuration and state of a server.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::errors::ApiError;
use super::faults::{Fault, Faults};
use super::issuer::{Issuer, OauthError};
use super::link::SimulatedLink;
use super::upload_auth::{RequiredAuth, UploadAuth};
use walgit_format::chunk::BlobId;
use walrus_client::LocalDir;

/// Default limit of a quilt's body, in bytes (the network's default).
pub const DEFAULT_MAX_QUILT_BYTES: u64 = 100 << 20;

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
            max_quilt: DEFAULT_MAX_QUILT_BYTES,
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

/// State shared by all handlers.
pub(super) struct Server {
    pub(super) store: LocalDir,
    pub(super) link: Arc<SimulatedLink>,
    pub(super) faults: Faults,
    pub(super) upload_auth: UploadAuth,
    pub(super) config: DevnetConfig,
}

pub(super) type Shared = Arc<Server>;

impl Server {
    /// Returns the issuer of this server; its routes exist only if there is one.
    pub(super) fn issuer(&self) -> Result<&Issuer, OauthError> {
        let none = OauthError::new("server_error", "this server is no issuer");
        self.upload_auth.issuer().ok_or(none)
    }
}

/// Runs blocking work in a separate thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(ApiError::internal)?
}
