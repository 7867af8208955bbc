//! The background process that owns the cache, serves all mounts, and answers queries
//! about them.
//!
//! RocksDB permits one owner, and mounts share one cache and one view of the network, so
//! there is one daemon per cache directory. The first `mount` starts it; it exits some
//! time after its last mount. Its lock ([`lock`]) and its two Unix sockets are in a
//! private directory beside the database ([`location`], maintained by [`place`]):
//! - `control.sock` ([`control`]): HTTP, for `status`, preparing a mount, the cache
//!   commands, and Prometheus;
//! - `attach.sock` ([`attach`]): receives the `/dev/fuse` descriptor of a mount.
//!
//! The mounting command makes the mount itself, in its own namespace and with its own
//! privileges ([`mounting`]), and then hands it over. So a mount works from inside a
//! container too, and every error of the repository is reported before the mount is made.
//!
//! A folder of a mount can be fetched into the cache and pinned there ([`warming`]).
//!
//! A following mount ([`follow`]) polls for a new head, and shows it without a remount.
//!
//! The daemon schedules compaction of scattered heads and renewal of needed blobs
//! ([`jobs`]); both are implemented in [`crate::maintenance`].
//!
//! May touch everything below it.

mod attach;
mod client;
mod control;
mod follow;
mod fresh;
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
mod server;
mod settings;
mod signals;
mod status;
mod stopping;
mod transport;
mod warming;

pub use client::{Client, ClientError, DaemonState};
pub use jobs::{JobStatus, saved_statuses};
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

/// A mount to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Location of the repository.
    pub source: Source,
    /// A branch, tag or commit; the default branch if `None`.
    pub reference: Option<String>,
    /// Network of its blobs.
    pub network: Network,
    /// Keys of encrypted content.
    pub keys: Vec<SecretKey>,
    /// Whether files that start with `#!` are executable if the repository stores no
    /// modes.
    pub scripts: bool,
    /// Sources for the prediction of file opens.
    pub learning: Learning,
    /// Interval in seconds at which to poll for a new head and show it; `None` for never.
    pub follow: Option<u64>,
    /// The mount point.
    pub mountpoint: PathBuf,
    /// Whether other users may access the mount.
    pub allow_other: bool,
    /// Label for lists, as given by the user.
    pub label: String,
    /// Directory of the leases of its network.
    pub leases: PathBuf,
    /// Identifies the mount in the kernel's mount table, and names its lease.
    pub id: String,
}

/// Returns the daemon's directory, created if needed: for checks.
///
/// # Errors
/// [`LocationError`] if it cannot be trusted or created.
pub fn directory(dirs: &crate::config::Dirs) -> Result<PathBuf, LocationError> {
    Ok(location::Location::create(dirs)?.path().to_owned())
}
