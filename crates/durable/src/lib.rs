//! Files that survive crashes and power loss.
//!
//! walgit-fs writes all its state files with this crate, which is independent of their
//! content.
//!
//! # The contract
//!
//! | call | once it returns `Ok` | after a crash or power loss at any moment |
//! |---|---|---|
//! | [`write_atomic`], [`AtomicFile::commit`] | the new content is on disk, under its name | the old or the new content, whole |
//! | [`AtomicFile::commit_new`] | the same; no file was replaced | no file, or the whole file |
//! | [`AtomicFile::place`] | the content is on disk; its name is on disk after [`sync_dir`] | the old or the new content, whole |
//! | [`AppendLog::append`] | the record is on disk | all records that were reported as appended, in order; a record being appended is complete or missing |
//! | [`LockedLog::replace`] | the new records are on disk | the old or the new records, all of them |
//! | [`place_dir`] | the directory and its content are on disk | the old or the new name; under the new one, the content is complete |
//! | [`create_dir_all`] | the directories are on disk | the directories created so far |
//! | [`remove_file`] | the removal is on disk | the file, or no file |
//! | [`unlink`] | the removal is on disk after [`sync_dir`] | the file, or no file |
//!
//! A call that fails (ENOSPC, EDQUOT, EIO, EROFS, EMFILE, …) leaves the previous content
//! in place and no temporary file behind, with one exception: if the last step, the fsync
//! of the directory, fails, the complete new content is already in place, but its name
//! may not survive a power loss.
//!
//! # Implementation
//!
//! - Content is written to a temporary file in the target's directory and flushed
//!   (`fsync`) before it gets its name (`rename`). Then the directory is flushed, which
//!   makes the name durable.
//! - A new directory is flushed into its parent before it is used. So every directory
//!   with content has a durable name, regardless of the process that created it.
//! - Each process flushes the name of a log before it appends its first record: another
//!   process may have been killed before it flushed the name.
//! - The directory is opened first, so that running out of file descriptors fails before
//!   any change.
//! - The process that writes a temporary file locks it. The first write of each process
//!   to a directory removes the unlocked temporary files there, which belong to crashed
//!   processes.
//! - Locks are separate files (`NAME.lock`) that are never replaced: a lock on a replaced
//!   file excludes no process.
//!
//! On file systems that cannot flush a directory (EINVAL), files survive crashes of the
//! process, but not power loss.
//!
//! Every call may block on the disk, so async code must use a blocking thread.
//!
//! `examples/counter.rs` keeps a counter in a log.
//!
//! May depend on: no other crate of this workspace.

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

pub use atomic::{AtomicFile, PRIVATE_FILE_MODE, remove_file, unlink, write_atomic};
pub use dir::{PRIVATE_DIR_MODE, create_dir_all, create_private_dir, place_dir, sync_dir};
pub use lock::{FileLock, is_at};
pub use log::{AppendLog, LockedLog, Records};
pub use regular::{open_regular, open_regular_with, read_regular, require_regular};
