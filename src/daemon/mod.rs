//! The background process that owns the cache, serves all mounts, and answers
//! questions about them.
//!
//! RocksDB has one owner, and mounts share one cache and one view of the network,
//! so there is one daemon per cache directory. The first `mount` starts it; it ends
//! a while after its last mount. Its lock ([`lock`]) and its two Unix sockets are in
//! a private directory beside the database ([`location`], kept there by [`place`]):
//! - `control.sock` ([`control`]): HTTP, for `status`, preparing a mount, the
//!   cache commands, and Prometheus;
//! - `attach.sock` ([`attach`]): a mount's `/dev/fuse`, passed as a descriptor.
//!
//! The command that mounts makes the mount itself, in its own namespace and
//! with its own rights ([`mounting`]), and only then hands it over. So a mount
//! works from inside a container too, and everything that can go wrong with
//! the repository has been said before anything is mounted.
//!
//! A folder of a mount can be brought into the cache and kept there
//! ([`warming`]).
//!
//! A mount that follows its branch ([`follow`]) looks for a new head now and
//! then, and shows it without a remount.
//!
//! What is to be done now and then, a job does ([`jobs`]), where it is scheduled:
//! laying scattered heads out anew ([`compaction`]), paying longer for what is needed
//! ([`renewal`]).
//!
//! May touch everything below it.

mod attach;
mod claims;
mod client;
mod compacting;
pub mod compaction;
mod control;
mod follow;
mod fresh;
pub mod ground;
mod jobs;
mod launch;
mod learned;
mod location;
mod lock;
pub mod log;
mod memory;
mod metrics;
mod mounting;
mod mounts;
mod overview;
mod place;
pub mod renewal;
mod renewing;
mod server;
mod settings;
mod signals;
mod status;
mod stopping;
mod transport;
mod warming;

pub use claims::Claimed;
pub use client::{Client, ClientError, DaemonState};
pub use jobs::{JobStatus, remembered};
pub use learned::{Imported, Subject};
pub use location::LocationError;
pub use mounting::{MountFailure, MountInfo, mount, mounted_folder, unmount};
pub use overview::{DaemonPhase, DaemonReport, Folder, FolderState, Overview};
pub use server::{DaemonError, run};
pub use settings::DaemonSettings;
pub use status::{DaemonStatus, FollowStatus, MountStatus, NetworkStatus};
pub use stopping::{Restarted, Stopped, restart, stop};
pub use warming::no_pin;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::prefetch::Learning;
use crate::repo::Source;
use walgit_format::chunk::SecretKey;
use walrus_client::network::Network;

/// What to mount, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Where the repository is.
    pub source: Source,
    /// A branch, tag or commit; the default branch for none.
    pub reference: Option<String>,
    /// Where its blobs are.
    pub network: Network,
    /// Keys of encrypted content.
    pub keys: Vec<SecretKey>,
    /// Whether files that start with `#!` are executable where the repository
    /// keeps no modes.
    pub scripts: bool,
    /// What may be used to foretell which files are opened.
    pub learning: Learning,
    /// Look for a new head every so many seconds, and show it; never for none.
    pub follow: Option<u64>,
    /// The folder.
    pub mountpoint: PathBuf,
    /// Whether other users may enter.
    pub allow_other: bool,
    /// What the user called it, for lists.
    pub label: String,
    /// Where the leases of its network are kept.
    pub leases: PathBuf,
    /// Identifies the mount in the kernel's mount table, and names its lease.
    pub id: String,
}

/// The daemon's directory, made where there is none: for checks.
///
/// # Errors
/// [`LocationError`] where it cannot be trusted or made.
pub fn directory(dirs: &crate::config::Dirs) -> Result<PathBuf, LocationError> {
    Ok(location::Location::create(dirs)?.path().to_owned())
}
