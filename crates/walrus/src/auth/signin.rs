//! Stored sign-ins: one per network.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::secret::exposed;
use super::strongbox::{ChestError, Kept, Stored, Strongbox, fit};
use super::{AuthError, Grant, Origin, Secret};
use crate::clock::unix_seconds;
use walgit_durable::FileLock;

/// Service name of the entries in the keyring.
const SERVICE: &str = "walgit-fs sign-in";
/// Capacity for a record, in bytes: a large RSA key takes 3,300 bytes, and each token of
/// an issuer may take as much.
const LARGEST: usize = 128 << 10;
/// Longest wait for another process to renew a sign-in.
const OTHERS: Duration = Duration::from_secs(30);

/// Credentials for the publishers of a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignIn {
    /// Origins that may receive it; for tokens of an issuer, the publishers that may see
    /// them.
    pub origins: Vec<Origin>,
    /// Creation time in seconds since 1970.
    pub since: u64,
    /// The secret.
    pub held: Held,
}

/// The secret of a sign-in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Held {
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

impl Held {
    /// Name of the method in the config file.
    pub fn method(&self) -> &'static str {
        match self {
            Held::ApiKey { .. } => "api_key",
            Held::Jwt { .. } => "jwt",
            Held::Oauth(_) => "oauth",
        }
    }
}

impl SignIn {
    /// Creates a sign-in with the present time.
    pub fn new(origins: Vec<Origin>, held: Held) -> Self {
        SignIn {
            origins,
            since: unix_seconds(),
            held,
        }
    }
}

/// Sign-ins of the user.
#[derive(Clone, Debug)]
pub struct SignIns(Strongbox);

impl SignIns {
    /// Opens the sign-ins stored in directory `dir` or in the keyring; `dir` need not
    /// exist yet.
    pub fn new(dir: &Path) -> Self {
        SignIns(Strongbox::new(dir, SERVICE))
    }

    /// Locks the sign-in to a network against changes and renewal by other processes,
    /// until the lock is dropped.
    ///
    /// # Errors
    /// If another process holds the lock for more than half a minute, or locking fails.
    pub fn lock(&self, network: &str) -> Result<FileLock, AuthError> {
        fit(network)?;
        self.0.make_dir()?;
        let path = self.0.dir().join(format!("{network}.lock"));
        FileLock::exclusive_within(&path, OTHERS).map_err(|source| AuthError::Io {
            what: "the lock of a sign-in",
            source,
        })
    }

    /// Returns the sign-in to a network, and its storage.
    ///
    /// # Errors
    /// If the sign-in exists but cannot be read.
    pub fn get(&self, network: &str) -> Result<Option<(SignIn, Kept)>, AuthError> {
        let Some(kept) = self.0.list()?.get(network).copied() else {
            return Ok(None);
        };
        let Some(bytes) = self.0.get(network)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(found) => Ok(Some((found, kept))),
            // The message of the parser could quote the secret.
            Err(_) => Err(AuthError::Chest(ChestError::Damaged {
                path: self.0.dir().join(network),
                why: "it is no sign-in; walgit-fs logout forgets it".into(),
            })),
        }
    }

    /// Stores a sign-in, replacing an earlier one, and returns its storage.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn put(&self, network: &str, sign_in: &SignIn) -> Result<Stored, AuthError> {
        // Full capacity from the start: reallocation would leave copies in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST));
        let written = serde_json::to_writer(&mut *bytes, sign_in);
        written.map_err(|error| AuthError::Io {
            what: "writing a sign-in down",
            source: error.into(),
        })?;
        Ok(self.0.put(network, &bytes)?)
    }

    /// Removes a sign-in; returns whether there was one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, network: &str) -> Result<bool, AuthError> {
        Ok(self.0.remove(network)?)
    }
}
