//! Maintenance of stored content: compaction, renewal and garbage collection.
//!
//! The daemon schedules these jobs and the command line runs them directly; both pass a
//! [`MaintenanceContext`]. [`reachability`] determines which blobs heads, mounts, running
//! publishes and retention rules need. [`gc`] deletes all other blobs, [`renew`] extends
//! the storage of the needed ones before it expires, and [`compaction`] rewrites heads
//! that many publishes have scattered over many blobs.
//!
//! May depend on: `publish`, `lifecycle`, `fuse` (the kernel's mount table), `prefetch`,
//! `repo`, `cache`.

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
