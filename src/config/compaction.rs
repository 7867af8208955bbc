//! Compaction of heads: the section `[compaction]`.
//!
//! ```toml
//! [compaction]
//! schedule = "off"        # or the interval of the daemon's checks: "12h", "7d"
//! spend = 0.0             # maximum spending in 30 days, in the profile's currency
//! improvement = 0.25      # minimum improvement of the score, 0 to 1
//! cooldown = "7d"         # time for which a name is skipped afterwards
//! rate = 1_000_000        # the daemon's average write rate, bytes per second
//! ```
//!
//! Writing costs money on most networks, so the daemon compacts only if configured to.
//! The network `local` is free, so `spend` does not apply.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration::duration;

/// Section `[compaction]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compaction {
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

impl Default for Compaction {
    fn default() -> Self {
        Compaction {
            schedule: "off".into(),
            spend: 0.0,
            improvement: 0.25,
            cooldown: "7d".into(),
            rate: 1_000_000,
        }
    }
}

impl Compaction {
    /// Interval of the daemon's checks; `None` if disabled.
    pub fn every(&self) -> Option<Duration> {
        duration(&self.schedule).ok()
    }

    /// Time for which a name is skipped after a compaction.
    pub fn cooldown(&self) -> Duration {
        duration(&self.cooldown).unwrap_or(Duration::from_secs(7 * 24 * 3600))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.schedule != "off" {
            let every = duration(&self.schedule)
                .map_err(|why| format!("schedule in [compaction]: {why}, or \"off\""))?;
            if every.is_zero() {
                return Err("schedule in [compaction] is longer than nothing, or \"off\"".into());
            }
        }
        duration(&self.cooldown).map_err(|why| format!("cooldown in [compaction]: {why}"))?;
        if !(0.0..=1.0).contains(&self.improvement) {
            return Err("improvement in [compaction] is from 0 to 1".into());
        }
        if !(0.0..=1e12).contains(&self.spend) {
            return Err("spend in [compaction] is 0 or more".into());
        }
        match self.rate {
            0 => Err("rate in [compaction] is from 1 byte a second on".into()),
            _ => Ok(()),
        }
    }
}
