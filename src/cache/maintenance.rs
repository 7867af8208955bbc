//! Clearing and verification of the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::at_rest::{is_encrypted, is_undamaged};
use super::database;
use super::disk::Disk;
use super::error::CacheError;
use super::failure::is_refusal;
use super::records::ClearScope;
use super::schema::{PAGES, RECORDS, open_page};
use super::stats::{CacheCounters, VerifyReport};

/// Maximum time to wait until the database is no longer in use.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl Disk {
    /// Replaces the database by a new one. Deleting every entry would need space on
    /// a disk that may be full.
    pub(super) fn clear(&self, scope: ClearScope) -> Result<(), CacheError> {
        // Without its directory the database would notice only at the next write.
        if !self.dir().exists() {
            let dir = self.dir().to_owned();
            return Err(CacheError::Gone { dir });
        }
        let learned = match scope {
            ClearScope::Learned => self.learned()?,
            ClearScope::Nothing => Vec::new(),
        };
        let _reopening = self.reopening.lock();
        let lock = self.lock().clone().ok_or(CacheError::Released)?;
        self.close()?;
        let db = database::renew(self.dir(), lock)?;
        for (key, value) in learned {
            db.put_cf(db.family(RECORDS)?, key, value)?;
        }
        db.flush_wal(true)?;
        self.set(Some(Arc::new(db)));
        self.failures().last_write = None;
        self.remove_pins()
    }

    /// Closes the database once it is no longer in use; until then the disk cache is
    /// empty.
    pub(super) fn close(&self) -> Result<(), CacheError> {
        let Some(mut db) = self.take() else {
            return Ok(());
        };
        let end = Instant::now() + CLOSE_TIMEOUT;
        loop {
            db = match Arc::try_unwrap(db) {
                Ok(_closed) => return Ok(()),
                Err(shared) => shared,
            };
            if Instant::now() >= end {
                self.set(Some(db));
                let why = "the database is busy; try again";
                return Err(CacheError::Database(why.into()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn verify(
        &self,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<VerifyReport, CacheError> {
        // Without a database there is nothing to count.
        self.db()?;
        let hashes = self.policy().hashes();
        let total = hashes.len() as u64;
        let mut report = VerifyReport::default();
        for (done, hash) in hashes.into_iter().enumerate() {
            // Do not hold it longer: another process may want the database.
            let db = self.db()?;
            let value = match db.get_cf(db.family(PAGES)?, hash.as_bytes()) {
                Err(error) if is_refusal(&error) => return Err(error.into()),
                read => read.ok().flatten(),
            };
            let good = value.is_some_and(|value| {
                if is_encrypted(&value) {
                    is_undamaged(&value)
                } else {
                    open_page(&hash, value).is_some()
                }
            });
            if good {
                report.good += 1;
            } else {
                report.dropped += 1;
                self.drop_entries(&[hash]);
            }
            progress(done as u64 + 1, total);
        }
        CacheCounters::add(&self.counters.corrupt_dropped, report.dropped);
        Ok(report)
    }
}
