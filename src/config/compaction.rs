//! Compaction of heads: the section `[compaction]`.
//!
//! Writing costs money on most networks, so the daemon compacts only if configured to.
//! The network `local` is free, so `spend` does not apply.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::{check_range, check_schedule, duration};

/// Section `[compaction]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactionSection {
    /// Interval of the daemon's checks; `off` to disable them.
    pub schedule: String,
    /// Maximum spending in 30 days, in the currency of the network's price.
    pub spend: f64,
    /// Minimum improvement of the score, 0..=1.
    pub improvement: f64,
    /// Time for which a name is skipped after a compaction.
    pub cooldown: String,
    /// Average write rate of the daemon, in bytes per second.
    pub rate: u64,
}

impl Default for CompactionSection {
    fn default() -> Self {
        CompactionSection {
            schedule: "off".into(),
            spend: 0.0,
            improvement: 0.25,
            cooldown: "7d".into(),
            rate: 1_000_000,
        }
    }
}

impl CompactionSection {
    /// Interval of the daemon's checks; `None` if disabled.
    pub fn every(&self) -> Option<Duration> {
        duration(&self.schedule).ok()
    }

    /// Time for which a name is skipped after a compaction.
    pub fn cooldown(&self) -> Duration {
        duration(&self.cooldown).unwrap_or(Duration::from_secs(7 * 24 * 3600))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        check_schedule("compaction", &self.schedule)?;
        duration(&self.cooldown).map_err(|why| format!("cooldown in [compaction]: {why}"))?;
        check_range("improvement in [compaction]", self.improvement, 0.0..=1.0)?;
        check_range("spend in [compaction]", self.spend, 0.0..=1e12)?;
        if self.rate == 0 {
            return Err("rate in [compaction] must be at least 1 byte per second".into());
        }
        Ok(())
    }
}
