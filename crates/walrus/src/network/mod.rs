//! Network profiles: the endpoints to read from and write to.

mod auth_method;
mod net_policy;

pub use auth_method::{
    AuthMethod, DEFAULT_API_KEY_HEADER, DEFAULT_REFRESH_BEFORE_S, DEFAULT_UPLOAD_TOKEN_S,
    JwtProfile, OauthProfile,
};
pub use net_policy::NetPolicy;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Default body limit of a publisher, in bytes. Also the limit of `local`, so that blobs
/// published there can be mirrored to any network unchanged.
pub const DEFAULT_MAX_BODY: u64 = 10 << 20;
/// Most epochs that can be paid in advance.
pub const MAX_EPOCHS: u32 = 53;

/// A network profile: the endpoints to read from and write to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Network {
    /// Name of the profile; names of repositories are stored per network.
    pub name: String,
    /// Storage of the blobs.
    pub place: NetworkPlace,
    /// Largest blob that can be stored, in bytes.
    pub max_body: u64,
    /// Number of epochs that a new blob is stored for.
    pub epochs: u32,
    /// URL of a Sui full node's GraphQL, for `sui://` addresses.
    pub sui: Option<String>,
    /// Rules for requests.
    pub policy: NetPolicy,
    /// Authentication to the publishers.
    #[serde(default)]
    pub auth: AuthMethod,
    /// Admin URL of an embedded Walrus that ends epochs, extends and deletes on request.
    #[serde(default)]
    pub admin: Option<String>,
    /// Length of an epoch in seconds, if known.
    #[serde(default)]
    pub epoch_s: Option<u64>,
}

impl Network {
    /// Whether storage is free: a local disk.
    pub fn is_free(&self) -> bool {
        matches!(self.place, NetworkPlace::Local { .. })
    }
}

/// Storage of the blobs of a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkPlace {
    /// A directory.
    Local {
        /// Path of the directory.
        dir: PathBuf,
    },
    /// Gateways over HTTP.
    Http {
        /// URLs to read from, in order of preference.
        aggregators: Vec<String>,
        /// URLs to write to.
        publishers: Vec<String>,
    },
}
