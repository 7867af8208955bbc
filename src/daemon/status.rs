//! What the daemon tells about itself.

use serde::{Deserialize, Serialize};

use crate::cache::{CacheStats, Pin};
use crate::fuse::DriverStats;
use crate::prefetch::PrefetchStats;
use crate::walrus::StoreHealth;

/// The daemon and all it does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Its mounts, oldest first.
    pub mounts: Vec<MountStatus>,
    /// Its cache.
    pub cache: CacheStats,
    /// Networks it has used.
    pub networks: Vec<NetworkStatus>,
    /// What is pinned in the cache.
    #[serde(default)]
    pub pins: Vec<Pin>,
}

/// One mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountStatus {
    /// The folder.
    pub mountpoint: String,
    /// What the user called it.
    pub label: String,
    /// Its address.
    pub address: String,
    /// Name of its network.
    pub network: String,
    /// The commit shown, as git calls it; empty for a plain folder.
    pub commit: String,
    /// When it was mounted, in seconds since 1970.
    pub since: u64,
    /// Files and directories in it.
    pub nodes: u64,
    /// Bytes of content in it.
    pub bytes: u64,
    /// What its driver did.
    pub stats: DriverStats,
    /// What was fetched ahead of its readers; `None` where that is off.
    pub prefetch: Option<PrefetchStats>,
    /// How it follows its branch; `None` where it does not.
    pub follow: Option<FollowStatus>,
}

/// How a mount follows its branch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FollowStatus {
    /// Seconds between two looks, about.
    pub every_s: u64,
    /// When the branch was last seen, in seconds since 1970; 0 for never.
    pub seen: u64,
    /// How often the mount moved to a new head.
    pub moves: u64,
    /// Why the last look failed; `None` where it did not.
    pub error: Option<String>,
}

/// One network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Its name.
    pub name: String,
    /// Its traffic and failures.
    pub health: StoreHealth,
}
