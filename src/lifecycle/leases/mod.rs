//! Leases: what running processes need, written down beside the data that they need.
//!
//! A collector deletes only what no name, rule or lease protects. It reads leases
//! from the disk and asks no process, so it gets the same answer whatever its
//! environment is, and whether or not the process that holds a lease still responds.
//!
//! - The [`Lease`] of a running publish lists the blobs that it is about to make or
//!   builds on.
//! - A [`MountLease`] lists the head that a mount shows, and those before of which
//!   files may be open, with the blobs that they name.
//!
//! **Alive or not.** A process holds a lock (`flock`) on its lease file for as long
//! as it lives. The kernel releases it with the process, however that ends, and a
//! process that is stopped or hangs holds it still. A lease without a lock counts for
//! the grace period of the collector; then it is removed.
//!
//! **Where.** In the directory `leases` of a directory store, so whoever could
//! delete from the store finds them. For a network over HTTP, beside the ledger:
//! without that, a collector knows of no blob that it could delete.
//!
//! **Races.** Leases are taken and changed under one lock, and each change increases
//! the *generation* that the lock file holds. A collector notes the generation of
//! what it has read. Under the lock, it compares the generation and lists the blobs
//! that it is about to delete ([`Collecting`]). Then it deletes them without the
//! lock: who wants to claim one of them waits until it is off the list. So a blob is
//! either claimed first and stays, or deleted first and uploaded again, and nobody
//! waits for the lock while a collector waits for a network.
//!
//! Leases are of one machine: what another one publishes is protected by its
//! age alone.

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

use super::Ledger;
use crate::config::Settings;
use walgit_durable::open_regular;
use walgit_format::chunk::BlobId;
use walrus_client::network::NetworkPlace;

pub use collecting::{Collecting, Condemned};
pub use mount::{HeldHead, Holder, MountLease, MountRecord};
pub use publish::{Ended, Lease};
pub use tag::{KernelMount, MountTag, StoreTags};
pub use users::{OtherUser, StoreUser};

use lock::Locked;

/// The leases of one network.
#[derive(Clone, Debug)]
pub struct Leases {
    dir: PathBuf,
    /// Where earlier versions keep the leases of publishes.
    former: Option<PathBuf>,
    /// The user's data directory, where mounts of other networks keep their leases.
    /// Blob IDs are the same in all networks, and two may lead to the same blobs: a
    /// devnet serves a directory store.
    data: Option<PathBuf>,
    /// Who publishes into a directory store.
    user: Option<StoreUser>,
}

/// Leases cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The disk failed.
    #[error("lease {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what a process of ours wrote.
    #[error(
        "lease {} is damaged ({why}), so what is in use is unknown; unmount all folders, let publishes finish, then remove the file",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file was removed while its process runs.
    #[error("lease {} was removed while it was in use; start again", .0.display())]
    Removed(PathBuf),
    /// Another collector runs.
    #[error("another walgit-fs gc is running; let it finish")]
    Busy,
    /// A collector is deleting the very blob that is to be claimed, and does not get on.
    #[error(
        "blob {blob} is being deleted by walgit-fs gc (process {pid}), which makes no progress; end that process, then try again"
    )]
    Deleting {
        /// The blob.
        blob: BlobId,
        /// The collector.
        pid: String,
    },
}

impl LeaseError {
    /// Whether this user may not write there.
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

/// What leases protect at one moment.
#[derive(Clone, Debug, Default)]
pub struct InUse {
    /// See [`Leases::generation`].
    pub generation: u64,
    /// Blobs that publishes need: of those that run, and of those that ended within
    /// the grace period without giving their lease back.
    pub claimed: HashSet<BlobId>,
    /// What mounts show: of processes that run, and of those that ended within the
    /// grace period.
    pub mounts: Vec<MountRecord>,
    /// Publishes that ended without giving their lease back.
    pub ended: Vec<Ended>,
    /// Leases of mounts whose process ended before the grace period.
    pub expired: Vec<PathBuf>,
    /// Who else publishes into a directory store.
    pub others: Vec<OtherUser>,
}

impl InUse {
    /// Whether a mount has a lease, if only of a process that has ended.
    pub fn knows(&self, mount: &str) -> bool {
        let is_it = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == mount);
        self.mounts.iter().any(|it| it.id == mount) || self.expired.iter().any(is_it)
    }
}

impl Leases {
    /// Those of the network in force.
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
                ledger: Ledger::of(settings).path().into(),
            }),
        }
    }

    /// Kept in `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        Leases {
            dir: dir.into(),
            former: None,
            data: None,
            user: None,
        }
    }

    /// Where they are kept.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory, if needed, and waits for the lock.
    fn lock(&self) -> Result<Locked, LeaseError> {
        lock::exclusive(&self.dir)
    }

    /// A number that is another one after each change of what leases protect.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn generation(&self) -> Result<u64, LeaseError> {
        lock::generation(&self.dir)
    }

    /// What is in use. Leases of processes that have ended count for `grace`
    /// seconds before `now`, and from `now` on where nobody has noticed that they
    /// ended: that is noted unless `read_only`. The leases of `mounted`, by name, are
    /// those of mounts in the kernel's table: they count even if their process has
    /// ended, as the folder can be mounted again. Blocks.
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
        // Without the lock, nobody has ever taken a lease.
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

    /// Adds what mounts of other networks show.
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

/// Files of a directory with their endings; none where there is no directory.
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

/// A lease file, and whether the process that took it lives.
struct LeaseFile {
    file: File,
    text: Vec<u8>,
    is_held: bool,
}

impl LeaseFile {
    /// Opens and reads it; `None` where it has been removed meanwhile.
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

    /// Its complete lines. What follows the last line end was never in force: its
    /// process died, or its disk was full, while it was written.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let end = self.text.iter().rposition(|&byte| byte == b'\n');
        let complete = &self.text[..end.map_or(0, |end| end + 1)];
        let lines = complete.split_inclusive(|&byte| byte == b'\n');
        lines.map(|line| &line[..line.len() - 1])
    }

    /// When it was changed last, in seconds since 1970.
    fn changed(&self, path: &Path) -> Result<u64, LeaseError> {
        let at = (self.file.metadata()).and_then(|it| it.modified());
        let since = (at.map_err(failed(path))?).duration_since(std::time::UNIX_EPOCH);
        Ok(since.map_or(0, |since| since.as_secs()))
    }
}

/// Whether less than `grace` seconds have gone by. A time in the future is recent:
/// the clock was set back.
fn is_recent(at: u64, now: u64, grace: u64) -> bool {
    now.saturating_sub(at) < grace
}
