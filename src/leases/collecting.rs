//! The list of blobs that a collector is deleting.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::{LeaseError, failed};
use super::location::Leases;
use super::lock::Locked;
use super::records::InUse;
use walgit_durable::{open_regular, open_regular_with};
use walgit_format::chunk::BlobId;

const FILE_NAME: &str = "collecting";
/// How long a claim waits for a batch of deletions.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a collector waits for a previous one to end.
const COLLECTOR_EXIT_TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Makes this process the only collector until dropped, or until the process ends.
#[derive(Debug)]
pub struct Collecting {
    leases: Leases,
    file: File,
    path: PathBuf,
}

/// Blobs that cannot be claimed until this is dropped.
#[derive(Debug)]
pub struct DeletionClaims<'a>(&'a Collecting);

impl Drop for DeletionClaims<'_> {
    fn drop(&mut self) {
        // If this fails, the blobs stay listed until the process ends.
        let _ = self.0.file.set_len(0);
    }
}

impl Leases {
    fn collecting_path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    /// Begins a collection.
    ///
    /// # Errors
    /// [`LeaseError::Busy`] if another collector is running.
    pub fn collect(&self) -> Result<Collecting, LeaseError> {
        // A killed collector holds its lock until the kernel has ended it.
        let started = Instant::now();
        loop {
            match self.try_collect() {
                Err(LeaseError::Busy) if started.elapsed() < COLLECTOR_EXIT_TIMEOUT => {
                    std::thread::sleep(POLL_INTERVAL)
                }
                done => return done,
            }
        }
    }

    fn try_collect(&self) -> Result<Collecting, LeaseError> {
        let path = self.collecting_path();
        let _lock = self.lock()?;
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        let file = open_regular_with(options.mode(0o600), &path).map_err(failed(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(LeaseError::Busy),
            locked => locked.map_err(|error| failed(&path)(error.into()))?,
        }
        file.set_len(0).map_err(failed(&path))?;
        Ok(Collecting {
            leases: self.clone(),
            file,
            path,
        })
    }

    /// Returns a blob of these that a running collector is deleting, and its process ID.
    /// The caller must hold the lock.
    fn condemned(&self, blobs: &[BlobId]) -> Result<Option<(BlobId, String)>, LeaseError> {
        let path = self.collecting_path();
        let mut file = match open_regular(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed(&path))?,
        };
        let text = io::read_to_string(&mut file).map_err(failed(&path))?;
        let Some((pid, listed)) = text.split_once('\n') else {
            return Ok(None);
        };
        let listed: HashSet<&str> = listed.lines().collect();
        let mut wanted = blobs.iter();
        let Some(blob) = wanted.find(|blob| listed.contains(blob.to_string().as_str())) else {
            return Ok(None);
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Ok(Some((*blob, pid.into()))),
            // The collector was killed.
            Ok(()) => Ok(None),
            Err(error) => Err(failed(&path)(error.into())),
        }
    }

    /// Acquires the lock once none of these blobs is being deleted.
    pub(super) fn lock_to_claim(&self, blobs: &[BlobId]) -> Result<Locked, LeaseError> {
        let started = Instant::now();
        loop {
            let locked = self.lock()?;
            match self.condemned(blobs)? {
                None => return Ok(locked),
                Some((blob, pid)) if started.elapsed() > CLAIM_TIMEOUT => {
                    return Err(LeaseError::Deleting { blob, pid });
                }
                Some(_) => {}
            }
            drop(locked);
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Collecting {
    /// Lists blobs that are about to be deleted, which prevents claims on them; `None` if
    /// leases have changed since `known` was read. Blocks.
    ///
    /// # Errors
    /// When the list cannot be written; then nothing may be deleted.
    pub fn condemn(
        &self,
        known: &InUse,
        blobs: &[BlobId],
    ) -> Result<Option<DeletionClaims<'_>>, LeaseError> {
        let locked = self.leases.lock()?;
        if locked.generation()? != known.generation {
            return Ok(None);
        }
        // A removed list file would not be visible to other processes.
        if self.file.metadata().map_err(failed(&self.path))?.nlink() == 0 {
            return Err(LeaseError::Removed(self.path.clone()));
        }
        let mut text = format!("{}\n", std::process::id());
        for blob in blobs {
            text.push_str(&format!("{blob}\n"));
        }
        let write = || {
            self.file.set_len(0)?;
            self.file.write_all_at(text.as_bytes(), 0)
        };
        write().map_err(failed(&self.path))?;
        Ok(Some(DeletionClaims(self)))
    }
}
