//! What storage costs: the section `[networks.NAME.price]`.
//!
//! ```toml
//! [networks.mine.price]
//! currency = "WAL"                # "USD" where nothing is set
//! storage = 0.011                 # for a GB (10⁹ bytes as billed) and an epoch
//! write = 0.002                   # for a GB that is written, once; 0
//! ```

use serde::{Deserialize, Serialize};

/// About what a GB costs a month on mainnet, and how long its epochs are.
const MAINNET_GB_MONTH: f64 = 0.023;
const MAINNET_EPOCH_DAYS: f64 = 14.0;
const DAYS_A_MONTH: f64 = 365.25 / 12.0;

/// What a network asks for storage. A GB is 10⁹ bytes, as billed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of what: `USD`, `WAL`.
    #[serde(default = "dollars")]
    pub currency: String,
    /// For a GB and an epoch.
    pub storage: f64,
    /// For a GB that is written, once.
    #[serde(default)]
    pub write: f64,
}

fn dollars() -> String {
    "USD".into()
}

impl Price {
    /// The price on mainnet. What writing costs beside storage is not in it.
    pub fn mainnet() -> Self {
        Price {
            currency: dollars(),
            storage: MAINNET_GB_MONTH * MAINNET_EPOCH_DAYS / DAYS_A_MONTH,
            write: 0.0,
        }
    }
}
