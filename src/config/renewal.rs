//! Renewal of needed blobs: the section `[renewal]`.
//!
//! ```toml
//! [renewal]
//! schedule = "off"        # or the interval of the daemon's checks: "12h", "1d"
//! margin = 2              # renews blobs that expire within this many epochs
//! epochs = 5              # number of epochs from now to pay for; 1 to 53
//! budget = 0.0            # daemon's maximum spending per run, in the profile's currency
//! command = "walrus"      # command-line client that extends blobs; none by default
//! ```
//!
//! If a network does not report its epoch, `epoch_days` in its profile sets the epoch
//! length (14 on mainnet, 1 on testnet).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration::duration;
use walrus_client::network::MAX_EPOCHS;

/// Section `[renewal]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Renewing {
    /// Interval of the daemon's checks; `off` to disable them.
    pub schedule: String,
    /// Blobs that expire within this many epochs are renewed.
    pub margin: u32,
    /// Number of epochs from now to pay for.
    pub epochs: u32,
    /// Maximum spending of the daemon per run, in the currency of the network's price.
    pub budget: f64,
    /// The `walrus` command-line client that extends blobs, if any.
    pub command: Option<String>,
}

impl Default for Renewing {
    fn default() -> Self {
        Renewing {
            schedule: "off".into(),
            margin: 2,
            epochs: 5,
            budget: 0.0,
            command: None,
        }
    }
}

impl Renewing {
    /// Interval of the daemon's checks; `None` if disabled.
    pub fn every(&self) -> Option<Duration> {
        duration(&self.schedule).ok()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.schedule != "off" {
            let every = duration(&self.schedule)
                .map_err(|why| format!("schedule in [renewal]: {why}, or \"off\""))?;
            if every.is_zero() {
                return Err("schedule in [renewal] is longer than nothing, or \"off\"".into());
            }
        }
        if !(1..=MAX_EPOCHS).contains(&self.epochs) {
            return Err(format!("epochs in [renewal] is from 1 to {MAX_EPOCHS}"));
        }
        if self.margin >= self.epochs {
            return Err("margin in [renewal] is less than its epochs".into());
        }
        if (0.0..=1e12).contains(&self.budget) {
            Ok(())
        } else {
            Err("budget in [renewal] is 0 or more".into())
        }
    }
}
