//! When heads are laid out anew: the section `[compaction]`.
//!
//! ```toml
//! [compaction]
//! schedule = "off"        # or how often the daemon looks: "12h", "7d"
//! spend = 0.0             # what it may spend in 30 days, in the profile's currency
//! improvement = 0.25      # by how much a score has to be better, 0 to 1
//! cooldown = "7d"         # how long a name is left alone afterwards
//! rate = 1_000_000        # bytes a second that the daemon writes on average
//! ```
//!
//! Writing costs money on most networks, so the daemon does nothing of it unless
//! told to. On the network `local` nothing is paid, and `spend` does not count.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration::duration;

/// What `[compaction]` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compaction {
    /// How often the daemon looks; `off` for never.
    pub schedule: String,
    /// What it may spend in 30 days, in the currency of the network's price.
    pub spend: f64,
    /// By how much a score has to be better, 0..=1.
    pub improvement: f64,
    /// How long a name is left alone afterwards.
    pub cooldown: String,
    /// Bytes a second that the daemon writes on average.
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
    /// How often the daemon looks; `None` for never.
    pub fn every(&self) -> Option<Duration> {
        duration(&self.schedule).ok()
    }

    /// How long a name is left alone afterwards.
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
