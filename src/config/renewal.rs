//! Renewal of needed blobs: the section `[renewal]`.
//!
//! If a network does not report its epoch, `epoch_days` in its profile sets the epoch
//! length (14 on mainnet, 1 on testnet).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::{check_range, check_schedule, duration};
use walrus_client::network::MAX_EPOCHS;

/// Section `[renewal]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RenewalSection {
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

impl Default for RenewalSection {
    fn default() -> Self {
        RenewalSection {
            schedule: "off".into(),
            margin: 2,
            epochs: 5,
            budget: 0.0,
            command: None,
        }
    }
}

impl RenewalSection {
    /// Interval of the daemon's checks; `None` if disabled.
    pub fn every(&self) -> Option<Duration> {
        duration(&self.schedule).ok()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        check_schedule("renewal", &self.schedule)?;
        check_range("epochs in [renewal]", self.epochs, 1..=MAX_EPOCHS)?;
        if self.margin >= self.epochs {
            return Err("margin in [renewal] must be less than its epochs".into());
        }
        check_range("budget in [renewal]", self.budget, 0.0..=1e12)
    }
}
