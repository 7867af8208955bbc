//! Small durable records of other modules, in a separate column family.

use serde::{Deserialize, Serialize};

use super::at_rest::{AtRest, is_encrypted};
use super::database::Database;
use super::disk::Disk;
use super::error::CacheError;
use super::salvage::Salvaged;
use super::schema::{RECORDS, RawRecord};
use walgit_format::chunk::ChunkHash;

/// Records that remain when a cache is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClearScope {
    /// Nothing.
    Nothing,
    /// Learned orders of file opens.
    Learned,
}

/// Namespace of records, one per owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordNamespace {
    /// Locations of heads: see `repo::Loader`.
    Heads,
    /// Locations of manifests: see `repo::Loader`.
    Manifests,
    /// Chunks of a blob that is a file: see `raw_file`.
    RawFiles,
    /// Learned orders of file opens: see `prefetch::PrefetchDriver`.
    Profiles,
}

impl RecordNamespace {
    pub(super) fn prefix(self) -> u8 {
        match self {
            RecordNamespace::Heads => b'h',
            RecordNamespace::Manifests => b'm',
            RecordNamespace::RawFiles => b'w',
            RecordNamespace::Profiles => b'p',
        }
    }
}

/// Key prefix of pin records, from before pins were files.
const PIN_PREFIX: u8 = b'k';

impl Disk {
    /// Restores the records of a damaged database into the new one, and logs what
    /// was kept and lost.
    pub(super) fn restore(&self, salvaged: Salvaged) {
        let Salvaged {
            damage,
            backup,
            records,
        } = salvaged;
        let restored = records.and_then(|records| {
            let learned = |key: &[u8]| key.first() == Some(&RecordNamespace::Profiles.prefix());
            let count = records.iter().filter(|(key, _)| learned(key)).count();
            let put = || -> Result<(), CacheError> {
                let db = self.db()?;
                let family = db.family(RECORDS)?;
                for (key, value) in records {
                    // Locations of heads can be determined again.
                    if learned(&key) || key.first() == Some(&PIN_PREFIX) {
                        db.put_cf(family, key, value)?;
                    }
                }
                Ok(db.flush_cf(family)?)
            };
            put().map(|()| count).map_err(|error| error.to_string())
        });
        let restored = match restored {
            Ok(count) => format!("pins and {count} learned profiles were kept"),
            Err(why) => format!("pins were kept, learned profiles could not be read ({why})"),
        };
        tracing::warn!(
            "the cache in {} was damaged ({damage}): {restored}, content is fetched again; \
             the old one is in {} and may be deleted",
            self.dir().display(),
            backup.display()
        );
    }

    /// Converts pin records of the database to pin files.
    pub(super) fn move_old_pins(&self) -> Result<(), CacheError> {
        let db = self.db()?;
        for record in with_prefix(&db, PIN_PREFIX)? {
            let (key, value) = record?;
            self.pins.import(&key[1..], &value)?;
            db.delete_cf(db.family(RECORDS)?, &key)?;
        }
        Ok(())
    }

    /// Returns keys and values of the learned profiles.
    pub(super) fn learned(&self) -> Result<Vec<RawRecord>, CacheError> {
        let db = self.db()?;
        let profiles = with_prefix(&db, RecordNamespace::Profiles.prefix())?;
        Ok(profiles.collect::<Result<_, _>>()?)
    }

    pub(super) fn record(
        &self,
        space: RecordNamespace,
        key: &[u8],
        at_rest: AtRest<'_>,
    ) -> Option<Vec<u8>> {
        let key = record_key(space, key, at_rest);
        let db = self.db().ok()?;
        let found = (db.family(RECORDS)).and_then(|f| Ok(db.get_cf(f, &key)?));
        let value = found.unwrap_or_else(|error| {
            self.failed(&error);
            None
        })?;
        at_rest.decrypt(&ChunkHash::of(&key), value)
    }

    pub(super) fn set_record(
        &self,
        space: RecordNamespace,
        key: &[u8],
        value: &[u8],
        at_rest: AtRest<'_>,
    ) {
        let Ok(db) = self.db_to_write() else {
            return;
        };
        let key = record_key(space, key, at_rest);
        let set = (at_rest.encrypt(&ChunkHash::of(&key), value.to_vec()))
            .and_then(|value| Ok(db.put_cf(db.family(RECORDS)?, &key, value)?));
        match set {
            Ok(()) => self.write_succeeded(),
            Err(error) => self.write_failed(&error),
        }
    }

    /// Lists keys and lengths of unencrypted records.
    pub(super) fn records(
        &self,
        space: RecordNamespace,
    ) -> Result<Vec<(Vec<u8>, u64)>, CacheError> {
        let db = self.db()?;
        let mut found = Vec::new();
        for record in with_prefix(&db, space.prefix())? {
            let (key, value) = record?;
            if !is_encrypted(&value) {
                found.push((key[1..].to_vec(), value.len() as u64));
            }
        }
        Ok(found)
    }

    pub(super) fn remove_record(
        &self,
        space: RecordNamespace,
        key: &[u8],
    ) -> Result<(), CacheError> {
        let key = record_key(space, key, AtRest::new(None));
        let db = self.db()?;
        Ok(db.delete_cf(db.family(RECORDS)?, key)?)
    }
}

fn record_key(space: RecordNamespace, name: &[u8], at_rest: AtRest<'_>) -> Vec<u8> {
    [&[space.prefix()], &at_rest.record_name(name)[..]].concat()
}

/// Returns the records whose keys start with `prefix`.
fn with_prefix(
    db: &Database,
    prefix: u8,
) -> Result<impl Iterator<Item = Result<RawRecord, rocksdb::Error>>, CacheError> {
    let records = db.prefix_iterator_cf(db.family(RECORDS)?, [prefix]);
    let is_in = move |record: &Result<RawRecord, _>| {
        (record.as_ref()).map_or(true, |(key, _)| key.first() == Some(&prefix))
    };
    Ok(records.take_while(is_in))
}
