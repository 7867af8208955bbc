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
use super::sealed_file::{seal, unseal};
use walgit_durable::FileLock;
use walgit_format::chunk::SecretKey;

/// Index of secrets and their storage; contains no secrets.
const INDEX_FILE: &str = "keys.json";
/// Lock file, held during changes.
const LOCK_FILE: &str = ".lock";
/// Key that seals the files. No name of a secret ends like this.
const SEALING_KEY_FILE: &str = "sealing-key";
/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Longest wait for a change by another process.
const LOCK_TIMEOUT: Duration = Duration::from_secs(8);

/// Storage of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretLocation {
    /// The system keyring.
    Keyring,
    /// A sealed file of mode 0600.
    File,
}

impl fmt::Display for SecretLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SecretLocation::Keyring => "the system keyring",
            SecretLocation::File => "a sealed file only you can read",
        })
    }
}

/// Storage of a secret, and the reason if it is not in the keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSecret {
    /// Storage.
    pub location: SecretLocation,
    /// Why the keyring was not used; `None` if it was used or not tried.
    pub keyring: Option<KeyringError>,
}

/// Reason that a secret cannot be stored or read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages name the fields.
pub enum SecretStoreError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A file was modified from outside.
    #[error("{} is damaged ({why}); remove it and add your keys again", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("no key is called `{name}`; there are: {known}")]
    Unknown { name: String, known: String },
    #[error("`{0}` is not a valid name for a secret; use letters, digits and . _ - (at most 80)")]
    BadName(String),
    #[error("`{name}` is only in the system keyring: {why}; unlock or restart it and try again")]
    Keyring { name: String, why: KeyringError },
    #[error(
        "another key is called `{0}` and is not overwritten; choose another name, or add --replace"
    )]
    Taken(String),
    #[error("cannot encrypt the secret: the random number generator of the system failed")]
    NoRandomness,
}

impl SecretStoreError {
    pub(super) fn damaged(path: impl Into<PathBuf>, why: impl fmt::Display) -> Self {
        SecretStoreError::Damaged {
            path: path.into(),
            why: why.to_string(),
        }
    }

    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| SecretStoreError::Io { path, source }
    }

    fn keyring(name: &str) -> impl FnOnce(KeyringError) -> Self {
        let name = name.into();
        |why| SecretStoreError::Keyring { name, why }
    }
}

/// Named secrets.
#[derive(Clone, Debug)]
pub(super) struct SecretStore {
    dir: PathBuf,
    /// Service name of its entries in the keyring.
    service: &'static str,
}

impl SecretStore {
    /// Opens the secrets stored in directory `dir`, which need not exist yet, and under
    /// `service` in the keyring.
    pub(super) fn new(dir: &Path, service: &'static str) -> Self {
        let dir = dir.into();
        SecretStore { dir, service }
    }

    /// Directory of the store.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    /// Lists the secrets by name, with their storage.
    pub(super) fn list(&self) -> Result<BTreeMap<String, SecretLocation>, SecretStoreError> {
        let path = self.dir.join(INDEX_FILE);
        match read(&path)? {
            None => Ok(BTreeMap::new()),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| SecretStoreError::damaged(path, error)),
        }
    }

    /// Returns the secret of this name, if there is one.
    pub(super) fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SecretStoreError> {
        let names = [name.to_owned()];
        let mut found = self.get_all(&self.list()?, &names);
        found.remove(name).transpose()
    }

    /// Returns the secrets of these names that are in `list`, with a single request to
    /// the keyring.
    pub(super) fn get_all(
        &self,
        list: &BTreeMap<String, SecretLocation>,
        names: &[String],
    ) -> BTreeMap<String, Result<Zeroizing<Vec<u8>>, SecretStoreError>> {
        let stored_in = |location: SecretLocation| {
            let names = names.iter().cloned();
            names.filter(move |name| list.get(name) == Some(&location))
        };
        let mut found: BTreeMap<_, _> = stored_in(SecretLocation::File)
            .map(|name| {
                let secret = self.open(&name);
                (name, secret)
            })
            .collect();
        let in_keyring: Vec<String> = stored_in(SecretLocation::Keyring).collect();
        if !in_keyring.is_empty() {
            for (name, secret) in self.keyring().get(&in_keyring) {
                let secret = secret.map_err(SecretStoreError::keyring(&name));
                found.insert(name, secret);
            }
        }
        found
    }

    /// Returns the secret in a sealed file.
    fn open(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, SecretStoreError> {
        let path = self.file(name);
        let damaged = |why: &str| SecretStoreError::damaged(&path, why);
        let sealed = read(&path)?.ok_or_else(|| damaged("it is missing"))?;
        let key = self.sealing_key()?;
        let key = key.ok_or_else(|| damaged("its key is missing"))?;
        unseal(&key, name, &sealed).ok_or_else(|| damaged("it cannot be decrypted"))
    }

    /// Stores a secret, replacing one of the same name, and returns its storage. A
    /// secret in a file stays in a file.
    pub(super) fn put(&self, name: &str, secret: &[u8]) -> Result<StoredSecret, SecretStoreError> {
        self.lock()?.put(name, secret)
    }

    /// Removes a secret; returns whether there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool, SecretStoreError> {
        if !self.list()?.contains_key(name) {
            return Ok(false);
        }
        self.lock()?.remove(name)
    }

    fn keyring(&self) -> Keyring {
        Keyring::new(self.service)
    }

    /// Locks the store against changes by other processes.
    pub(super) fn lock(&self) -> Result<LockedStore<'_>, SecretStoreError> {
        self.make_dir()?;
        let path = self.dir.join(LOCK_FILE);
        let lock = FileLock::exclusive_within(&path, LOCK_TIMEOUT);
        Ok(LockedStore {
            store: self,
            _lock: lock.map_err(SecretStoreError::io(&path))?,
        })
    }

    fn sealing_key(&self) -> Result<Option<SecretKey>, SecretStoreError> {
        let path = self.dir.join(SEALING_KEY_FILE);
        let key = read(&path)?.map(|bytes| SecretKey::parse(&bytes));
        key.transpose()
            .map_err(|error| SecretStoreError::damaged(path, error))
    }

    fn sealing_key_or_new(&self) -> Result<SecretKey, SecretStoreError> {
        if let Some(key) = self.sealing_key()? {
            return Ok(key);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        let filled = SystemRandom::new().fill(bytes.as_mut());
        filled.map_err(|_| SecretStoreError::NoRandomness)?;
        self.write(&self.dir.join(SEALING_KEY_FILE), bytes.as_ref())?;
        Ok(SecretKey::from_bytes(*bytes))
    }

    fn set_list(&self, list: &BTreeMap<String, SecretLocation>) -> Result<(), SecretStoreError> {
        let text = serde_json::to_vec_pretty(list).unwrap_or_default();
        self.write(&self.dir.join(INDEX_FILE), &text)
    }

    pub(super) fn make_dir(&self) -> Result<(), SecretStoreError> {
        walgit_durable::create_private_dir(&self.dir).map_err(SecretStoreError::io(&self.dir))
    }

    /// Writes a file atomically, readable only by its owner.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), SecretStoreError> {
        walgit_durable::write_atomic(path, bytes).map_err(SecretStoreError::io(path))
    }
}

/// A store locked for changes.
pub(super) struct LockedStore<'a> {
    store: &'a SecretStore,
    _lock: FileLock,
}

impl LockedStore<'_> {
    /// As [`SecretStore::put`].
    pub(super) fn put(&self, name: &str, secret: &[u8]) -> Result<StoredSecret, SecretStoreError> {
        check_name(name)?;
        let store = self.store;
        let mut list = store.list()?;
        let keyring = match list.get(name) {
            Some(SecretLocation::File) => Some(None),
            location => {
                let set = store.keyring().set(name, secret, location.is_some());
                set.err().map(Some)
            }
        };
        // If the keyring may or may not have stored it, it is stored in a file as well.
        let stored = match keyring {
            None => StoredSecret {
                location: SecretLocation::Keyring,
                keyring: None,
            },
            Some(keyring) => {
                let key = store.sealing_key_or_new()?;
                let sealed = seal(&key, name, secret).ok_or(SecretStoreError::NoRandomness)?;
                store.write(&store.file(name), &sealed)?;
                StoredSecret {
                    location: SecretLocation::File,
                    keyring,
                }
            }
        };
        if list.insert(name.into(), stored.location) != Some(stored.location) {
            store.set_list(&list)?;
        }
        Ok(stored)
    }

    /// As [`SecretStore::remove`].
    pub(super) fn remove(&self, name: &str) -> Result<bool, SecretStoreError> {
        let store = self.store;
        let mut list = store.list()?;
        match list.remove(name) {
            None => return Ok(false),
            Some(SecretLocation::Keyring) => {
                let removed = store.keyring().remove(name);
                removed.map_err(SecretStoreError::keyring(name))?;
            }
            Some(SecretLocation::File) => remove(&store.file(name))?,
        }
        store.set_list(&list)?;
        // Without sealed files, the sealing key is removed as well.
        if !list
            .values()
            .any(|location| *location == SecretLocation::File)
        {
            remove(&store.dir.join(SEALING_KEY_FILE))?;
        }
        Ok(true)
    }
}

/// Checks that a name is valid as a file name.
pub(super) fn check_name(name: &str) -> Result<(), SecretStoreError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fits = !name.is_empty() && name.len() <= 80 && !name.starts_with('.');
    if fits && name.chars().all(plain) {
        return Ok(());
    }
    Err(SecretStoreError::BadName(name.into()))
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, SecretStoreError> {
    match walgit_durable::read_regular(path, MAX_FILE_BYTES) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SecretStoreError::io(path)(error)),
    }
}

fn remove(path: &Path) -> Result<(), SecretStoreError> {
    let removed = walgit_durable::remove_file(path).map(drop);
    removed.map_err(SecretStoreError::io(path))
}
