//! What the daemon tells about itself.

use serde::{Deserialize, Serialize};

use crate::cache::CacheStats;
use crate::fuse::DriverStats;
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
        let mut put = |name: &str, kind: &str, labels: &str, value: u64| {
            text.push_str(&format!(
                "# TYPE walgit_fs_{name} {kind}\nwalgit_fs_{name}{labels} {value}\n"
            ));
        };
        let c = &self.cache;
        put("uptime_seconds", "gauge", "", self.uptime_s);
        put("mounts", "gauge", "", self.mounts.len() as u64);
        put("cache_memory_bytes", "gauge", "", c.memory_bytes);
        put("cache_disk_bytes", "gauge", "", c.disk_bytes);
        put("cache_disk_entries", "gauge", "", c.disk_entries);
        put("cache_memory_hits_total", "counter", "", c.memory_hits);
        put("cache_disk_hits_total", "counter", "", c.disk_hits);
        put("cache_misses_total", "counter", "", c.misses);
        put("cache_fetches_total", "counter", "", c.fetches);
        put("cache_fetched_bytes_total", "counter", "", c.fetched_bytes);
        put("cache_corrupt_total", "counter", "", c.corrupt_dropped);
        put("cache_evictions_total", "counter", "", c.evictions);
        let sum = |of: fn(&DriverStats) -> u64| self.mounts.iter().map(|m| of(&m.stats)).sum();
        put("operations", "gauge", "", sum(|s| s.operations));
        put("operations_failed", "gauge", "", sum(|s| s.failed));
        put("integrity_failures", "gauge", "", sum(|s| s.integrity));
        for network in &self.networks {
            let labels = format!("{{network=\"{}\"}}", network.name);
            let health = &network.health;
            put("requests_total", "counter", &labels, health.requests);
            put("received_bytes_total", "counter", &labels, health.received);
            put("corrupt_answers_total", "counter", &labels, health.corrupt);
        }
        text
    }
}
