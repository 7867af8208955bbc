//! Storage of secrets: in the system keyring, or else in sealed files.
//!
//! A file is sealed (AES-256-GCM) with a key in a separate file beside it; both have
//! mode 0600 in a directory of mode 0700. A backup of one file, a glance at the screen,
//! or `grep -r` thus reveals no secret. An attacker with access to all files of the user
//! can read it; only the system keyring protects against that.
//!
//! ```text
//! "walgit-fs sealed 1\n" | IV (12 bytes) | GCM tag (16) | sealed value
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::keyring::{Keyring, KeyringError};
use super::sealed::{seal, unseal};
use walgit_durable::FileLock;
use walgit_format::chunk::SecretKey;

/// Index of secrets and their storage; contains no secrets.
const INDEX: &str = "keys.json";
/// Lock file, held during changes.
const LOCK: &str = ".lock";
/// Key that seals the files. No name of a secret ends like this.
const SEAL: &str = "sealing-key";
/// Largest file that is read, in bytes.
const MOST: u64 = 16 << 20;
/// Longest wait for a change by another process.
const OTHERS: Duration = Duration::from_secs(8);

/// Storage of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// The system keyring.
    Keyring,
    /// A sealed file of mode 0600.
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

/// Storage of a secret, and the reason if it is not in the keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Storage.
    pub kept: Kept,
    /// Why the keyring was not used; `None` if it was used or not tried.
    pub keyring: Option<KeyringError>,
}

/// Reason that a secret cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ChestError {
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A file was modified from outside.
    #[error("{} is damaged ({why}); remove it and add your keys again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Reason.
        why: String,
    },
    /// There is no such key.
    #[error("no key is called `{name}`; there are: {known}")]
    Unknown {
        /// Requested name.
        name: String,
        /// Names of existing keys.
        known: String,
    },
    /// Invalid name.
    #[error("`{0}` cannot name a secret; use letters, digits and . _ - (at most 80)")]
    BadName(String),
    /// The keyring failed.
    #[error("`{name}` is in the system keyring alone: {why}; unlock or restart it and try again")]
    Keyring {
        /// Name of the secret.
        name: String,
        /// Error of the keyring.
        why: KeyringError,
    },
    /// A different key has the name.
    #[error(
        "another key is called `{0}` and is not overwritten; choose another name, or add --replace"
    )]
    Taken(String),
    /// The system's random number generator failed.
    #[error("the system gives no random numbers, so nothing can be sealed")]
    NoRandomness,
}

/// Named secrets.
#[derive(Clone, Debug)]
pub struct Strongbox {
    dir: PathBuf,
    /// Service name of its entries in the keyring.
    service: &'static str,
}

impl Strongbox {
    /// Opens the secrets stored in directory `dir`, which need not exist yet, and under
    /// `service` in the keyring.
    pub fn new(dir: &Path, service: &'static str) -> Self {
        let dir = dir.into();
        Strongbox { dir, service }
    }

    /// Directory of the strongbox.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    /// Lists the secrets by name, with their storage.
    ///
    /// # Errors
    /// If the list cannot be read.
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

    /// Returns the secret of this name, if there is one.
    ///
    /// # Errors
    /// If the secret exists but cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, ChestError> {
        let names = [name.to_owned()];
        let mut found = self.get_all(&self.list()?, &names);
        found.remove(name).transpose()
    }

    /// Returns the secrets of these names that are in `list`, with a single request to
    /// the keyring.
    pub(super) fn get_all(
        &self,
        list: &BTreeMap<String, Kept>,
        names: &[String],
    ) -> BTreeMap<String, Result<Zeroizing<Vec<u8>>, ChestError>> {
        let kept = |where_: Kept| {
            let names = names
                .iter()
                .filter(move |name| list.get(*name) == Some(&where_));
            names.cloned()
        };
        let in_files = kept(Kept::File).map(|name| {
            let secret = self.open(&name);
            (name, secret)
        });
        let mut found: BTreeMap<_, _> = in_files.collect();
        let in_keyring: Vec<String> = kept(Kept::Keyring).collect();
        if !in_keyring.is_empty() {
            for (name, secret) in self.keyring().get(&in_keyring) {
                let secret = secret.map_err(|why| refused(&name, why));
                found.insert(name, secret);
            }
        }
        found
    }

    /// Returns the secret in a sealed file.
    fn open(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, ChestError> {
        let path = self.file(name);
        let damaged = |why: &str| ChestError::Damaged {
            path: path.clone(),
            why: why.into(),
        };
        let sealed = read(&path)?.ok_or_else(|| damaged("it is gone"))?;
        let key = self.seal()?.ok_or_else(|| damaged("its key is gone"))?;
        unseal(&key, name, &sealed).ok_or_else(|| damaged("it does not open"))
    }

    /// Stores a secret, replacing one of the same name, and returns its storage. A
    /// secret in a file stays in a file.
    ///
    /// # Errors
    /// If the name is invalid, or the secret cannot be stored.
    pub fn put(&self, name: &str, secret: &[u8]) -> Result<Stored, ChestError> {
        self.locked()?.put(name, secret)
    }

    /// Removes a secret; returns whether there was one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, ChestError> {
        if !self.list()?.contains_key(name) {
            return Ok(false);
        }
        self.locked()?.remove(name)
    }

    fn keyring(&self) -> Keyring {
        Keyring::new(self.service)
    }

    /// Locks the strongbox against changes by other processes.
    ///
    /// # Errors
    /// If another process holds the lock for too long, or the directory cannot be used.
    pub(super) fn locked(&self) -> Result<Locked<'_>, ChestError> {
        self.make_dir()?;
        let path = self.dir.join(LOCK);
        match FileLock::exclusive_within(&path, OTHERS) {
            Ok(lock) => Ok(Locked {
                strongbox: self,
                _lock: lock,
            }),
            Err(source) => Err(io_error(&path, source)),
        }
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
        walgit_durable::create_private_dir(&self.dir).map_err(|source| io_error(&self.dir, source))
    }

    /// Writes a file atomically, readable only by its owner.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ChestError> {
        walgit_durable::write_atomic(path, bytes).map_err(|source| io_error(path, source))
    }
}

/// A strongbox locked for changes.
pub(super) struct Locked<'a> {
    strongbox: &'a Strongbox,
    _lock: FileLock,
}

impl Locked<'_> {
    /// As [`Strongbox::put`].
    pub(super) fn put(&self, name: &str, secret: &[u8]) -> Result<Stored, ChestError> {
        fit(name)?;
        let strongbox = self.strongbox;
        let mut list = strongbox.list()?;
        let keyring = match list.get(name) {
            Some(Kept::File) => Some(None),
            kept => {
                let set = strongbox.keyring().set(name, secret, kept.is_some());
                set.err().map(Some)
            }
        };
        // If the keyring may or may not have stored it, it is stored in a file as well.
        let stored = match keyring {
            None => Stored {
                kept: Kept::Keyring,
                keyring: None,
            },
            Some(keyring) => {
                let key = strongbox.seal_or_new()?;
                let sealed = seal(&key, name, secret).ok_or(ChestError::NoRandomness)?;
                strongbox.write(&strongbox.file(name), &sealed)?;
                Stored {
                    kept: Kept::File,
                    keyring,
                }
            }
        };
        if list.insert(name.into(), stored.kept) != Some(stored.kept) {
            strongbox.set_list(&list)?;
        }
        Ok(stored)
    }

    /// As [`Strongbox::remove`].
    pub(super) fn remove(&self, name: &str) -> Result<bool, ChestError> {
        let strongbox = self.strongbox;
        let mut list = strongbox.list()?;
        match list.remove(name) {
            None => return Ok(false),
            Some(Kept::Keyring) => {
                let removed = strongbox.keyring().remove(name);
                removed.map_err(|why| refused(name, why))?;
            }
            Some(Kept::File) => remove(&strongbox.file(name))?,
        }
        strongbox.set_list(&list)?;
        // Without sealed files, the sealing key is removed as well.
        if !list.values().any(|kept| *kept == Kept::File) {
            remove(&strongbox.dir.join(SEAL))?;
        }
        Ok(true)
    }
}

/// Checks that a name is valid as a file name.
pub(super) fn fit(name: &str) -> Result<(), ChestError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fits = !name.is_empty() && name.len() <= 80 && !name.starts_with('.');
    match fits && name.chars().all(plain) {
        true => Ok(()),
        false => Err(ChestError::BadName(name.into())),
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, ChestError> {
    match walgit_durable::read_regular(path, MOST) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error(path, source)),
    }
}

fn remove(path: &Path) -> Result<(), ChestError> {
    walgit_durable::remove_file(path)
        .map(drop)
        .map_err(|source| io_error(path, source))
}

fn io_error(path: &Path, source: io::Error) -> ChestError {
    let path = path.into();
    ChestError::Io { path, source }
}

fn refused(name: &str, why: KeyringError) -> ChestError {
    let name = name.into();
    ChestError::Keyring { name, why }
}
