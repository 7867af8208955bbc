//! The kernel's requests in, replies out.
//!
//! The driver translates and decides nothing: an inode number becomes a node
//! of a [`crate::repo::Snapshot`], what the snapshot says becomes a reply.
//! - [`driver`]: one function an operation;
//! - [`refuse`]: those that would change something;
//! - [`view`]: what a mount shows, without a word of the kernel's protocol;
//! - [`answer`]: an operation is polled once on the kernel's thread; what is in
//!   memory or on disk is answered right there, the rest moves into a task and
//!   frees the thread; every operation has a deadline;
//! - [`attributes`], [`extended`]: what `stat` and `getfattr` show;
//! - [`inode`]: numbers, computed rather than kept, so that nothing grows with
//!   the files visited;
//! - [`trees`]: the trees that a mount shows, opened when they are looked at;
//!   [`identity`]: what keeps its inode when the mount moves to another tree;
//! - [`control`]: the `.walgit` folder, with the commits that [`history`] finds;
//! - [`mount`], [`mountpoint`], [`handover`]: making a mount in the caller's namespace
//!   on a folder that was checked, and passing its `/dev/fuse` on to who serves it;
//! - [`table`], [`liveness`], [`processes`]: what is mounted, whether it answers, and
//!   which processes serve it or keep it busy.
//!
//! A snapshot never changes, and when a mount moves to another one the kernel
//! is told what to forget. So it may keep what it learns: long
//! lifetimes for names and attributes, and no messages for opening files
//! (`ENOSYS` once, and the kernel stops asking), which is worth a factor of
//! five on `tar`. Only the files under `.walgit` that change live without:
//! their attributes are never kept, and a changed time or size makes the
//! kernel read them anew.
//!
//! May touch: `repo`, `prefetch`, `cache`.

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
