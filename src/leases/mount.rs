//! Leases of mounts.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::{LeaseError, failed};
use super::lease_file::{LeaseFile, is_recent};
use super::location::Leases;
use super::records::{HeldHead, InUse, LeaseHolder, MountRecord};
use walgit_durable::open_regular_with;
use walgit_format::Address;
use walgit_format::chunk::BlobId;

pub(super) const EXTENSION: &str = "mount";
/// Extension of a file that is about to replace a lease.
const REPLACEMENT: &str = "mount-new";

/// When a collector noticed that the process had ended: the last line.
#[derive(Debug, Serialize, Deserialize)]
struct EndNotice {
    ended: u64,
}

/// The lease of a mount that this process serves; removed on drop.
#[derive(Debug)]
pub struct MountLease {
    leases: Leases,
    path: PathBuf,
    written: Mutex<LeaseContent>,
}

/// The content of the file.
#[derive(Debug)]
struct LeaseContent {
    file: File,
    holder: LeaseHolder,
    heads: Vec<HeldHead>,
}

/// Adds a head; of two lines about the same head, the later one counts.
fn merge(heads: &mut Vec<HeldHead>, head: HeldHead) {
    match heads.iter_mut().find(|it| it.address == head.address) {
        Some(known) => known.blobs = head.blobs,
        None => heads.push(head),
    }
}

impl Leases {
    fn mount_path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.{EXTENSION}"))
    }

    /// Creates a lease for a mount that is about to be served. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written, or `id` already has a lease.
    pub fn mount(&self, id: &str, holder: &LeaseHolder) -> Result<MountLease, LeaseError> {
        let path = self.mount_path(id);
        if !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let why = io::Error::other("the ID of a mount has other characters than hex digits");
            return Err(failed(&path)(why));
        }
        let locked = self.lock()?;
        let file = File::options()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(failed(&path))?;
        // From here on the file is removed with the lease.
        let lease = MountLease {
            leases: self.clone(),
            path: path.clone(),
            written: Mutex::new(LeaseContent {
                file,
                holder: holder.clone(),
                heads: Vec::new(),
            }),
        };
        begin(&lease.written().file, holder).map_err(failed(&path))?;
        locked.advance()?;
        Ok(lease)
    }
}

/// Locks a new lease file and writes its holder.
fn begin(file: &File, holder: &LeaseHolder) -> io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive)?;
    append(file, holder)
}

impl MountLease {
    fn written(&self) -> MutexGuard<'_, LeaseContent> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Also protects a head, until it is released or the lease is dropped. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written: then the head is not protected.
    pub fn hold(&self, address: &Address, blobs: &[BlobId]) -> Result<(), LeaseError> {
        let Address::Walrus { blob, .. } = address else {
            // On-chain data is not collected by this program.
            return Ok(());
        };
        let locked = self.leases.lock_to_claim(&[*blob])?;
        let mut written = self.written();
        self.check(&written)?;
        let head = HeldHead {
            address: address.to_string(),
            blobs: blobs.to_vec(),
        };
        append(&written.file, &head).map_err(failed(&self.path))?;
        merge(&mut written.heads, head);
        locked.advance()
    }

    /// Whether more than one head is protected.
    pub fn holds_several(&self) -> bool {
        self.written().heads.len() > 1
    }

    /// Releases all heads except those that `is_used` selects. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written: then all heads stay protected.
    pub fn release(&self, is_used: impl Fn(&BlobId) -> bool) -> Result<(), LeaseError> {
        let is_used = |head: &HeldHead| match head.address.parse::<Address>() {
            Ok(Address::Walrus { blob, .. }) => is_used(&blob),
            _ => true,
        };
        let locked = self.leases.lock()?;
        let mut written = self.written();
        self.check(&written)?;
        let heads: Vec<HeldHead> = written
            .heads
            .iter()
            .filter(|it| is_used(it))
            .cloned()
            .collect();
        if heads.len() == written.heads.len() {
            return Ok(());
        }
        // Replaces the file only when the new one is complete and locked: a process that
        // ends in between protects all heads.
        let replace = || -> io::Result<File> {
            let path = self.path.with_extension(REPLACEMENT);
            let mut options = File::options();
            let file = open_regular_with(options.create(true).append(true).mode(0o600), &path)?;
            file.set_len(0)?;
            begin(&file, &written.holder)?;
            for head in &heads {
                append(&file, head)?;
            }
            fs::rename(&path, &self.path)?;
            Ok(file)
        };
        let file = replace().map_err(failed(&self.path))?;
        (written.file, written.heads) = (file, heads);
        locked.advance()
    }

    /// Verifies that other processes see the file.
    fn check(&self, written: &LeaseContent) -> Result<(), LeaseError> {
        let found = written.file.metadata().map_err(failed(&self.path))?;
        match found.nlink() {
            0 => Err(LeaseError::Removed(self.path.clone())),
            _ => Ok(()),
        }
    }
}

impl Drop for MountLease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Appends a line, completely or not at all. It need not survive a crash of the machine,
/// because mounts do not either.
fn append(mut file: &File, line: &impl Serialize) -> io::Result<()> {
    let before = file.metadata()?.len();
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let written = file.write_all(&text);
    if written.is_err() {
        file.set_len(before)?;
    }
    written
}

/// Reads a mount lease.
pub(super) fn read(
    path: &Path,
    now: u64,
    grace: u64,
    read_only: bool,
    is_mounted: bool,
    in_use: &mut InUse,
) -> Result<(), LeaseError> {
    let Some(file) = LeaseFile::open(path)? else {
        return Ok(());
    };
    let damaged = |why: String| LeaseError::Damaged {
        path: path.into(),
        why,
    };
    let mut lines = file.lines();
    let Some(first) = lines.next() else {
        // Written by a process that was killed before it served the mount.
        if file.is_held {
            return Err(damaged("the file is empty".into()));
        }
        in_use.expired.push(path.into());
        return Ok(());
    };
    let malformed = |error: serde_json::Error| damaged(error.to_string());
    let holder: LeaseHolder = serde_json::from_slice(first).map_err(malformed)?;
    let mut heads: Vec<HeldHead> = Vec::new();
    let mut noticed = None;
    for line in lines {
        if let Ok(EndNotice { ended }) = serde_json::from_slice(line) {
            noticed = Some(ended);
            continue;
        }
        let head: HeldHead = serde_json::from_slice(line).map_err(malformed)?;
        (head.address.parse::<Address>()).map_err(|error| damaged(error.to_string()))?;
        merge(&mut heads, head);
    }
    let id = path.file_stem().unwrap_or_default();
    let record = MountRecord {
        id: id.to_string_lossy().into_owned(),
        holder,
        heads,
        is_held: file.is_held,
    };
    if !file.is_held && !is_mounted {
        // Not the modification time: the last head may have been added long ago.
        let ended = match noticed {
            Some(ended) => ended.min(now),
            None if read_only => now,
            None => notice(path, now).map(|()| now)?,
        };
        if !is_recent(ended, now, grace) {
            in_use.expired.push(path.into());
            return Ok(());
        }
    }
    in_use.mounts.push(record);
    Ok(())
}

/// Records that the process of a lease has ended.
fn notice(path: &Path, now: u64) -> Result<(), LeaseError> {
    let write = || -> io::Result<()> {
        let file = open_regular_with(File::options().append(true), path)?;
        append(&file, &EndNotice { ended: now })
    };
    match write() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written.map_err(failed(path)),
    }
}
