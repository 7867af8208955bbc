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
            let Some(bytes) = self.0.get(&name)? else {
                continue;
            };
            let key = SecretKey::parse(&bytes).map_err(|error| ChestError::Damaged {
                path: self.0.dir().join(&name),
                why: error.to_string(),
            })?;
            keys.push(key);
        }
        Ok(keys)
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
        if self.0.remove(name)? {
            return Ok(());
        }
        let known: Vec<String> = self.list()?.into_keys().collect();
        Err(ChestError::Unknown {
            name: name.into(),
            known: match known.is_empty() {
                true => "none".into(),
                false => known.join(", "),
            },
        })
    }
}
