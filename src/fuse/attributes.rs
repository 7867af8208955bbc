//! File attributes, as returned by `stat`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType};

use super::inode::Inode;
use crate::repo::Node;
use walgit_format::{Commit, Kind};

/// Owner of all files in a mount: the user who mounted it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Preferred size of a read in bytes, reported to applications.
const PREFERRED_READ_BYTES: u32 = 128 << 10;

/// The type of a node.
pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File { .. } => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Directory | Kind::Submodule => FileType::Directory,
    }
}

/// Time of a commit.
pub(super) fn commit_time(commit: &Commit) -> SystemTime {
    time_of(commit.committer.seconds)
}

/// Converts seconds since 1970.
pub(super) fn time_of(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds >= 0 {
        UNIX_EPOCH.checked_add(distance)
    } else {
        UNIX_EPOCH.checked_sub(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

/// Attributes of a node of a tree.
pub(super) fn of_node(inode: Inode, node: &Node, time: SystemTime, owner: Owner) -> FileAttr {
    let (perm, size) = match node.kind {
        // The same modes as in a checkout: the mount is read-only, not the files.
        Kind::File { executable: false } => (0o644, node.size),
        Kind::File { executable: true } => (0o755, node.size),
        Kind::Symlink => (0o777, node.size),
        // The size of a directory is specific to the file system; with the size of
        // its content, `du` would count every file once per level.
        Kind::Directory | Kind::Submodule => (0o755, 0),
    };
    of(inode, file_type(node.kind), perm, size, time, owner)
}

/// Attributes of any inode.
pub(super) fn of(
    inode: Inode,
    kind: FileType,
    perm: u16,
    size: u64,
    time: SystemTime,
    owner: Owner,
) -> FileAttr {
    FileAttr {
        ino: inode.encode(),
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        // A link count of 1 tells `find` not to derive the number of subdirectories
        // from it.
        nlink: 1,
        uid: owner.uid,
        gid: owner.gid,
        rdev: 0,
        blksize: PREFERRED_READ_BYTES,
        flags: 0,
    }
}
