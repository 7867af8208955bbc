//! The settings of a running daemon, to detect whether they are still in force.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{
    CompactionSection, RenewalSection, Retention, SettingOrigin, Settings, Sourced, Tiers,
};

/// Settings that a daemon reads only at its start. Network settings are not included:
/// each mount has its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonSettings {
    /// Path of the config file.
    pub config: PathBuf,
    /// Disk budget of the cache, in bytes.
    pub cache_disk: Sourced<u64>,
    /// Memory budget of the cache, in bytes.
    pub cache_memory: Sourced<u64>,
    /// Deadline of one operation, in seconds.
    pub deadline_s: Sourced<u64>,
    /// How long the daemon stays without mounts, in seconds.
    pub idle_exit_s: Sourced<u64>,
    /// Retention of unneeded content.
    pub retention: Sourced<Retention>,
    /// Layout of files.
    pub tiers: Sourced<Tiers>,
    /// Compaction of heads.
    pub compaction: Sourced<CompactionSection>,
    /// Renewal of storage.
    pub renewal: Sourced<RenewalSection>,
}

impl DaemonSettings {
    pub(super) fn of(settings: &Settings) -> Self {
        DaemonSettings {
            config: settings.file.clone(),
            cache_disk: settings.cache_disk.clone(),
            cache_memory: settings.cache_memory.clone(),
            deadline_s: settings.deadline_s.clone(),
            idle_exit_s: settings.idle_exit_s.clone(),
            retention: settings.retention.clone(),
            tiers: settings.tiers.clone(),
            compaction: settings.compaction.clone(),
            renewal: settings.renewal.clone(),
        }
    }

    /// Describes the settings that differ from `wanted`; empty if they are equal.
    pub(super) fn differences(&self, wanted: &DaemonSettings) -> Vec<String> {
        let number = |name: &str, running: &Sourced<u64>, wanted: &Sourced<u64>| {
            differs(running, wanted)
                .then(|| format!("{name} is {}, not {}", running.value, wanted.value))
        };
        let section = |name: &str, differs: bool| differs.then(|| format!("[{name}] has changed"));
        let found = [
            number("cache.disk", &self.cache_disk, &wanted.cache_disk),
            number("cache.memory", &self.cache_memory, &wanted.cache_memory),
            number("mount.deadline_s", &self.deadline_s, &wanted.deadline_s),
            number("daemon.idle_exit_s", &self.idle_exit_s, &wanted.idle_exit_s),
            section("retention", differs(&self.retention, &wanted.retention)),
            section("tiers", differs(&self.tiers, &wanted.tiers)),
            section("compaction", differs(&self.compaction, &wanted.compaction)),
            section("renewal", differs(&self.renewal, &wanted.renewal)),
        ];
        found.into_iter().flatten().collect()
    }
}

/// Whether a running value differs from the wanted one. A default does not override a
/// flag or a variable that was set for the daemon.
fn differs<T: PartialEq>(running: &Sourced<T>, wanted: &Sourced<T>) -> bool {
    let asked = wanted.origin != SettingOrigin::Default || running.origin == SettingOrigin::File;
    asked && running.value != wanted.value
}
