//! Stored keys of encrypted repositories.

use std::collections::BTreeMap;
use std::path::Path;

use super::secret_store::{
    LockedStore, SecretLocation, SecretStore, SecretStoreError, StoredSecret,
};
use walgit_format::chunk::SecretKey;

/// Service name of the entries in the keyring.
const SERVICE: &str = "walgit-fs";

/// Result of adding a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAddition {
    /// The same key was already stored under this name.
    Already(SecretLocation),
    /// The key was stored; a key that had the name before was replaced.
    Stored(StoredSecret, Option<ReplacedKey>),
}

/// Result of replacing a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplacedKey {
    /// The old key was stored under this name.
    RenamedTo(String),
    /// The old key was damaged and is lost.
    Unreadable,
}

/// Keys of the user.
#[derive(Clone, Debug)]
pub struct KeyStore(SecretStore);

impl KeyStore {
    /// Opens the keys stored in directory `dir` or in the keyring; `dir` need not exist
    /// yet.
    pub fn new(dir: &Path) -> Self {
        KeyStore(SecretStore::new(dir, SERVICE))
    }

    /// Lists the keys by name, with their storage.
    pub fn list(&self) -> Result<BTreeMap<String, SecretLocation>, SecretStoreError> {
        self.0.list()
    }

    /// Returns all readable keys, and an error for each of the others.
    pub fn all(&self) -> Result<(Vec<SecretKey>, Vec<SecretStoreError>), SecretStoreError> {
        let list = self.list()?;
        let names: Vec<String> = list.keys().cloned().collect();
        let (mut keys, mut missing) = (Vec::new(), Vec::new());
        for (name, secret) in self.0.get_all(&list, &names) {
            match secret.and_then(|bytes| self.parse(&name, &bytes)) {
                Ok(key) => keys.push(key),
                Err(error) => missing.push(error),
            }
        }
        // A key that another command removed concurrently is not missing.
        let still = self.list()?;
        missing.retain(|error| match error {
            SecretStoreError::Keyring { name, .. } => still.contains_key(name),
            SecretStoreError::Damaged { path, .. } => path
                .file_stem()
                .is_none_or(|name| still.contains_key(&*name.to_string_lossy())),
            _ => true,
        });
        Ok((keys, missing))
    }

    /// Returns the key of this name, if there is one.
    pub fn get(&self, name: &str) -> Result<Option<SecretKey>, SecretStoreError> {
        let Some(bytes) = self.0.get(name)? else {
            return Ok(None);
        };
        self.parse(name, &bytes).map(Some)
    }

    fn parse(&self, name: &str, bytes: &[u8]) -> Result<SecretKey, SecretStoreError> {
        SecretKey::parse(bytes)
            .map_err(|error| SecretStoreError::damaged(self.0.dir().join(name), error))
    }

    /// Returns the key of this name.
    ///
    /// # Errors
    /// [`SecretStoreError::Unknown`] if there is none, or as [`KeyStore::get`].
    pub fn named(&self, name: &str) -> Result<SecretKey, SecretStoreError> {
        self.get(name)?.map_or_else(|| Err(self.unknown(name)?), Ok)
    }

    /// Stores the key of a repository under `name`, or, if another key has this name,
    /// under the first free of `name-2`, `name-3`…, so that no older key is lost.
    /// Returns its name and storage.
    ///
    /// # Errors
    /// As [`KeyStore::add`].
    pub fn add_renamed(
        &self,
        name: &str,
        key: &SecretKey,
    ) -> Result<(String, StoredSecret), SecretStoreError> {
        let locked = self.0.lock()?;
        self.add_renamed_locked(&locked, name, key)
    }

    fn add_renamed_locked(
        &self,
        locked: &LockedStore<'_>,
        name: &str,
        key: &SecretKey,
    ) -> Result<(String, StoredSecret), SecretStoreError> {
        let list = self.list()?;
        let later = (2u32..).map(|number| format!("{name}-{number}"));
        for name in std::iter::once(name.to_owned()).chain(later) {
            let Some(&location) = list.get(&name) else {
                let stored = locked.put(&name, key.to_hex().as_bytes())?;
                return Ok((name, stored));
            };
            // An unreadable key may be a different one.
            if self
                .get(&name)
                .is_ok_and(|there| there.as_ref() == Some(key))
            {
                let keyring = None;
                return Ok((name, StoredSecret { location, keyring }));
            }
        }
        Err(SecretStoreError::BadName(name.into()))
    }

    fn unknown(&self, name: &str) -> Result<SecretStoreError, SecretStoreError> {
        let known: Vec<String> = self.list()?.into_keys().collect();
        Ok(SecretStoreError::Unknown {
            name: name.into(),
            known: if known.is_empty() {
                "none".into()
            } else {
                known.join(", ")
            },
        })
    }

    /// Stores a key. If a different key has the name, this is an error, or, with
    /// `replace`, that key is moved to the first free of `NAME.replaced`,
    /// `NAME.replaced-2`…
    ///
    /// # Errors
    /// [`SecretStoreError::Taken`]; or if the name is invalid or the key cannot be stored.
    pub fn add(
        &self,
        name: &str,
        key: &SecretKey,
        replace: bool,
    ) -> Result<KeyAddition, SecretStoreError> {
        let locked = self.0.lock()?;
        let mut replaced = None;
        if let Some(&location) = self.list()?.get(name) {
            match self.get(name) {
                Ok(Some(there)) if there == *key => return Ok(KeyAddition::Already(location)),
                _ if !replace => return Err(SecretStoreError::Taken(name.into())),
                Ok(Some(there)) => {
                    let aside = format!("{name}.replaced");
                    replaced = Some(ReplacedKey::RenamedTo(
                        self.add_renamed_locked(&locked, &aside, &there)?.0,
                    ));
                }
                Ok(None) => {}
                Err(SecretStoreError::Damaged { .. }) => replaced = Some(ReplacedKey::Unreadable),
                // The stored key may be the only copy.
                Err(error) => return Err(error),
            }
        }
        let stored = locked.put(name, key.to_hex().as_bytes())?;
        Ok(KeyAddition::Stored(stored, replaced))
    }

    /// Removes a key.
    ///
    /// # Errors
    /// [`SecretStoreError::Unknown`], or if the key cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), SecretStoreError> {
        if self.0.remove(name)? {
            return Ok(());
        }
        Err(self.unknown(name)?)
    }
}
