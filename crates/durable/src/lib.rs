//! Files that survive crashes and power loss.
//!
//! All state that this program keeps in files of its own is written through this
//! module. It knows nothing about what the files mean.
//!
//! # The contract
//!
//! | call | once it returns `Ok` | after a crash or power loss at any moment |
//! |---|---|---|
//! | [`write_atomic`], [`AtomicFile::commit`] | the new content is on disk, under its name | the old or the new content, whole |
//! | [`AtomicFile::commit_new`] | the same; nothing was replaced | no file, or the whole file |
//! | [`AtomicFile::place`] | the content is on disk; its name is after [`sync_dir`] | the old or the new content, whole |
//! | [`AppendLog::append`] | the record is on disk | all records that were reported as appended, in order; a record that was being appended is there whole or not at all |
//! | [`LockedLog::replace`] | the new records are on disk | the old or the new records, all of them |
//! | [`place_dir`] | the directory and all in it are on disk | the old or the new name; under the new one, all is there |
//! | [`create_dir_all`] | the directories are on disk | as many of them as were made |
//! | [`remove_file`] | the removal is on disk | the file, or no file |
//! | [`unlink`] | the removal is on disk after [`sync_dir`] | the file, or no file |
//!
//! A call that fails (ENOSPC, EDQUOT, EIO, EROFS, EMFILE, …) leaves the previous
//! content in place and no temporary file behind. There is one exception: where
//! the last step, the fsync of the directory, fails, the new content is in place
//! already, whole, but its name may not survive a power loss.
//!
//! # How
//!
//! - Content is written to a temporary file in the directory of the target, and
//!   flushed (`fsync`) before it gets its name (`rename`). Then the directory is
//!   flushed, which is what makes the name durable.
//! - A new directory is flushed into its parent before anything is put into it. So
//!   a directory that is not empty has a durable name, whoever made it.
//! - A log's name is flushed before the first record of each process is appended:
//!   another process may have been killed before it did that.
//! - The directory is opened first, so that running out of file descriptors fails
//!   before anything has changed.
//! - A temporary file is locked by the process that writes it. The first write of
//!   each process to a directory removes the temporary files there that nobody
//!   holds: those are of processes that crashed.
//! - Locks are taken on files of their own (`NAME.lock`), which are never replaced:
//!   a lock on a file that is replaced locks out nobody.
//!
//! File systems that cannot flush a directory (EINVAL) give what they give: there,
//! only crashes of the process are survived, not power loss.
//!
//! Every call may block for as long as the disk takes: async code calls them on a
//! blocking thread.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod atomic;
mod dir;
pub mod fault_point;
mod lock;
mod log;
mod ops;
pub mod power_loss;
mod regular;
#[cfg(test)]
mod tests;

pub use atomic::{AtomicFile, PRIVATE_FILE, remove_file, unlink, write_atomic};
pub use dir::{PRIVATE_DIR, create_dir_all, create_private_dir, place_dir, sync_dir};
pub use lock::{FileLock, is_at};
pub use log::{AppendLog, LockedLog, Records};
pub use regular::{open_regular, open_regular_with, read_regular, require_regular};
