//! Names of repositories in the local store: a small file each, replaced whole.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::Address;
use crate::durable::{self, FileLock};

/// Longest name of a repository, in bytes. Percent-encoded it must still be a
/// file name of at most 255 bytes.
const MAX_LEN: usize = 80;
/// What a file name shows as it is.
const FILE_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// A name of a repository: letters, digits and `. _ - + @ /`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefName(String);

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a repository name; use letters, digits and . _ - + @ / (at most {MAX_LEN} bytes)"
)]
pub struct RefNameError(String);

impl RefName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RefName {
    type Err = RefNameError;

    fn from_str(text: &str) -> Result<Self, RefNameError> {
        // Some letters are invisible.
        let visible = |c: char| c.is_alphanumeric() && !crate::text::is_unsafe(c);
        let allowed = |c: char| visible(c) || "._-+@/".contains(c);
        let part_ok = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']);
        let ok = text.len() <= MAX_LEN && text.chars().all(allowed) && text.split('/').all(part_ok);
        match ok {
            true => Ok(RefName(text.into())),
            false => Err(RefNameError(crate::text::field(text).into_owned())),
        }
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRef {
    /// The address of the newest head, as text.
    pub address: String,
    /// When it was set, in seconds since 1970.
    pub updated: u64,
    /// What the user's keys call the key that it is encrypted with; `None` for
    /// what everybody can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A name, and what it stands for or what is wrong with its file.
pub type ListedRef = (String, Result<NamedRef, RefStoreError>);

/// Which state of the names a list is of: another one after each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// How often a name was set.
    set: u64,
    /// When the directory changed: earlier versions do not count.
    changed: Option<SystemTime>,
}

/// The file that is locked while a name is set or removed. It holds how often that was.
const LOCK: &str = ".lock";

/// The names of one network, in a directory.
#[derive(Clone, Debug)]
pub struct RefStore {
    dir: PathBuf,
}

/// Why a name could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RefStoreError {
    /// No such name.
    #[error("no repository is called `{name}`; {known}")]
    Unknown {
        /// As asked for.
        name: RefName,
        /// What there is instead.
        known: String,
    },
    /// The file is not one of ours.
    #[error("{} is damaged ({why}); publish again, or remove it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl RefStore {
    /// The names kept in `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        RefStore { dir: dir.into() }
    }

    fn file(&self, name: &RefName) -> PathBuf {
        self.dir
            .join(utf8_percent_encode(&name.0, FILE_NAME).to_string())
    }

    /// What `name` stands for, if anything.
    pub fn get(&self, name: &RefName) -> Result<Option<NamedRef>, RefStoreError> {
        let path = self.file(name);
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes)
                    .map(Some)
                    .map_err(|error| RefStoreError::Damaged {
                        path,
                        why: error.to_string(),
                    })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RefStoreError::Io { path, source }),
        }
    }

    /// The address that `name` stands for.
    ///
    /// # Errors
    /// [`RefStoreError::Unknown`], naming what there is.
    pub fn resolve(&self, name: &RefName) -> Result<Address, RefStoreError> {
        let Some(named) = self.get(name)? else {
            let names: Vec<_> = self.list()?.into_iter().map(|(n, _)| n.0).collect();
            let known = match names.is_empty() {
                true => "nothing is published here yet (walgit-fs publish PATH --name NAME)".into(),
                false => format!("there are: {}", names.join(", ")),
            };
            return Err(RefStoreError::Unknown {
                name: name.clone(),
                known,
            });
        };
        named
            .address
            .parse()
            .map_err(|error| RefStoreError::Damaged {
                path: self.file(name),
                why: format!("{error}"),
            })
    }

    /// Makes `name` stand for `address`; the old value stays until the new one
    /// is whole on disk.
    pub fn set(&self, name: &RefName, address: &Address) -> Result<(), RefStoreError> {
        self.set_private(name, address, None)
    }

    /// The same, of what is encrypted with the key that the user's keys call
    /// `key`.
    pub fn set_private(
        &self,
        name: &RefName,
        address: &Address,
        key: Option<&str>,
    ) -> Result<(), RefStoreError> {
        let _lock = self.lock()?;
        self.write(name, address, key)
    }

    /// Makes `name` stand for `address` if it stands for `before` still; whether it
    /// did. Nobody sets it in between.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn replace(
        &self,
        name: &RefName,
        before: &NamedRef,
        address: &Address,
    ) -> Result<bool, RefStoreError> {
        let _lock = self.lock()?;
        if self
            .get(name)?
            .is_none_or(|now| now.address != before.address)
        {
            return Ok(false);
        }
        self.write(name, address, before.key.as_deref())?;
        Ok(true)
    }

    /// Keeps others from setting and removing names, until it is dropped.
    fn lock(&self) -> Result<FileLock, RefStoreError> {
        let path = self.dir.join(LOCK);
        let lock = || -> std::io::Result<FileLock> {
            durable::create_private_dir(&self.dir)?;
            let lock = FileLock::exclusive(&path)?;
            let set = times_set(lock.as_file())?.wrapping_add(1);
            lock.as_file().write_all_at(&set.to_le_bytes(), 0)?;
            Ok(lock)
        };
        lock().map_err(|source| RefStoreError::Io {
            path: path.clone(),
            source,
        })
    }

    fn write(
        &self,
        name: &RefName,
        address: &Address,
        key: Option<&str>,
    ) -> Result<(), RefStoreError> {
        let path = self.file(name);
        let named = NamedRef {
            address: address.to_string(),
            updated: crate::clock::unix_seconds(),
            key: key.map(Into::into),
        };
        let json = serde_json::to_vec_pretty(&named).map_err(std::io::Error::from);
        json.and_then(|json| durable::write_atomic(&path, &json))
            .map_err(|source| RefStoreError::Io { path, source })
    }

    /// Forgets `name`; whether it was there. The blobs stay.
    pub fn remove(&self, name: &RefName) -> Result<bool, RefStoreError> {
        let path = self.file(name);
        if !path.exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        durable::remove_file(&path).map_err(|source| RefStoreError::Io { path, source })
    }

    /// The generation, and what [`RefStore::list_all`] says of it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list_generation(&self) -> Result<(Generation, Vec<ListedRef>), RefStoreError> {
        let path = self.dir.join(LOCK);
        // So that nobody is between counting and setting.
        let _lock = match FileLock::shared(&path) {
            // No name was ever set.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            lock => Some(lock.map_err(|source| RefStoreError::Io { path, source })?),
        };
        Ok((self.generation()?, self.list_all()?))
    }

    /// The present generation.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn generation(&self) -> Result<Generation, RefStoreError> {
        let path = self.dir.join(LOCK);
        let read = || {
            let set = match File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                file => times_set(&file?)?,
            };
            let changed = match std::fs::metadata(&self.dir) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                found => Some(found?.modified()?),
            };
            Ok(Generation { set, changed })
        };
        read().map_err(|source| RefStoreError::Io {
            path: path.clone(),
            source,
        })
    }

    /// All names with what they stand for, sorted; damaged ones with what is
    /// wrong with them, for who must not pass one over. No power loss takes them
    /// back: what they do not lead to may be deleted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list_all(&self) -> Result<Vec<ListedRef>, RefStoreError> {
        let failed = |source| RefStoreError::Io {
            path: self.dir.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            // The lock, or being written.
            if file.starts_with('.') {
                continue;
            }
            let text = percent_decode_str(&file).decode_utf8_lossy().into_owned();
            let named = match text.parse::<RefName>() {
                Ok(name) => self.get(&name).transpose(),
                Err(why) => Some(Err(RefStoreError::Damaged {
                    path: path.clone(),
                    why: why.to_string(),
                })),
            };
            // Removed since it was listed.
            if let Some(named) = named {
                names.push((text, named));
            }
        }
        // A process may have been killed before it made durable what is read here.
        durable::sync_dir(&self.dir).map_err(failed)?;
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    /// All names, sorted. Damaged files are left out.
    pub fn list(&self) -> Result<Vec<(RefName, NamedRef)>, RefStoreError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(RefStoreError::Io {
                    path: self.dir.clone(),
                    source,
                });
            }
        };
        let mut names: Vec<_> = entries
            .filter_map(|entry| {
                let file = entry.ok()?.file_name();
                let text = percent_decode_str(file.to_str()?).decode_utf8().ok()?;
                let name: RefName = text.parse().ok()?;
                let named = self.get(&name).ok()??;
                Some((name, named))
            })
            .collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }
}

fn times_set(lock: &File) -> std::io::Result<u64> {
    let mut times = [0; 8];
    match lock.read_exact_at(&mut times, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(0),
        done => done.map(|()| u64::from_le_bytes(times)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::BlobId;

    #[test]
    fn a_name_stands_for_what_it_was_set_to_last() {
        let dir = tempfile::tempdir().unwrap();
        let store = RefStore::new(&dir.path().join("refs"));
        let name: RefName = "alice/ripgrep".parse().unwrap();
        assert!(store.get(&name).unwrap().is_none());
        for fill in [1, 2] {
            let address = Address::Walrus {
                blob: BlobId::from_bytes([fill; 32]),
                root: None,
            };
            store.set(&name, &address).unwrap();
            assert_eq!(store.resolve(&name).unwrap(), address);
        }
        assert_eq!(store.list().unwrap().len(), 1);
        assert!(store.remove(&name).unwrap());
        assert!(!store.remove(&name).unwrap());
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let dir = tempfile::tempdir().unwrap();
        let store = RefStore::new(dir.path());
        let address: Address = format!("walrus://{}", BlobId::from_bytes([3; 32]))
            .parse()
            .unwrap();
        store.set(&"known".parse().unwrap(), &address).unwrap();
        let error = store.resolve(&"other".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("known"), "{error}");
    }
}
