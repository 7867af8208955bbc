//! Small durable records of other modules, in a separate column family.

use serde::{Deserialize, Serialize};

use super::CacheError;
use super::database::RECORDS;
use super::disk::Disk;
use super::salvage::Salvaged;
use super::vault;
use walgit_format::chunk::{ChunkHash, SecretKey};

/// Records that remain when a cache is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// Learned orders of file opens.
    Learned,
}

/// Owner of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Locations of heads: see `repo::Loader`.
    Heads,
    /// Locations of manifests: see `repo::Loader`.
    Manifests,
    /// Chunks of a blob that is a file: see `whole`.
    Wholes,
    /// Learned orders of file opens: see `prefetch::Guide`.
    Profiles,
}

impl Space {
    pub(super) fn prefix(self) -> u8 {
        match self {
            Space::Heads => b'h',
            Space::Manifests => b'm',
            Space::Wholes => b'w',
            Space::Profiles => b'p',
        }
    }
}

/// Key and value of a record as stored.
pub(super) type RawRecord = (Box<[u8]>, Box<[u8]>);

/// Key prefix of pin records, from before pins were files.
const OLD_PINS: u8 = b'k';

impl Disk {
    /// Restores the records of a damaged database into the new one, and logs what
    /// was kept and lost.
    pub(super) fn restore(&self, salvaged: Salvaged) {
        let Salvaged {
            damage,
            backup,
            records,
        } = salvaged;
        let kept = records.and_then(|records| {
            let learned = |key: &[u8]| key.first() == Some(&Space::Profiles.prefix());
            let count = records.iter().filter(|(key, _)| learned(key)).count();
            let put = || -> Result<(), CacheError> {
                let db = self.db()?;
                let family = db.family(RECORDS)?;
                for (key, value) in records {
                    // Locations of heads can be determined again.
                    if learned(&key) || key.first() == Some(&OLD_PINS) {
                        db.put_cf(family, key, value)?;
                    }
                }
                Ok(db.flush_cf(family)?)
            };
            put().map(|()| count).map_err(|error| error.to_string())
        });
        let kept = match kept {
            Ok(count) => format!("pins and {count} learned profiles were kept"),
            Err(why) => format!("pins were kept, learned profiles could not be read ({why})"),
        };
        tracing::warn!(
            "the cache in {} was damaged ({damage}): {kept}, content is fetched again; \
             the old one is in {} and may be deleted",
            self.dir().display(),
            backup.display()
        );
    }

    /// Converts pin records of the database to pin files.
    pub(super) fn move_old_pins(&self) -> Result<(), CacheError> {
        let db = self.db()?;
        let records = db.family(RECORDS)?;
        for item in db.prefix_iterator_cf(records, [OLD_PINS]) {
            let (key, value) = item?;
            let Some((&OLD_PINS, name)) = key.split_first() else {
                break;
            };
            self.pins.import(name, &value)?;
            db.delete_cf(records, &key)?;
        }
        Ok(())
    }

    /// Returns keys and values of the learned profiles.
    pub(super) fn learned(&self) -> Result<Vec<RawRecord>, CacheError> {
        let db = self.db()?;
        let prefix = Space::Profiles.prefix();
        let mut found = Vec::new();
        for item in db.prefix_iterator_cf(db.family(RECORDS)?, [prefix]) {
            let (key, value) = item?;
            if key.first() != Some(&prefix) {
                break;
            }
            found.push((key, value));
        }
        Ok(found)
    }

    pub(super) fn record(
        &self,
        space: Space,
        key: &[u8],
        at_rest: Option<&SecretKey>,
    ) -> Option<Vec<u8>> {
        let key = record_key(space, key, at_rest);
        let db = self.db().ok()?;
        let found = (db.family(RECORDS)).and_then(|f| Ok(db.get_cf(f, &key)?));
        let value = found.unwrap_or_else(|error| {
            self.failed(&error);
            None
        })?;
        vault::unseal(&ChunkHash::of(&key), value, at_rest)
    }

    pub(super) fn set_record(
        &self,
        space: Space,
        key: &[u8],
        value: &[u8],
        at_rest: Option<&SecretKey>,
    ) {
        let Ok(db) = self.db_to_write() else {
            return;
        };
        let key = record_key(space, key, at_rest);
        let set = vault::seal(&ChunkHash::of(&key), value.to_vec(), at_rest)
            .and_then(|value| Ok(db.put_cf(db.family(RECORDS)?, &key, value)?));
        match set {
            Ok(()) => self.wrote(),
            Err(error) => self.write_failed(&error),
        }
    }

    /// Lists keys and lengths of unsealed records.
    pub(super) fn records(&self, space: Space) -> Result<Vec<(Vec<u8>, u64)>, CacheError> {
        let db = self.db()?;
        let mut found = Vec::new();
        let from = [space.prefix()];
        for item in db.prefix_iterator_cf(db.family(RECORDS)?, from) {
            let (key, value) = item?;
            match key.split_first() {
                Some((prefix, name)) if *prefix == space.prefix() => {
                    if !vault::is_sealed(&value) {
                        found.push((name.to_vec(), value.len() as u64));
                    }
                }
                _ => break,
            }
        }
        Ok(found)
    }

    pub(super) fn remove_record(&self, space: Space, key: &[u8]) -> Result<(), CacheError> {
        let key = record_key(space, key, None);
        let db = self.db()?;
        Ok(db.delete_cf(db.family(RECORDS)?, key)?)
    }
}

fn record_key(space: Space, key: &[u8], at_rest: Option<&SecretKey>) -> Vec<u8> {
    let mut whole = vec![space.prefix()];
    match at_rest {
        None => whole.extend_from_slice(key),
        // The names of read blobs are private too.
        Some(secret) => whole.extend_from_slice(&secret.name(ChunkHash::of(key).as_bytes())),
    }
    whole
}
