//! The FUSE driver: receives requests from the kernel and replies.
//!
//! The driver only translates: it maps an inode number to a node of a
//! [`crate::repo::Snapshot`], and the result from the snapshot to a reply.
//! - [`driver`]: one function per operation; [`readonly`]: the operations that modify
//!   files; [`serve`]: starts the driver, and moves the mount to another snapshot;
//! - [`view`]: the content of a mount, independent of the FUSE protocol;
//! - [`dispatch`]: polls an operation once on the thread that received it. Content in
//!   memory or on disk is returned immediately; otherwise the operation moves to a
//!   task and frees the thread. Every operation has a deadline ([`watchdog`]);
//! - [`attributes`], [`xattr`]: the results of `stat` and `getfattr`;
//! - [`inode`]: inode numbers, computed instead of stored, so that memory does not
//!   grow with the number of files visited;
//! - [`snapshot_table`]: the trees of a mount, opened on first access; [`inode_map`]:
//!   which nodes keep their inode when the mount moves to another tree;
//! - [`control_dir`]: the `.walgit` folder, with the commits that [`history`] finds;
//! - [`mount`], [`unmount`], [`mountpoint`], [`fd_passing`]: mounting in the caller's
//!   namespace on a verified folder, and passing `/dev/fuse` to the process that serves
//!   the mount;
//! - [`mount_table`], [`liveness`], [`processes`]: the mounts on this machine, whether
//!   they respond, and which processes serve or use them.
//!
//! A snapshot is immutable, and the driver invalidates the kernel's caches when a
//! mount moves to another one. This allows long lifetimes for names and attributes,
//! and avoids requests for opening files (the kernel stops sending them after the first
//! `ENOSYS`), which makes `tar` five times faster. Some files under `.walgit` change: the
//! kernel does not cache their attributes, and reads a file again if its time or size
//! has changed.
//!
//! May depend on: `prefetch`, `repo`, `cache`, `offload`.

mod attributes;
mod control_dir;
mod dispatch;
mod driver;
mod errno;
mod fd_passing;
mod history;
mod inode;
mod inode_map;
mod liveness;
mod mount;
mod mount_table;
mod mountpoint;
mod processes;
mod readonly;
mod serve;
mod snapshot_table;
mod unmount;
mod view;
mod watchdog;
mod xattr;

pub use control_dir::StatusSource;
pub use dispatch::DriverStats;
pub use driver::Driver;
pub use fd_passing::{receive_descriptor, send_descriptor};
pub use liveness::{Liveness, RESPONSE_TIMEOUT, liveness};
pub use mount::{MountOptions, NewMount, mount};
pub use mount_table::{MountEntry, MountTable};
pub use mountpoint::{Mountpoint, resolve};
pub(crate) use processes::proc_field;
pub use processes::{Servers, is_stopped};
pub use serve::{DriverConfig, MountHandle, serve};
pub use snapshot_table::TreeStats;
pub use unmount::{MountError, unmount};
