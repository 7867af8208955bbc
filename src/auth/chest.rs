//! Keys that the user has put away: in the system keyring, else in files that
//! nobody else can read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyring_core::{CredentialStore, Entry};
use serde::{Deserialize, Serialize};
use zbus_secret_service_keyring_store::Store;
use zeroize::Zeroizing;

use crate::chunk::{NotAKey, SecretKey};

/// What our entries in the keyring are called.
const SERVICE: &str = "walgit-fs";
/// What is kept where; no secret in it.
const INDEX: &str = "keys.json";

/// Where a key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// In the system keyring.
    Keyring,
    /// In a file of mode 0600.
    File,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kept::Keyring => "system keyring",
            Kept::File => "file only you can read",
        })
    }
}

/// Why a key cannot be put away or taken out.
#[derive(Debug, thiserror::Error)]
pub enum ChestError {
    /// The disk refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
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
    #[error("`{0}` cannot name a key; use letters, digits and . _ - (at most 80)")]
    BadName(String),
    /// The keyring refused.
    #[error("the system keyring does not give key `{name}`: {why}; unlock it, or remove the key")]
    Keyring {
        /// The key.
        name: String,
        /// Its words.
        why: String,
    },
}

/// The user's keys.
#[derive(Clone, Debug)]
pub struct KeyChest {
    dir: PathBuf,
}

impl KeyChest {
    /// The keys kept by way of directory `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        KeyChest { dir: dir.into() }
    }

    fn index(&self) -> PathBuf {
        self.dir.join(INDEX)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    /// Names of the keys, and where each is kept.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn list(&self) -> Result<BTreeMap<String, Kept>, ChestError> {
        let path = self.index();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| ChestError::Damaged {
                path,
                why: error.to_string(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(source) => Err(ChestError::Io { path, source }),
        }
    }

    /// Every key there is.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn all(&self) -> Result<Vec<SecretKey>, ChestError> {
        let list = self.list()?;
        let keyring = list.values().any(|kept| *kept == Kept::Keyring);
        let keyring = keyring.then(keyring_store);
        let keys = list.iter().map(|(name, kept)| match (kept, &keyring) {
            (Kept::Keyring, Some(keyring)) => from_keyring(name, keyring),
            _ => {
                let path = self.file(name);
                let bytes = Zeroizing::new(std::fs::read(&path).map_err(|source| {
                    let path = path.clone();
                    ChestError::Io { path, source }
                })?);
                SecretKey::parse(&bytes).map_err(|NotAKey| ChestError::Damaged {
                    path,
                    why: NotAKey.to_string(),
                })
            }
        });
        keys.collect()
    }

    /// Puts a key away; where.
    ///
    /// # Errors
    /// When its name is none, or it can be put nowhere.
    pub fn add(&self, name: &str, key: &SecretKey) -> Result<Kept, ChestError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 80 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(ChestError::BadName(name.into()));
        }
        let mut list = self.list()?;
        self.make_dir()?;
        let in_keyring = keyring_store().and_then(|store| {
            let entry = Entry::new_in_store(&store, SERVICE, name)?;
            entry.set_password(&key.to_hex())
        });
        let kept = match in_keyring {
            Ok(()) => Kept::Keyring,
            Err(_) => {
                let text = Zeroizing::new(format!("{}\n", *key.to_hex()));
                self.write(&self.file(name), text.as_bytes())?;
                Kept::File
            }
        };
        list.insert(name.into(), kept);
        self.set_list(&list)?;
        Ok(kept)
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// [`ChestError::Unknown`], or when it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), ChestError> {
        let mut list = self.list()?;
        let Some(kept) = list.remove(name) else {
            let known: Vec<String> = list.into_keys().collect();
            return Err(ChestError::Unknown {
                name: name.into(),
                known: match known.is_empty() {
                    true => "none".into(),
                    false => known.join(", "),
                },
            });
        };
        match kept {
            Kept::Keyring => {
                let removed = keyring_store().and_then(|store| {
                    Entry::new_in_store(&store, SERVICE, name)?.delete_credential()
                });
                match removed {
                    Ok(()) | Err(keyring_core::Error::NoEntry) => {}
                    Err(error) => return Err(refused(name, &error)),
                }
            }
            Kept::File => {
                let path = self.file(name);
                match std::fs::remove_file(&path) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(ChestError::Io { path, source });
                    }
                    _ => {}
                }
            }
        }
        self.set_list(&list)
    }

    fn set_list(&self, list: &BTreeMap<String, Kept>) -> Result<(), ChestError> {
        let text = serde_json::to_vec_pretty(list).unwrap_or_default();
        self.write(&self.index(), &text)
    }

    fn make_dir(&self) -> Result<(), ChestError> {
        (std::fs::DirBuilder::new().recursive(true).mode(0o700))
            .create(&self.dir)
            .map_err(|source| ChestError::Io {
                path: self.dir.clone(),
                source,
            })
    }

    /// Writes a file that nobody else can read, whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ChestError> {
        let write = || -> std::io::Result<()> {
            let fresh = path.with_extension("new");
            let _ = std::fs::remove_file(&fresh);
            let mut file = std::fs::File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&fresh, path)
        };
        write().map_err(|source| ChestError::Io {
            path: path.into(),
            source,
        })
    }
}

/// The system keyring, where there is one.
fn keyring_store() -> keyring_core::Result<Arc<CredentialStore>> {
    let store: Arc<CredentialStore> = Store::new()?;
    Ok(store)
}

fn from_keyring(
    name: &str,
    keyring: &keyring_core::Result<Arc<CredentialStore>>,
) -> Result<SecretKey, ChestError> {
    let store = keyring.as_ref().map_err(|error| refused(name, error))?;
    let text = Entry::new_in_store(store, SERVICE, name)
        .and_then(|entry| entry.get_password())
        .map(Zeroizing::new)
        .map_err(|error| refused(name, &error))?;
    SecretKey::parse(text.as_bytes()).map_err(|error| refused(name, &error))
}

fn refused(name: &str, error: &impl fmt::Display) -> ChestError {
    ChestError::Keyring {
        name: name.into(),
        why: error.to_string(),
    }
}
