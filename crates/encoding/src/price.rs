//! The price of storage: the section `[networks.NAME.price]`.
//!
//! ```toml
//! [networks.mine.price]
//! currency = "WAL"                # "USD" by default
//! storage = 0.011                 # per GB (10⁹ bytes as billed) and epoch
//! write = 0.002                   # per GB written, charged once; default 0
//! ```

use serde::{Deserialize, Serialize};

/// Approximate price per GB and month on mainnet, and the length of its epochs.
const MAINNET_GB_MONTH: f64 = 0.023;
const MAINNET_EPOCH_DAYS: f64 = 14.0;
const DAYS_A_MONTH: f64 = 365.25 / 12.0;

/// The price of storage on a network. A GB is 10⁹ bytes, as billed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The currency: `USD`, `WAL`.
    #[serde(default = "dollars")]
    pub currency: String,
    /// Price per GB and epoch.
    pub storage: f64,
    /// Price per GB written, charged once.
    #[serde(default)]
    pub write: f64,
}

fn dollars() -> String {
    "USD".into()
}

impl Price {
    /// Returns the price on mainnet, without the additional cost of writing.
    pub fn mainnet() -> Self {
        Price {
            currency: dollars(),
            storage: MAINNET_GB_MONTH * MAINNET_EPOCH_DAYS / DAYS_A_MONTH,
            write: 0.0,
        }
    }
}
