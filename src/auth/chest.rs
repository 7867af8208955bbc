//! Keys of encrypted repositories that the user has put away.

use std::collections::BTreeMap;
use std::path::Path;

use super::strongbox::{ChestError, Kept, Strongbox};
use crate::chunk::SecretKey;

/// What our entries in the keyring are called.
const SERVICE: &str = "walgit-fs";

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

    /// Every key there is.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn all(&self) -> Result<Vec<SecretKey>, ChestError> {
        let mut keys = Vec::new();
        for name in self.list()?.into_keys() {
            // One that another command removed meanwhile is not there.
            keys.extend(self.get(&name)?);
        }
        Ok(keys)
    }

    /// The key of this name, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be had.
    pub fn get(&self, name: &str) -> Result<Option<SecretKey>, ChestError> {
        let Some(bytes) = self.0.get(name)? else {
            return Ok(None);
        };
        let key = SecretKey::parse(&bytes).map_err(|error| ChestError::Damaged {
            path: self.0.dir().join(name),
            why: error.to_string(),
        })?;
        Ok(Some(key))
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
    pub fn keep(&self, name: &str, key: &SecretKey) -> Result<(String, Kept), ChestError> {
        let list = self.list()?;
        let later = (2u32..).map(|number| format!("{name}-{number}"));
        for name in std::iter::once(name.to_owned()).chain(later) {
            match list.get(&name) {
                None => {
                    let kept = self.add(&name, key)?;
                    return Ok((name, kept));
                }
                Some(kept) if self.get(&name)?.as_ref() == Some(key) => {
                    return Ok((name, *kept));
                }
                Some(_) => {}
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

    /// Puts a key away; where.
    ///
    /// # Errors
    /// When its name is none, or it can be put nowhere.
    pub fn add(&self, name: &str, key: &SecretKey) -> Result<Kept, ChestError> {
        self.0.put(name, key.to_hex().as_bytes())
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
