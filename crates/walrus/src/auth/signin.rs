//! Sign-ins that are kept: one a network.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::secret::exposed;
use super::strongbox::{ChestError, Kept, Stored, Strongbox, fit};
use super::{AuthError, Grant, Origin, Secret};
use crate::clock::unix_seconds;
use walgit_durable::FileLock;

/// What our entries in the keyring are called.
const SERVICE: &str = "walgit-fs sign-in";
/// Room for a record: a large RSA key takes 3,300 bytes, an issuer's tokens may
/// take as much each.
const LARGEST: usize = 128 << 10;
/// How long another process may take to renew a sign-in.
const OTHERS: Duration = Duration::from_secs(30);

/// What proves to a network's publishers who we are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignIn {
    /// Whom it may be sent to; for tokens of an issuer, who may be shown them.
    pub origins: Vec<Origin>,
    /// When it was made, in seconds since 1970.
    pub since: u64,
    /// The secret.
    pub held: Held,
}

/// The secret of a sign-in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Held {
    /// Sent as it is.
    ApiKey {
        /// The key.
        #[serde(with = "exposed")]
        key: Secret,
    },
    /// Never sent: it signs a token for every upload.
    Jwt {
        /// The publisher's key, as its file has it.
        #[serde(with = "exposed")]
        key: Secret,
    },
    /// What an issuer gave us.
    Oauth(Grant),
}

impl Held {
    /// The method, as in the config file.
    pub fn method(&self) -> &'static str {
        match self {
            Held::ApiKey { .. } => "api_key",
            Held::Jwt { .. } => "jwt",
            Held::Oauth(_) => "oauth",
        }
    }
}

impl SignIn {
    /// A sign-in that is made now.
    pub fn new(origins: Vec<Origin>, held: Held) -> Self {
        SignIn {
            origins,
            since: unix_seconds(),
            held,
        }
    }
}

/// The user's sign-ins.
#[derive(Clone, Debug)]
pub struct SignIns(Strongbox);

impl SignIns {
    /// Those kept by way of directory `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        SignIns(Strongbox::new(dir, SERVICE))
    }

    /// Waits until no other process changes or renews the sign-in to a network,
    /// and keeps others from it until the lock is dropped.
    ///
    /// # Errors
    /// When one takes longer than half a minute, or there can be no lock.
    pub fn lock(&self, network: &str) -> Result<FileLock, AuthError> {
        fit(network)?;
        self.0.make_dir()?;
        let path = self.0.dir().join(format!("{network}.lock"));
        FileLock::exclusive_within(&path, OTHERS).map_err(|source| AuthError::Io {
            what: "the lock of a sign-in",
            source,
        })
    }

    /// The sign-in to a network, and where it is kept.
    ///
    /// # Errors
    /// When there is one and it cannot be had.
    pub fn get(&self, network: &str) -> Result<Option<(SignIn, Kept)>, AuthError> {
        let Some(kept) = self.0.list()?.get(network).copied() else {
            return Ok(None);
        };
        let Some(bytes) = self.0.get(network)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(found) => Ok(Some((found, kept))),
            // The parser's own words could quote the secret.
            Err(_) => Err(AuthError::Chest(ChestError::Damaged {
                path: self.0.dir().join(network),
                why: "it is no sign-in; walgit-fs logout forgets it".into(),
            })),
        }
    }

    /// Keeps a sign-in, in place of an earlier one; where.
    ///
    /// # Errors
    /// When it can be put nowhere.
    pub fn put(&self, network: &str, sign_in: &SignIn) -> Result<Stored, AuthError> {
        // As large as it may become: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST));
        let written = serde_json::to_writer(&mut *bytes, sign_in);
        written.map_err(|error| AuthError::Io {
            what: "writing a sign-in down",
            source: error.into(),
        })?;
        Ok(self.0.put(network, &bytes)?)
    }

    /// Forgets a sign-in; whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, network: &str) -> Result<bool, AuthError> {
        Ok(self.0.remove(network)?)
    }
}
