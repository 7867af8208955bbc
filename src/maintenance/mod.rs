//! Maintenance of stored content: compaction, renewal and garbage collection.
//!
//! The command line runs these jobs; the daemon schedules compaction and renewal.
//! [`reachability`] determines which blobs names, mounts, running publishes and retention
//! rules need. [`gc`] deletes all other blobs, and [`renew`] extends the storage of the
//! needed ones before it expires; their input is a [`MaintenanceContext`]. [`compaction`]
//! rewrites heads that many publishes have scattered over many blobs.
//!
//! May depend on: `fuse` (the kernel's mount table), `publish`, `lifecycle`, `prefetch`,
//! `repo`, `cache`, `leases`, `config`.

pub mod compaction;
mod context;
mod epoch;
mod error;
pub mod gc;
mod in_use;
mod inventory;
mod journal;
pub mod reachability;
pub mod renew;

pub use context::{GcOptions, MaintenanceContext};
pub use error::MaintenanceError;
