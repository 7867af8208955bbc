//! Leases of running publishes, for blobs that no head names yet.
//!
//! A publish records the blobs that it is about to create in its lease before it checks
//! whether the store has them: existing blobs are not uploaded again, and must not be
//! collected in between. It releases the lease when the head that needs the blobs has a
//! name. The lease of a failed or killed publish counts for the grace period, so that the
//! publish can be repeated and resumed. After that it identifies orphaned blobs
//! ([`AbandonedLease`]).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

use super::error::{LeaseError, failed};
use super::lease_file::{LeaseFile, is_recent};
use super::location::Leases;
use super::records::{AbandonedLease, InUse};
use walgit_format::chunk::BlobId;

pub(super) const EXTENSION: &str = "lease";

/// The lease of a publish. If dropped with claims, the file stays: the publish did not
/// finish.
#[derive(Debug)]
pub struct PublishLease {
    leases: Leases,
    path: PathBuf,
    file: Mutex<File>,
    /// Whether a blob of this publish was claimed.
    used: AtomicBool,
}

impl Leases {
    /// Takes a lease for a new publish. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn take(&self) -> Result<PublishLease, LeaseError> {
        let locked = self.lock()?;
        self.register(&locked)?;
        let make = || {
            let (file, path) = tempfile::Builder::new()
                .prefix("")
                .suffix(&format!(".{EXTENSION}"))
                .tempfile_in(&self.dir)?
                .keep()
                .map_err(|error| error.error)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok((file, path))
        };
        let (file, path) = make().map_err(failed(&self.dir))?;
        Ok(PublishLease {
            leases: self.clone(),
            path,
            file: Mutex::new(file),
            used: AtomicBool::new(false),
        })
    }

    /// Forgets the claims of an ended publish.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget(&self, ended: &AbandonedLease) -> Result<(), LeaseError> {
        remove(&ended.path)
    }

    /// Removes the lease of a mount whose process has ended ([`InUse::expired`]).
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove_expired(&self, path: &Path) -> Result<(), LeaseError> {
        remove(path)
    }
}

fn remove(path: &Path) -> Result<(), LeaseError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed(path)),
    }
}

impl PublishLease {
    /// Claims a blob that is about to be created, which protects it from collection.
    /// Waits while a collector is deleting it. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written: then the blob is not claimed.
    pub fn claim(&self, blob: BlobId) -> Result<(), LeaseError> {
        self.used.store(true, Ordering::SeqCst);
        self.needs(blob)
    }

    /// Claims an existing blob: a head that the publish builds on.
    ///
    /// # Errors
    /// As [`PublishLease::claim`].
    pub fn needs(&self, blob: BlobId) -> Result<(), LeaseError> {
        let locked = self.leases.lock_to_claim(&[blob])?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.metadata().map_err(failed(&self.path))?.nlink() == 0 {
            return Err(LeaseError::Removed(self.path.clone()));
        }
        (file.write_all(format!("{blob}\n").as_bytes()))
            .and_then(|()| file.sync_data())
            .map_err(failed(&self.path))?;
        locked.advance()
    }

    /// Releases the lease: a head now names its blobs. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> Result<(), LeaseError> {
        self.used.store(false, Ordering::SeqCst);
        // A collector that has read the lease reads the names again.
        let locked = self.leases.lock()?;
        locked.advance()?;
        fs::remove_file(&self.path).map_err(failed(&self.path))
    }
}

impl Drop for PublishLease {
    fn drop(&mut self) {
        if !self.used.load(Ordering::SeqCst) {
            // If this fails, the remaining file names no blobs.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Reads a publish lease.
pub(super) fn read(
    path: &Path,
    now: u64,
    grace: u64,
    in_use: &mut InUse,
) -> Result<(), LeaseError> {
    let Some(file) = LeaseFile::open(path)? else {
        return Ok(());
    };
    let at = file.changed(path)?;
    let mut blobs = Vec::new();
    for line in file.lines() {
        let blob = std::str::from_utf8(line)
            .ok()
            .and_then(|it| it.parse().ok());
        blobs.push(blob.ok_or_else(|| LeaseError::Damaged {
            path: path.into(),
            why: format!("line {} is not a blob ID", blobs.len() + 1),
        })?);
    }
    if file.is_held || is_recent(at, now, grace) {
        in_use.claimed.extend(blobs.iter().copied());
    }
    if !file.is_held {
        let path = path.into();
        in_use.ended.push(AbandonedLease { path, blobs, at });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs::OpenOptions;

    use super::*;

    fn blob(fill: u8) -> BlobId {
        BlobId::from_bytes([fill; 32])
    }

    fn in_use(leases: &Leases, now: u64, grace: u64) -> InUse {
        leases
            .in_use(now, grace, false, &Default::default())
            .unwrap()
    }

    #[test]
    fn claims_last_until_the_lease_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(&dir.path().join("leases"));
        let (one, two) = (leases.take().unwrap(), leases.take().unwrap());
        one.claim(blob(1)).unwrap();
        two.claim(blob(2)).unwrap();
        two.claim(blob(3)).unwrap();
        // A lease without claims leaves no file.
        let idle = leases.take().unwrap();
        idle.needs(blob(9)).unwrap();
        drop(idle);
        let now = walrus_client::clock::unix_seconds();
        let found = in_use(&leases, now, 0);
        assert_eq!(found.claimed, HashSet::from([1, 2, 3].map(blob)));
        two.finish().unwrap();
        let later = in_use(&leases, now, 0);
        assert_eq!(later.claimed, HashSet::from([blob(1)]));
        assert_ne!(later.generation, found.generation);
    }

    #[test]
    fn the_lease_of_a_killed_publish_counts_for_the_grace_period() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path());
        let lease = leases.take().unwrap();
        lease.claim(blob(1)).unwrap();
        let now = walrus_client::clock::unix_seconds();
        assert!(in_use(&leases, now, 0).ended.is_empty());
        // As after a kill of the process: the file without the lock.
        let path = lease.path.clone();
        drop(lease);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"torn").unwrap();
        assert!(in_use(&leases, now + 50, 100).claimed.contains(&blob(1)));
        // Also if the clock was set back.
        assert!(in_use(&leases, now - 500, 100).claimed.contains(&blob(1)));
        let later = in_use(&leases, now + 150, 100);
        assert!(later.claimed.is_empty());
        // And reports the leftover blobs.
        assert_eq!(later.ended[0].blobs, [blob(1)]);
        leases.forget(&later.ended[0]).unwrap();
        assert!(in_use(&leases, now, 0).ended.is_empty() && !path.exists());
        fs::write(&path, "nonsense\n").unwrap();
        let damaged = leases
            .in_use(now, 0, false, &Default::default())
            .unwrap_err()
            .to_string();
        assert!(damaged.contains(path.to_str().unwrap()), "{damaged}");
    }

    #[test]
    fn claims_and_deletions_of_a_blob_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path());
        let lease = leases.take().unwrap();
        let collecting = leases.collect().unwrap();
        assert!(matches!(leases.collect(), Err(LeaseError::Busy)));
        let before = in_use(&leases, 0, 0);
        lease.claim(blob(1)).unwrap();
        let late = |known: &InUse| collecting.condemn(known, &[blob(1)]).unwrap().is_none();
        assert!(late(&before), "it was claimed in between");
        let known = in_use(&leases, 0, 0);
        let condemned = collecting.condemn(&known, &[blob(2)]).unwrap().unwrap();
        // Unlisted blobs can be claimed immediately.
        lease.claim(blob(3)).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                lease.claim(blob(2)).unwrap();
                sender.send(()).unwrap();
            });
            assert!(!in_use(&leases, 0, 0).claimed.contains(&blob(2)));
            drop(condemned);
            receiver.recv().unwrap();
        });
        assert!(in_use(&leases, 0, 0).claimed.contains(&blob(2)));
        // A list left by a killed collector blocks no claims.
        let condemned = collecting.condemn(&in_use(&leases, 0, 0), &[blob(4)]);
        std::mem::forget(condemned.unwrap().unwrap());
        drop(collecting);
        lease.claim(blob(4)).unwrap();
    }

    #[test]
    fn a_removed_lease_cannot_claim() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path());
        let lease = leases.take().unwrap();
        fs::remove_file(&lease.path).unwrap();
        let refused = lease.claim(blob(1));
        assert!(
            matches!(refused, Err(LeaseError::Removed(_))),
            "{refused:?}"
        );
    }
}
