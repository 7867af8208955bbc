//! Leases: records of the data that running processes need, stored beside that data.
//!
//! A collector deletes only blobs that no name, rule or lease protects. It reads leases
//! from disk and asks no process, so the result does not depend on its environment, or on
//! whether the holder of a lease responds.
//!
//! - The [`Lease`] of a running publish lists the blobs that it is about to create or
//!   builds on.
//! - A [`MountLease`] lists the head that a mount shows, and earlier heads that may have
//!   open files, with the blobs that they name.
//!
//! **Liveness.** A process holds a lock (`flock`) on its lease file as long as it lives.
//! The kernel releases the lock when the process ends for any reason; a stopped or hung
//! process keeps it. A lease without a lock counts for the grace period of the collector;
//! then it is removed.
//!
//! **Location.** The leases of a directory store are in its directory `leases`, so every
//! process that can delete from the store finds them. The leases of a network over HTTP
//! are beside the ledger, without which a collector does not know any blobs to delete.
//!
//! **Races.** Leases change under one lock, and each change increases the *generation* in
//! the lock file. A collector notes the generation that it has read. Under the lock, it
//! compares the generation and lists the blobs to delete ([`Collecting`]). Then it
//! deletes them without the lock: a claim on one of them waits until the blob is off the
//! list. So a blob is either claimed first and stays, or deleted first and uploaded
//! again, and no process waits for the lock while a collector waits for a network.
//!
//! Leases are local to one machine: blobs published by another machine are protected only
//! by their age.
//!
//! May depend on: `config`.

mod collecting;
mod lock;
mod mount;
mod publish;
mod tag;
mod users;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::config::Settings;
use walgit_durable::open_regular;
use walgit_format::chunk::BlobId;
use walrus_client::network::NetworkPlace;

pub use collecting::{Collecting, Condemned};
pub use mount::{HeldHead, Holder, MountLease, MountRecord};
pub use publish::{Ended, Lease};
pub use tag::{MountTag, StoreTags};
pub use users::{OtherUser, StoreUser};

use lock::Locked;

/// The leases of one network.
#[derive(Clone, Debug)]
pub struct Leases {
    dir: PathBuf,
    /// Location of publish leases in earlier versions.
    former: Option<PathBuf>,
    /// The user's data directory, with the mount leases of other networks. Blob IDs are
    /// the same in all networks, and two networks may share blobs: a devnet serves a
    /// directory store.
    data: Option<PathBuf>,
    /// The user who publishes into a directory store.
    user: Option<StoreUser>,
}

/// Leases cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A file operation failed.
    #[error("lease {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A lease file is damaged.
    #[error(
        "lease {} is damaged ({why}), so what is in use is unknown; unmount all folders, let publishes finish, then remove the file",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The file was removed while its process is running.
    #[error("lease {} was removed while it was in use; start again", .0.display())]
    Removed(PathBuf),
    /// Another collector is running.
    #[error("another walgit-fs gc is running; let it finish")]
    Busy,
    /// A collector is deleting the blob to claim and makes no progress.
    #[error(
        "blob {blob} is being deleted by walgit-fs gc (process {pid}), which makes no progress; end that process, then try again"
    )]
    Deleting {
        /// The blob.
        blob: BlobId,
        /// Process ID of the collector.
        pid: String,
    },
}

impl LeaseError {
    /// Whether the error is a lack of write permission.
    pub fn is_read_only(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        let LeaseError::Io { source, .. } = self else {
            return false;
        };
        matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem)
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> LeaseError {
    let path = path.to_owned();
    |source| LeaseError::Io { path, source }
}

/// A snapshot of everything that leases protect.
#[derive(Clone, Debug, Default)]
pub struct InUse {
    /// See [`Leases::generation`].
    pub generation: u64,
    /// Blobs that publishes need: running ones, and those that ended within the grace
    /// period without releasing their lease.
    pub claimed: HashSet<BlobId>,
    /// Heads of mounts whose process is running or ended within the grace period.
    pub mounts: Vec<MountRecord>,
    /// Publishes that ended without releasing their lease.
    pub ended: Vec<Ended>,
    /// Leases of mounts whose process ended before the grace period.
    pub expired: Vec<PathBuf>,
    /// Other users who publish into a directory store.
    pub others: Vec<OtherUser>,
}

impl InUse {
    /// Whether a mount has a lease, even if its process has ended.
    pub fn knows(&self, mount: &str) -> bool {
        let is_it = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == mount);
        self.mounts.iter().any(|it| it.id == mount) || self.expired.iter().any(is_it)
    }
}

impl Leases {
    /// The leases of the network in force.
    pub fn of(settings: &Settings) -> Self {
        let network = &settings.network.value;
        Leases {
            dir: match &network.place {
                NetworkPlace::Local { dir } => dir.join("leases"),
                NetworkPlace::Http { .. } => settings.dirs.data.join("leases").join(&network.name),
            },
            former: Some(settings.lifecycle_dir().join("leases")),
            data: Some(settings.dirs.data.clone()),
            user: network.is_free().then(|| StoreUser {
                names: settings.refs_dir(),
                ledger: settings.ledger_path(),
            }),
        }
    }

    /// Leases in `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        Leases {
            dir: dir.into(),
            former: None,
            data: None,
            user: None,
        }
    }

    /// Returns their directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates the directory if needed, and acquires the lock.
    fn lock(&self) -> Result<Locked, LeaseError> {
        lock::exclusive(&self.dir)
    }

    /// Returns a number that changes with every change of the leases.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn generation(&self) -> Result<u64, LeaseError> {
        lock::generation(&self.dir)
    }

    /// Returns everything in use. Leases of ended processes count if they ended within
    /// `grace` seconds before `now`; an end that was not noticed before counts as `now`,
    /// and is recorded unless `read_only`. The leases named in `mounted` belong to mounts
    /// in the kernel's table: they count even if their process has ended, because the
    /// folder can be mounted again. Blocks.
    ///
    /// # Errors
    /// When a lease cannot be read, or is damaged: then nothing may be deleted.
    pub fn in_use(
        &self,
        now: u64,
        grace: u64,
        read_only: bool,
        mounted: &HashSet<String>,
    ) -> Result<InUse, LeaseError> {
        let mut in_use = InUse::default();
        // Without a lock file, no lease was ever taken.
        if let Some(locked) = lock::shared(&self.dir)? {
            in_use.generation = locked.generation()?;
            for (path, ending) in files(&self.dir)? {
                let mounted = is_in(mounted, &path);
                match ending.as_str() {
                    publish::ENDING => publish::read(&path, now, grace, &mut in_use)?,
                    users::ENDING => self.read_user(&path, &mut in_use)?,
                    mount::ENDING => {
                        mount::read(&path, now, grace, read_only, mounted, &mut in_use)?;
                    }
                    _ => {}
                }
            }
        }
        self.read_other_networks(now, grace, mounted, &mut in_use)?;
        self.read_former(now, grace, &mut in_use)?;
        Ok(in_use)
    }

    /// Adds the heads of other networks' mounts.
    fn read_other_networks(
        &self,
        now: u64,
        grace: u64,
        mounted: &HashSet<String>,
        in_use: &mut InUse,
    ) -> Result<(), LeaseError> {
        let Some(data) = &self.data else {
            return Ok(());
        };
        let mut dirs = vec![data.join("local/leases")];
        dirs.extend(files(&data.join("leases"))?.into_iter().map(|it| it.0));
        let mut others = InUse::default();
        for dir in dirs.iter().filter(|dir| **dir != self.dir && dir.is_dir()) {
            for (path, ending) in files(dir)? {
                if ending == mount::ENDING {
                    let mounted = is_in(mounted, &path);
                    mount::read(&path, now, grace, true, mounted, &mut others)?;
                }
            }
        }
        in_use.mounts.append(&mut others.mounts);
        Ok(())
    }

    fn read_former(&self, now: u64, grace: u64, in_use: &mut InUse) -> Result<(), LeaseError> {
        let Some(former) = &self.former else {
            return Ok(());
        };
        for (path, ending) in files(former)? {
            if ending == publish::ENDING {
                publish::read(&path, now, grace, in_use)?;
            }
        }
        Ok(())
    }
}

/// Whether the name of a lease is among these.
fn is_in(names: &HashSet<String>, lease: &Path) -> bool {
    let name = lease.file_stem().unwrap_or_default();
    names.contains(name.to_string_lossy().as_ref())
}

/// Returns the files of a directory with their extensions; none if it does not exist.
fn files(dir: &Path) -> Result<Vec<(PathBuf, String)>, LeaseError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(dir))?.path();
        let ending = path.extension().unwrap_or_default();
        let ending = ending.to_string_lossy().into_owned();
        found.push((path, ending));
    }
    Ok(found)
}

/// A lease file, and whether its process is alive.
struct LeaseFile {
    file: File,
    text: Vec<u8>,
    is_held: bool,
}

impl LeaseFile {
    /// Opens and reads the file; `None` if it was removed meanwhile.
    fn open(path: &Path) -> Result<Option<Self>, LeaseError> {
        let read = || -> io::Result<LeaseFile> {
            let mut file = open_regular(path)?;
            let is_held = match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => false,
                Err(rustix::io::Errno::WOULDBLOCK) => true,
                Err(error) => return Err(error.into()),
            };
            let mut text = Vec::new();
            io::Read::read_to_end(&mut file, &mut text)?;
            Ok(LeaseFile {
                file,
                text,
                is_held,
            })
        };
        match read() {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(path)(error)),
        }
    }

    /// Returns the complete lines. Bytes after the last line end were never in force: the
    /// process died, or the disk was full, during the write.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let end = self.text.iter().rposition(|&byte| byte == b'\n');
        let complete = &self.text[..end.map_or(0, |end| end + 1)];
        let lines = complete.split_inclusive(|&byte| byte == b'\n');
        lines.map(|line| &line[..line.len() - 1])
    }

    /// Returns the time of the last change, in seconds since 1970.
    fn changed(&self, path: &Path) -> Result<u64, LeaseError> {
        let at = (self.file.metadata()).and_then(|it| it.modified());
        let since = (at.map_err(failed(path))?).duration_since(std::time::UNIX_EPOCH);
        Ok(since.map_or(0, |since| since.as_secs()))
    }
}

/// Whether less than `grace` seconds have passed. A time in the future counts as recent:
/// the clock was set back.
fn is_recent(at: u64, now: u64, grace: u64) -> bool {
    now.saturating_sub(at) < grace
}
