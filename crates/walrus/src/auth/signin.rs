//! Stored sign-ins: one per network.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::secret::exposed;
use super::secret_store::{
    SecretLocation, SecretStore, SecretStoreError, StoredSecret, check_name,
};
use super::{AuthError, Grant, Origin, Secret};
use crate::clock::unix_seconds;
use walgit_durable::FileLock;

/// Service name of the entries in the keyring.
const SERVICE: &str = "walgit-fs sign-in";
/// Capacity for a record, in bytes: a large RSA key takes 3,300 bytes, and each token of
/// an issuer may take as much.
const RECORD_CAPACITY: usize = 128 << 10;
/// Longest wait for another process to renew a sign-in.
const RENEWAL_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Credentials for the publishers of a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignIn {
    /// Origins that may receive it; for tokens of an issuer, the publishers that may see
    /// them.
    pub origins: Vec<Origin>,
    /// Creation time in seconds since 1970.
    #[serde(rename = "since")]
    pub created_at: u64,
    /// The secret.
    #[serde(rename = "held")]
    pub secret: SignInSecret,
}

/// The secret of a sign-in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum SignInSecret {
    /// Sent unchanged with each upload.
    ApiKey {
        /// The key.
        #[serde(with = "exposed")]
        key: Secret,
    },
    /// Never sent: signs a token for every upload.
    Jwt {
        /// The publisher's key, in the format of its file.
        #[serde(with = "exposed")]
        key: Secret,
    },
    /// Tokens of an issuer.
    Oauth(Grant),
}

impl SignInSecret {
    /// Name of the method in the config file.
    pub fn method(&self) -> &'static str {
        match self {
            SignInSecret::ApiKey { .. } => "api_key",
            SignInSecret::Jwt { .. } => "jwt",
            SignInSecret::Oauth(_) => "oauth",
        }
    }
}

impl SignIn {
    /// Creates a sign-in with the present time.
    pub fn new(origins: Vec<Origin>, secret: SignInSecret) -> Self {
        SignIn {
            origins,
            created_at: unix_seconds(),
            secret,
        }
    }
}

/// Sign-ins of the user.
#[derive(Clone, Debug)]
pub struct SignIns(SecretStore);

impl SignIns {
    /// Opens the sign-ins stored in directory `dir` or in the keyring; `dir` need not
    /// exist yet.
    pub fn new(dir: &Path) -> Self {
        SignIns(SecretStore::new(dir, SERVICE))
    }

    /// Locks the sign-in to a network against changes and renewal by other processes,
    /// until the lock is dropped.
    pub fn lock(&self, network: &str) -> Result<FileLock, AuthError> {
        check_name(network)?;
        self.0.make_dir()?;
        let path = self.0.dir().join(format!("{network}.lock"));
        FileLock::exclusive_within(&path, RENEWAL_LOCK_TIMEOUT).map_err(|source| AuthError::Io {
            what: "cannot lock the sign-in",
            source,
        })
    }

    /// Returns the sign-in to a network, and its storage.
    pub fn get(&self, network: &str) -> Result<Option<(SignIn, SecretLocation)>, AuthError> {
        let Some(location) = self.0.list()?.get(network).copied() else {
            return Ok(None);
        };
        let Some(bytes) = self.0.get(network)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(found) => Ok(Some((found, location))),
            // The message of the parser could quote the secret.
            Err(_) => Err(AuthError::SecretStore(SecretStoreError::damaged(
                self.0.dir().join(network),
                "it is no sign-in; walgit-fs logout removes it",
            ))),
        }
    }

    /// Stores a sign-in, replacing an earlier one, and returns its storage.
    pub fn put(&self, network: &str, sign_in: &SignIn) -> Result<StoredSecret, AuthError> {
        // Full capacity from the start: reallocation would leave copies in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(RECORD_CAPACITY));
        let written = serde_json::to_writer(&mut *bytes, sign_in);
        written.map_err(|error| AuthError::Io {
            what: "cannot encode the sign-in",
            source: error.into(),
        })?;
        Ok(self.0.put(network, &bytes)?)
    }

    /// Removes a sign-in; returns whether there was one.
    pub fn remove(&self, network: &str) -> Result<bool, AuthError> {
        Ok(self.0.remove(network)?)
    }
}
