//! What `stat` shows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType};

use super::inode::Inode;
use crate::repo::Node;
use walgit_format::{Commit, Kind};

/// Who owns everything in a mount: who mounted it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The kernel's preferred size of a read, in bytes.
const BLOCK: u32 = 128 << 10;

/// The type of a node.
pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File { .. } => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Directory | Kind::Submodule => FileType::Directory,
    }
}

/// When a commit was made.
pub(super) fn commit_time(commit: &Commit) -> SystemTime {
    time_of(commit.committer.seconds)
}

/// A time in seconds since 1970.
pub(super) fn time_of(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds >= 0 {
        true => UNIX_EPOCH.checked_add(distance),
        false => UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(UNIX_EPOCH)
}

/// Attributes of a node of a tree.
pub(super) fn of_node(inode: Inode, node: &Node, time: SystemTime, owner: Owner) -> FileAttr {
    let (perm, size) = match node.kind {
        // As a checkout has them: what forbids writing is the mount.
        Kind::File { executable: false } => (0o644, node.size),
        Kind::File { executable: true } => (0o755, node.size),
        Kind::Symlink => (0o777, node.size),
        // What a directory "weighs" differs between file systems; that of its
        // content would make `du` count everything once a level.
        Kind::Directory | Kind::Submodule => (0o755, 0),
    };
    of(inode, file_type(node.kind), perm, size, time, owner)
}

/// Attributes of anything.
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
        // 1 tells `find` that it cannot count subdirectories by links.
        nlink: 1,
        uid: owner.uid,
        gid: owner.gid,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}
