//! Keys of encrypted repositories that the user has put away.

use std::collections::BTreeMap;
use std::path::Path;

use super::strongbox::{ChestError, Kept, Locked, Stored, Strongbox};
use walgit_format::chunk::SecretKey;

/// What our entries in the keyring are called.
const SERVICE: &str = "walgit-fs";

/// What became of a key that was to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was there already, under the same name.
    Already(Kept),
    /// It was stored, and what became of the key that had the name.
    Stored(Stored, Option<Replaced>),
}

/// What became of a key that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It is kept under this name.
    Aside(String),
    /// It was damaged and could not be kept.
    Unreadable,
}

/// The user's keys.
#[derive(Clone, Debug)]
pub struct KeyChest(Strongbox);

impl KeyChest {
    /// The keys kept by way of directory `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        KeyChest(Strongbox::new(dir, SERVICE))
    }

    /// Names of the keys, and where each is kept.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn list(&self) -> Result<BTreeMap<String, Kept>, ChestError> {
        self.0.list()
    }

    /// Every key that can be had, and why the others cannot.
    ///
    /// # Errors
    /// When the list of keys cannot be read.
    pub fn all(&self) -> Result<(Vec<SecretKey>, Vec<ChestError>), ChestError> {
        let list = self.list()?;
        let names: Vec<String> = list.keys().cloned().collect();
        let (mut keys, mut missing) = (Vec::new(), Vec::new());
        for (name, secret) in self.0.get_all(&list, &names) {
            match secret.and_then(|bytes| self.parse(&name, &bytes)) {
                Ok(key) => keys.push(key),
                Err(error) => missing.push(error),
            }
        }
        // One that another command removed meanwhile is not missing.
        let still = self.list()?;
        missing.retain(|error| match error {
            ChestError::Keyring { name, .. } => still.contains_key(name),
            ChestError::Damaged { path, .. } => path
                .file_stem()
                .is_none_or(|name| still.contains_key(&*name.to_string_lossy())),
            _ => true,
        });
        Ok((keys, missing))
    }

    /// The key of this name, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be had.
    pub fn get(&self, name: &str) -> Result<Option<SecretKey>, ChestError> {
        let Some(bytes) = self.0.get(name)? else {
            return Ok(None);
        };
        self.parse(name, &bytes).map(Some)
    }

    fn parse(&self, name: &str, bytes: &[u8]) -> Result<SecretKey, ChestError> {
        SecretKey::parse(bytes).map_err(|error| ChestError::Damaged {
            path: self.0.dir().join(name),
            why: error.to_string(),
        })
    }

    /// The key of this name, which there must be.
    ///
    /// # Errors
    /// [`ChestError::Unknown`], or as [`KeyChest::get`].
    pub fn named(&self, name: &str) -> Result<SecretKey, ChestError> {
        match self.get(name)? {
            Some(key) => Ok(key),
            None => Err(self.unknown(name)?),
        }
    }

    /// Puts the key of a repository away under `name`, or, where that is another
    /// key's, under the first of `name-2`, `name-3`… that is free: what an older
    /// key opens must not be lost. Its name, and where it is.
    ///
    /// # Errors
    /// As [`KeyChest::add`].
    pub fn keep(&self, name: &str, key: &SecretKey) -> Result<(String, Stored), ChestError> {
        let locked = self.0.locked()?;
        self.keep_locked(&locked, name, key)
    }

    fn keep_locked(
        &self,
        locked: &Locked<'_>,
        name: &str,
        key: &SecretKey,
    ) -> Result<(String, Stored), ChestError> {
        let list = self.list()?;
        let later = (2u32..).map(|number| format!("{name}-{number}"));
        for name in std::iter::once(name.to_owned()).chain(later) {
            let Some(&kept) = list.get(&name) else {
                let stored = locked.put(&name, key.to_hex().as_bytes())?;
                return Ok((name, stored));
            };
            // One that cannot be read may be another.
            if self
                .get(&name)
                .is_ok_and(|there| there.as_ref() == Some(key))
            {
                let keyring = None;
                return Ok((name, Stored { kept, keyring }));
            }
        }
        Err(ChestError::BadName(name.into()))
    }

    fn unknown(&self, name: &str) -> Result<ChestError, ChestError> {
        let known: Vec<String> = self.list()?.into_keys().collect();
        Ok(ChestError::Unknown {
            name: name.into(),
            known: match known.is_empty() {
                true => "none".into(),
                false => known.join(", "),
            },
        })
    }

    /// Puts a key away. One of the same name that is another key is an error, or,
    /// with `replace`, moved to the first free of `NAME.replaced`,
    /// `NAME.replaced-2`…
    ///
    /// # Errors
    /// [`ChestError::Taken`]; when its name is none, or it can be put nowhere.
    pub fn add(&self, name: &str, key: &SecretKey, replace: bool) -> Result<Added, ChestError> {
        let locked = self.0.locked()?;
        let mut replaced = None;
        if let Some(&kept) = self.list()?.get(name) {
            match self.get(name) {
                Ok(Some(there)) if there == *key => return Ok(Added::Already(kept)),
                _ if !replace => return Err(ChestError::Taken(name.into())),
                Ok(Some(there)) => {
                    let aside = format!("{name}.replaced");
                    replaced = Some(Replaced::Aside(
                        self.keep_locked(&locked, &aside, &there)?.0,
                    ));
                }
                Ok(None) => {}
                Err(ChestError::Damaged { .. }) => replaced = Some(Replaced::Unreadable),
                // It may be the only copy.
                Err(error) => return Err(error),
            }
        }
        let stored = locked.put(name, key.to_hex().as_bytes())?;
        Ok(Added::Stored(stored, replaced))
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// [`ChestError::Unknown`], or when it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), ChestError> {
        match self.0.remove(name)? {
            true => Ok(()),
            false => Err(self.unknown(name)?),
        }
    }
}
