//! How what is needed is paid for longer: the section `[renewal]`.
//!
//! ```toml
//! [renewal]
//! schedule = "off"        # or how often the daemon looks: "12h", "1d"
//! margin = 2              # what ends within so many epochs is renewed
//! epochs = 5              # until so many epochs from now; 1 to 53
//! budget = 0.0            # what the daemon may spend in a run, in the profile's currency
//! command = "walrus"      # the command-line client that extends; none by default
//! ```
//!
//! Where a network does not tell its epoch, `epoch_days` in its profile says how
//! long one is (14 on mainnet, 1 on testnet).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration::duration;
use walrus_client::network::MAX_EPOCHS;

/// What `[renewal]` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Renewing {
    /// How often the daemon looks; `off` for never.
    pub schedule: String,
    /// What ends within so many epochs is renewed.
    pub margin: u32,
    /// Until so many epochs from now.
    pub epochs: u32,
    /// What the daemon may spend in a run, in the currency of the network's price.
    pub budget: f64,
    /// The `walrus` command-line client that extends; `None` for none.
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
    /// How often the daemon looks; `None` for never.
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
        match (0.0..=1e12).contains(&self.budget) {
            true => Ok(()),
            false => Err("budget in [renewal] is 0 or more".into()),
        }
    }
}
