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

impl DaemonStatus {
    /// The figures in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let mut put = |name: &str, kind: &str, values: &[(String, u64)]| {
            // A name is declared once, whatever labels its values have.
            text.push_str(&format!("# TYPE walgit_fs_{name} {kind}\n"));
            for (labels, value) in values {
                text.push_str(&format!("walgit_fs_{name}{labels} {value}\n"));
            }
        };
        let one = |value| [(String::new(), value)];
        let c = &self.cache;
        put("uptime_seconds", "gauge", &one(self.uptime_s));
        put("mounts", "gauge", &one(self.mounts.len() as u64));
        put("cache_memory_bytes", "gauge", &one(c.memory_bytes));
        put("cache_disk_bytes", "gauge", &one(c.disk_bytes));
        put("cache_disk_entries", "gauge", &one(c.disk_entries));
        put("cache_memory_hits_total", "counter", &one(c.memory_hits));
        put("cache_disk_hits_total", "counter", &one(c.disk_hits));
        put("cache_misses_total", "counter", &one(c.misses));
        put("cache_fetches_total", "counter", &one(c.fetches));
        put(
            "cache_fetched_bytes_total",
            "counter",
            &one(c.fetched_bytes),
        );
        put("cache_corrupt_total", "counter", &one(c.corrupt_dropped));
        put("cache_evictions_total", "counter", &one(c.evictions));
        let sum = |of: fn(&DriverStats) -> u64| self.mounts.iter().map(|m| of(&m.stats)).sum();
        put("operations", "gauge", &one(sum(|s| s.operations)));
        put("operations_failed", "gauge", &one(sum(|s| s.failed)));
        put("integrity_failures", "gauge", &one(sum(|s| s.integrity)));
        let each = |of: fn(&StoreHealth) -> u64| -> Vec<_> {
            let label = |n: &NetworkStatus| format!("{{network=\"{}\"}}", escaped(&n.name));
            let networks = self.networks.iter();
            networks.map(|n| (label(n), of(&n.health))).collect()
        };
        put("requests_total", "counter", &each(|h| h.requests));
        put("received_bytes_total", "counter", &each(|h| h.received));
        put("corrupt_answers_total", "counter", &each(|h| h.corrupt));
        text
    }
}

/// As a label's value is written.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_declared_once_whatever_its_labels() {
        let network = |name: &str| NetworkStatus {
            name: name.into(),
            health: StoreHealth::default(),
        };
        let status = DaemonStatus {
            pid: 1,
            version: "1".into(),
            uptime_s: 1,
            mounts: Vec::new(),
            cache: CacheStats::default(),
            networks: vec![network("local"), network("a\"b")],
            pins: Vec::new(),
        };
        let text = status.metrics();
        let declared = |line: &&str| line.starts_with("# TYPE walgit_fs_requests_total ");
        assert_eq!(text.lines().filter(declared).count(), 1, "{text}");
        assert!(
            text.contains(r#"requests_total{network="a\"b"} 0"#),
            "{text}"
        );
    }
}
