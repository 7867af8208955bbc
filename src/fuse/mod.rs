//! The FUSE driver: receives requests from the kernel and replies.
//!
//! The driver only translates: it maps an inode number to a node of a
//! [`crate::repo::Snapshot`], and the result from the snapshot to a reply.
//! - [`driver`]: one function per operation;
//! - [`refuse`]: the operations that modify files;
//! - [`view`]: the content of a mount, independent of the FUSE protocol;
//! - [`answer`]: polls an operation once on the thread that received it. Content in
//!   memory or on disk is returned immediately; otherwise the operation moves to a
//!   task and frees the thread. Every operation has a deadline;
//! - [`attributes`], [`extended`]: the results of `stat` and `getfattr`;
//! - [`inode`]: inode numbers, computed instead of stored, so that memory does not
//!   grow with the number of files visited;
//! - [`trees`]: the trees of a mount, opened on first access; [`identity`]: which
//!   nodes keep their inode when the mount moves to another tree;
//! - [`control`]: the `.walgit` folder, with the commits that [`history`] finds;
//! - [`mount`], [`mountpoint`], [`handover`]: mounting in the caller's namespace on a
//!   verified folder, and passing `/dev/fuse` to the process that serves the mount;
//! - [`table`], [`liveness`], [`processes`]: the mounts on this machine, whether they
//!   respond, and which processes serve or use them.
//!
//! A snapshot is immutable, and the driver invalidates the kernel's caches when a
//! mount moves to another one. This allows long lifetimes for names and attributes,
//! and no requests for opening files (the kernel stops sending them after the first
//! `ENOSYS`), which makes `tar` five times faster. The exceptions are the changing
//! files under `.walgit`: their attributes are not cached, and a changed time or size
//! makes the kernel read them again.
//!
//! May depend on: `repo`, `prefetch`, `cache`.

mod answer;
mod attributes;
mod control;
mod driver;
mod errno;
mod extended;
mod handover;
mod history;
mod identity;
mod inode;
mod liveness;
mod mount;
mod mountpoint;
mod processes;
mod refuse;
mod table;
mod trees;
mod view;
mod watchdog;

pub use control::StatusSource;
pub use driver::{Driver, DriverConfig, DriverCounters, DriverStats, Mover, Moves};
pub use handover::{receive_descriptor, send_descriptor};
pub use liveness::{Liveness, PATIENCE, liveness, within};
pub use mount::{MountError, MountOptions, Mounted, is_ours, mount, unmount};
pub use mountpoint::{Mountpoint, MountpointError, resolve};
pub use processes::{Servers, is_stopped};
pub use table::{MountEntry, MountTable};
pub use trees::TreeStats;
