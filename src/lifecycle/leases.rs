//! What a running publish needs and no head names yet.
//!
//! A publish writes the blobs it is about to make into a file of its own, its
//! *lease*, before it looks whether the store has them: what is there already is
//! not uploaded again, and must not be collected in between. Collection reads
//! the leases and deletes under a lock that claims are written under, too, so a
//! blob is either claimed first and stays, or deleted first and uploaded again.
//!
//! A lease is given back when the head that needs its blobs has a name. One whose
//! publish failed or was killed is told from a live one by the lock that a process
//! holds on its file as long as it runs. It counts for as long as the collector's
//! grace says, so that the publish can be run again and go on. After that it is
//! what tells which blobs are orphans ([`Ended`]).
//!
//! Leases are of one machine: what another one publishes is protected by its
//! age alone.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

use crate::chunk::BlobId;
use crate::config::Settings;

const ENDING: &str = "lease";

/// The leases of one network.
#[derive(Clone, Debug)]
pub struct Leases {
    dir: PathBuf,
}

/// Leases cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("leases in {}: {source}", dir.display())]
pub struct LeaseError {
    dir: PathBuf,
    source: io::Error,
}

/// The lease of a publish. Dropped, it stays where something was claimed: that
/// was begun and not finished.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    path: PathBuf,
    file: Mutex<File>,
    /// Whether something of its own was claimed.
    used: AtomicBool,
}

/// What a publish claimed that failed or was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    path: PathBuf,
    /// The blobs.
    pub blobs: Vec<BlobId>,
    /// When it claimed the last, in seconds since 1970.
    pub at: u64,
}

/// Holds off claims until it is dropped.
#[derive(Debug)]
pub struct Held {
    _lock: File,
    claimed: HashSet<BlobId>,
}

impl Held {
    /// Whether a publish that runs, or was killed a short time ago, needs a blob.
    pub fn is_claimed(&self, blob: &BlobId) -> bool {
        self.claimed.contains(blob)
    }

    /// How many blobs are claimed.
    pub fn claimed(&self) -> usize {
        self.claimed.len()
    }
}

impl Leases {
    /// Those of the network in force.
    pub fn of(settings: &Settings) -> Self {
        Leases::new(&settings.lifecycle_dir().join("leases"))
    }

    /// Kept in `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        Leases { dir: dir.into() }
    }

    fn failed(&self, source: io::Error) -> LeaseError {
        LeaseError {
            dir: self.dir.clone(),
            source,
        }
    }

    fn lock(&self) -> io::Result<File> {
        fs::create_dir_all(&self.dir)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.dir.join("lock"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// A lease for a publish that begins.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn take(&self) -> Result<Lease, LeaseError> {
        let take = || {
            let _lock = self.lock()?;
            let (file, path) = tempfile::Builder::new()
                .prefix("")
                .suffix(&format!(".{ENDING}"))
                .tempfile_in(&self.dir)?
                .keep()
                .map_err(|error| error.error)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok((file, path))
        };
        let (file, path) = take().map_err(|source| self.failed(source))?;
        Ok(Lease {
            leases: self.clone(),
            path,
            file: Mutex::new(file),
            used: AtomicBool::new(false),
        })
    }

    /// Holds off claims and tells what is claimed. Leases of publishes that have
    /// ended count for `grace` seconds before `now`.
    ///
    /// # Errors
    /// When they cannot be read: then nothing may be deleted.
    pub fn hold(&self, now: u64, grace: u64) -> Result<Held, LeaseError> {
        let read = || {
            let lock = self.lock()?;
            let mut claimed = HashSet::new();
            for (ended, lives) in self.all()? {
                if lives || now.saturating_sub(ended.at) < grace {
                    claimed.extend(ended.blobs);
                }
            }
            Ok(Held {
                _lock: lock,
                claimed,
            })
        };
        read().map_err(|source| self.failed(source))
    }

    /// What publishes claimed that have ended without giving it back.
    ///
    /// # Errors
    /// When leases cannot be read.
    pub fn ended(&self) -> Result<Vec<Ended>, LeaseError> {
        let read = || {
            let _lock = self.lock()?;
            let all = self.all()?.into_iter();
            Ok(all
                .filter_map(|(ended, lives)| (!lives).then_some(ended))
                .collect())
        };
        read().map_err(|source| self.failed(source))
    }

    /// Forgets what an ended publish claimed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget(&self, ended: &Ended) -> Result<(), LeaseError> {
        match fs::remove_file(&ended.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// Every lease, and whether its publish runs.
    fn all(&self) -> io::Result<Vec<(Ended, bool)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            let file = match File::open(&path) {
                Ok(file) => file,
                // It was given back.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let lives = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => false,
                Err(rustix::io::Errno::WOULDBLOCK) => true,
                Err(error) => return Err(error.into()),
            };
            let at = seconds(file.metadata()?.modified()?);
            let text = io::read_to_string(file)?;
            // A line that a crash cut short was never claimed.
            let blobs = text.lines().filter_map(|line| line.parse().ok()).collect();
            all.push((Ended { path, blobs, at }, lives));
        }
        Ok(all)
    }
}

fn seconds(at: std::time::SystemTime) -> u64 {
    let since = at.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Lease {
    /// Claims a blob that is about to be made: from now on it is not collected.
    ///
    /// # Errors
    /// When the disk refuses: then it is not claimed.
    pub fn claim(&self, blob: BlobId) -> Result<(), LeaseError> {
        self.used.store(true, Ordering::SeqCst);
        self.needs(blob)
    }

    /// Claims a blob that was there before: a head that is built on.
    ///
    /// # Errors
    /// As [`Lease::claim`].
    pub fn needs(&self, blob: BlobId) -> Result<(), LeaseError> {
        let claim = || {
            let _lock = self.leases.lock()?;
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(format!("{blob}\n").as_bytes())?;
            file.sync_data()
        };
        claim().map_err(|source| self.leases.failed(source))
    }

    /// Gives it back: what it named has a head by now.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(self) -> Result<(), LeaseError> {
        self.used.store(false, Ordering::SeqCst);
        fs::remove_file(&self.path).map_err(|source| self.leases.failed(source))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.used.load(Ordering::SeqCst) {
            // What it leaves behind, if that fails, names nothing.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(fill: u8) -> BlobId {
        BlobId::from_bytes([fill; 32])
    }

    #[test]
    fn what_is_claimed_stays_claimed_until_the_lease_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(&dir.path().join("leases"));
        let (one, two) = (leases.take().unwrap(), leases.take().unwrap());
        one.claim(blob(1)).unwrap();
        two.claim(blob(2)).unwrap();
        two.claim(blob(3)).unwrap();
        // One that came to nothing leaves nothing.
        let idle = leases.take().unwrap();
        idle.needs(blob(9)).unwrap();
        drop(idle);
        let now = crate::clock::unix_seconds();
        let held = leases.hold(now, 0).unwrap();
        assert_eq!(held.claimed(), 3);
        assert!(held.is_claimed(&blob(1)) && !held.is_claimed(&blob(4)));
        drop(held);
        two.finish().unwrap();
        let held = leases.hold(now, 0).unwrap();
        assert!(held.is_claimed(&blob(1)) && !held.is_claimed(&blob(2)));
    }

    #[test]
    fn the_lease_of_a_publish_that_was_killed_counts_for_the_grace_period() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path());
        let lease = leases.take().unwrap();
        lease.claim(blob(1)).unwrap();
        // As a killed process leaves it: the file without the lock.
        let path = lease.path.clone();
        assert!(leases.ended().unwrap().is_empty());
        drop(lease);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"torn").unwrap();
        let now = crate::clock::unix_seconds();
        assert!(leases.hold(now + 50, 100).unwrap().is_claimed(&blob(1)));
        assert_eq!(leases.hold(now + 150, 100).unwrap().claimed(), 0);
        // And tells what was left behind.
        let ended = leases.ended().unwrap();
        assert_eq!(ended[0].blobs, [blob(1)]);
        leases.forget(&ended[0]).unwrap();
        assert!(leases.ended().unwrap().is_empty() && !path.exists());
    }

    #[test]
    fn nothing_is_claimed_while_the_collector_deletes() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path());
        let lease = leases.take().unwrap();
        let held = leases.hold(0, 0).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                lease.claim(blob(1)).unwrap();
                tell.send(()).unwrap();
            });
            assert!(told.try_recv().is_err());
            drop(held);
            told.recv().unwrap();
        });
        let now = crate::clock::unix_seconds();
        assert!(leases.hold(now, 0).unwrap().is_claimed(&blob(1)));
    }
}
