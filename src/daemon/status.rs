//! The status that the daemon reports.
//!
//! A daemon may be older than its client, because it lives as long as its mounts. Missing
//! fields are decoded as their defaults.

use serde::{Deserialize, Serialize};

use super::settings::DaemonSettings;
use crate::cache::{CacheStats, Pin};
use crate::fuse::{DriverStats, TreeStats};
use crate::prefetch::PrefetchStats;
use crate::repo::MemoryStats;
use walrus_client::StoreHealth;

/// The status of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Process ID.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Its settings.
    #[serde(default)]
    pub settings: Option<DaemonSettings>,
    /// Problems of a daemon that answers, and their remedies.
    #[serde(default)]
    pub warning: Option<String>,
    /// Its mounts, oldest first.
    pub mounts: Vec<MountStatus>,
    /// Its cache.
    pub cache: CacheStats,
    /// The networks that it has used.
    pub networks: Vec<NetworkStatus>,
    /// The pins of the cache.
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// The scheduled jobs.
    #[serde(default)]
    pub jobs: Vec<JobStatus>,
}

/// The status of one mount.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MountStatus {
    /// The mount point.
    pub mountpoint: String,
    /// Label, as given by the user.
    pub label: String,
    /// Address of the repository.
    pub address: String,
    /// Name of its network.
    pub network: String,
    /// Git ID of the shown commit; empty for a plain folder.
    pub commit: String,
    /// Time of the mount, in seconds since 1970.
    pub since: u64,
    /// Number of files and directories.
    pub nodes: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Statistics of its driver.
    pub stats: DriverStats,
    /// Detected walks over the tree, which are prefetched.
    #[serde(default)]
    pub walks: u64,
    /// Statistics of prefetches; `None` if they are off.
    pub prefetch: Option<PrefetchStats>,
    /// Follow status; `None` if the mount does not follow its branch.
    pub follow: Option<FollowStatus>,
    /// Statistics of its trees.
    #[serde(default)]
    pub trees: TreeStats,
    /// Memory that it uses, and may use.
    #[serde(default)]
    pub memory: MemoryStats,
}

/// Status of a following mount.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FollowStatus {
    /// Approximate seconds between two polls.
    pub every_s: u64,
    /// When the branch was last resolved, in seconds since 1970; 0 if never.
    pub seen: u64,
    /// How often the mount moved to a new head.
    pub moves: u64,
    /// Error of the last poll; `None` if it succeeded.
    pub error: Option<String>,
}

/// The status of one network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Name of the network.
    pub name: String,
    /// Traffic and failures.
    pub health: StoreHealth,
}

/// Status of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobStatus {
    /// Name of the job.
    pub name: String,
    /// Seconds between two runs.
    pub every_s: u64,
    /// Time of the last run, in seconds since 1970; 0 if never.
    pub last: u64,
    /// Result of the last run.
    pub did: String,
    /// Error of the last run; `None` if it succeeded.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_with_missing_fields_is_decoded() {
        let json = r#"{
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
        let status: DaemonStatus = serde_json::from_str(json).unwrap();
        assert_eq!(status.mounts[0].prefetch.unwrap().requests, 7);
        assert_eq!(status.cache.memory_hits, 6);
        assert_eq!(status.networks[0].health.requests, 8);
        assert!(status.pins.is_empty());
    }
}
