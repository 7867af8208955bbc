//! What the daemon tells about itself.
//!
//! A daemon may be older than whoever asks it: it lives as long as its mounts.
//! A figure that it does not know yet is read as its default.

use serde::{Deserialize, Serialize};

use super::jobs::JobStatus;
use super::settings::DaemonSettings;
use crate::cache::{CacheStats, Pin};
use crate::fuse::{DriverStats, TreeStats};
use crate::prefetch::PrefetchStats;
use crate::repo::MemoryStats;
use walrus_client::StoreHealth;

/// The daemon and all it does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// What it runs with.
    #[serde(default)]
    pub settings: Option<DaemonSettings>,
    /// What is wrong with it although it answers, and what to do.
    #[serde(default)]
    pub warning: Option<String>,
    /// Its mounts, oldest first.
    pub mounts: Vec<MountStatus>,
    /// Its cache.
    pub cache: CacheStats,
    /// Networks it has used.
    pub networks: Vec<NetworkStatus>,
    /// What is pinned in the cache.
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// What it does by itself now and then.
    #[serde(default)]
    pub jobs: Vec<JobStatus>,
}

/// One mount.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// Walks over the tree that were noticed and are fetched ahead of.
    #[serde(default)]
    pub walks: u64,
    /// What was fetched ahead of its readers; `None` where that is off.
    pub prefetch: Option<PrefetchStats>,
    /// How it follows its branch; `None` where it does not.
    pub follow: Option<FollowStatus>,
    /// What its trees take.
    #[serde(default)]
    pub trees: TreeStats,
    /// Memory that it keeps, and may keep.
    #[serde(default)]
    pub memory: MemoryStats,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_knows_fewer_figures_is_understood() {
        let told = r#"{
            "pid": 1, "version": "0.1.0", "uptime_s": 2,
            "mounts": [{
                "mountpoint": "/m", "label": "it", "address": "a", "network": "local",
                "commit": "", "since": 3, "nodes": 4, "bytes": 5,
                "stats": {
                    "operations": 0, "waited": 0, "failed": 0, "integrity": 0, "timed_out": 0
                },
                "prefetch": {"requests": 7}, "follow": null
            }],
            "cache": {"memory_hits": 6},
            "networks": [{"name": "local", "health": {"requests": 8}}]
        }"#;
        let status: DaemonStatus = serde_json::from_str(told).unwrap();
        assert_eq!(status.mounts[0].prefetch.unwrap().requests, 7);
        assert_eq!(status.cache.memory_hits, 6);
        assert_eq!(status.networks[0].health.requests, 8);
        assert!(status.pins.is_empty());
    }
}
