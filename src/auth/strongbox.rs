//! Where secrets are put away: in the system keyring, else in sealed files.
//!
//! A file is sealed (AES-256-GCM) with a key that lies beside it, in a file of
//! its own; both have mode 0600 in a directory of mode 0700. So neither a
//! backup of one file, nor a look over somebody's shoulder, nor `grep -r` finds
//! a secret; who can read everything of the user's can, and only the system
//! keyring helps against that.
//!
//! ```text
//! "walgit-fs sealed 1\n" | IV (12 bytes) | GCM tag (16) | sealed value
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyring_core::{CredentialStore, Entry};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use zbus_secret_service_keyring_store::Store;
use zeroize::Zeroizing;

use super::sealed::{seal, unseal};
use crate::chunk::SecretKey;

/// What is kept where; no secret in it.
const INDEX: &str = "keys.json";
/// The key that files are sealed with. No name of a secret ends like this.
const SEAL: &str = "sealing-key";

/// Where a secret is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// In the system keyring.
    Keyring,
    /// In a sealed file of mode 0600.
    File,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kept::Keyring => "the system keyring",
            Kept::File => "a sealed file only you can read",
        })
    }
}

/// Why a secret cannot be put away or taken out.
#[derive(Debug, thiserror::Error)]
pub enum ChestError {
    /// The disk refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of ours was changed by somebody else.
    #[error("{} is damaged ({why}); remove it and add your keys again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No such key.
    #[error("no key is called `{name}`; there are: {known}")]
    Unknown {
        /// As asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Not a name.
    #[error("`{0}` cannot name a secret; use letters, digits and . _ - (at most 80)")]
    BadName(String),
    /// The keyring refused.
    #[error("the system keyring does not give `{name}`: {why}; unlock it, or remove the entry")]
    Keyring {
        /// The secret's name.
        name: String,
        /// Its words.
        why: String,
    },
    /// Nothing can be sealed.
    #[error("the system gives no random numbers, so nothing can be sealed")]
    NoRandomness,
}

/// A place for secrets by name.
#[derive(Clone, Debug)]
pub struct Strongbox {
    dir: PathBuf,
    /// What its entries in the keyring are called.
    service: &'static str,
}

impl Strongbox {
    /// The secrets kept by way of directory `dir`, which need not exist yet,
    /// and under `service` in the keyring.
    pub fn new(dir: &Path, service: &'static str) -> Self {
        let dir = dir.into();
        Strongbox { dir, service }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    /// Names of the secrets, and where each is kept.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn list(&self) -> Result<BTreeMap<String, Kept>, ChestError> {
        let path = self.dir.join(INDEX);
        match read(&path)? {
            None => Ok(BTreeMap::new()),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| ChestError::Damaged {
                path,
                why: error.to_string(),
            }),
        }
    }

    /// A secret, if there is one of this name.
    ///
    /// # Errors
    /// When it is there and cannot be had.
    pub fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, ChestError> {
        match self.list()?.get(name) {
            None => Ok(None),
            Some(Kept::Keyring) => {
                let secret = self.entry(name).and_then(|entry| entry.get_secret());
                match secret {
                    Ok(secret) => Ok(Some(Zeroizing::new(secret))),
                    Err(error) => Err(refused(name, &error)),
                }
            }
            Some(Kept::File) => {
                let path = self.file(name);
                let damaged = |why: &str| ChestError::Damaged {
                    path: path.clone(),
                    why: why.into(),
                };
                let sealed = read(&path)?.ok_or_else(|| damaged("it is gone"))?;
                let key = self.seal()?.ok_or_else(|| damaged("its key is gone"))?;
                let plain = unseal(&key, name, &sealed);
                plain.map(Some).ok_or_else(|| damaged("it does not open"))
            }
        }
    }

    /// Puts a secret away, in place of one of the same name, which stays where
    /// it is; where.
    ///
    /// # Errors
    /// When its name is none, or it can be put nowhere.
    pub fn put(&self, name: &str, secret: &[u8]) -> Result<Kept, ChestError> {
        fit(name)?;
        self.make_dir()?;
        let _lock = self.lock()?;
        let mut list = self.list()?;
        let in_keyring = match list.get(name) {
            Some(Kept::File) => false,
            _ => (self.entry(name).and_then(|entry| entry.set_secret(secret))).is_ok(),
        };
        let kept = match in_keyring {
            true => Kept::Keyring,
            false => {
                let key = self.seal_or_new()?;
                let sealed = seal(&key, name, secret).ok_or(ChestError::NoRandomness)?;
                self.write(&self.file(name), &sealed)?;
                Kept::File
            }
        };
        if list.insert(name.into(), kept) != Some(kept) {
            self.set_list(&list)?;
        }
        Ok(kept)
    }

    /// Forgets a secret; whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, ChestError> {
        if !self.list()?.contains_key(name) {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let mut list = self.list()?;
        match list.remove(name) {
            None => return Ok(false),
            Some(Kept::Keyring) => {
                let removed = self.entry(name).and_then(|entry| entry.delete_credential());
                match removed {
                    Ok(()) | Err(keyring_core::Error::NoEntry) => {}
                    Err(error) => return Err(refused(name, &error)),
                }
            }
            Some(Kept::File) => remove(&self.file(name))?,
        }
        self.set_list(&list)?;
        // A key that seals nothing is good for nothing.
        if !list.values().any(|kept| *kept == Kept::File) {
            remove(&self.dir.join(SEAL))?;
        }
        Ok(true)
    }

    fn entry(&self, name: &str) -> keyring_core::Result<Entry> {
        let store: Arc<CredentialStore> = Store::new()?;
        Entry::new_in_store(&store, self.service, name)
    }

    /// Others that change something here wait until this is dropped.
    fn lock(&self) -> Result<File, ChestError> {
        let failed = |source| io_error(&self.dir, source);
        let dir = File::open(&self.dir).map_err(failed)?;
        flock(&dir, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        Ok(dir)
    }

    fn seal(&self) -> Result<Option<SecretKey>, ChestError> {
        let path = self.dir.join(SEAL);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        match SecretKey::parse(&bytes) {
            Ok(key) => Ok(Some(key)),
            Err(error) => Err(ChestError::Damaged {
                path,
                why: error.to_string(),
            }),
        }
    }

    fn seal_or_new(&self) -> Result<SecretKey, ChestError> {
        if let Some(key) = self.seal()? {
            return Ok(key);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        let filled = SystemRandom::new().fill(bytes.as_mut());
        filled.map_err(|_| ChestError::NoRandomness)?;
        self.write(&self.dir.join(SEAL), bytes.as_ref())?;
        Ok(SecretKey::from_bytes(*bytes))
    }

    fn set_list(&self, list: &BTreeMap<String, Kept>) -> Result<(), ChestError> {
        let text = serde_json::to_vec_pretty(list).unwrap_or_default();
        self.write(&self.dir.join(INDEX), &text)
    }

    pub(super) fn make_dir(&self) -> Result<(), ChestError> {
        (std::fs::DirBuilder::new().recursive(true).mode(0o700))
            .create(&self.dir)
            .map_err(|source| io_error(&self.dir, source))
    }

    /// Writes a file that nobody else can read, whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ChestError> {
        let write = || -> io::Result<()> {
            let fresh = path.with_extension("new");
            let _ = std::fs::remove_file(&fresh);
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&fresh, path)
        };
        write().map_err(|source| io_error(path, source))
    }
}

/// Whether a name can be that of a file of ours.
pub(super) fn fit(name: &str) -> Result<(), ChestError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fits = !name.is_empty() && name.len() <= 80 && !name.starts_with('.');
    match fits && name.chars().all(plain) {
        true => Ok(()),
        false => Err(ChestError::BadName(name.into())),
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, ChestError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error(path, source)),
    }
}

fn remove(path: &Path) -> Result<(), ChestError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error(path, source)),
        _ => Ok(()),
    }
}

fn io_error(path: &Path, source: io::Error) -> ChestError {
    let path = path.into();
    ChestError::Io { path, source }
}

fn refused(name: &str, error: &impl fmt::Display) -> ChestError {
    ChestError::Keyring {
        name: name.into(),
        why: error.to_string(),
    }
}
