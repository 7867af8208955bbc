//! Network profiles: where blobs are read from and written to.

mod auth;
mod policy;

pub use auth::{
    AuthMethod, DEFAULT_API_KEY_HEADER, DEFAULT_REFRESH_BEFORE_S, DEFAULT_UPLOAD_TOKEN_S,
    JwtProfile, OauthProfile,
};
pub use policy::NetPolicy;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Body limit of a publisher unless its operator chose another, in bytes.
/// Also kept by `local`, so that what is published there can be mirrored to
/// any network unchanged.
pub const DEFAULT_MAX_BODY: u64 = 10 << 20;
/// Epochs that can be paid for ahead.
pub const MAX_EPOCHS: u32 = 53;

/// A network profile: where blobs are read from and written to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Network {
    /// Its name; names of repositories are kept per network.
    pub name: String,
    /// Who keeps the blobs.
    pub place: NetworkPlace,
    /// Largest blob that can be stored, in bytes.
    pub max_body: u64,
    /// Epochs a new blob is stored for.
    pub epochs: u32,
    /// URL of a Sui full node's GraphQL, for `sui://` addresses.
    pub sui: Option<String>,
    /// How requests to it are made.
    pub policy: NetPolicy,
    /// How its publishers know us.
    #[serde(default)]
    pub auth: AuthMethod,
    /// URL of an embedded Walrus that ends epochs, extends and deletes when told.
    #[serde(default)]
    pub admin: Option<String>,
    /// How long an epoch is, in seconds, where that is known.
    #[serde(default)]
    pub epoch_s: Option<u64>,
}

impl Network {
    /// Whether nothing is paid: it is a disk of one's own.
    pub fn is_free(&self) -> bool {
        matches!(self.place, NetworkPlace::Local { .. })
    }
}

/// Who keeps the blobs of a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkPlace {
    /// A directory.
    Local {
        /// Its path.
        dir: PathBuf,
    },
    /// Gateways over HTTP.
    Http {
        /// URLs to read from, the first one preferred.
        aggregators: Vec<String>,
        /// URLs to write to.
        publishers: Vec<String>,
    },
}
