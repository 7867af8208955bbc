//! Layout of files: the section `[tiers]`.
//!
//! A publish uses the same access and network values for every file, regardless of local
//! measurements: equal input must produce equal bytes on every machine. Otherwise an
//! interrupted publish would not find its stored blobs, and two users who publish the
//! same tree would pay for it twice. Changing these values changes the layout of all of
//! that.

use serde::{Deserialize, Serialize};

use super::units::check_range;

/// Section `[tiers]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tiers {
    /// Weights of the terms.
    pub weights: Weights,
    /// Default fraction of sessions that open a file, 0..=1, without measurements.
    pub access: f64,
    /// Default round-trip time in milliseconds, without measurements.
    pub round_trip_ms: f64,
    /// Default bandwidth in bytes per second, without measurements.
    pub bandwidth: f64,
}

/// Weights of the terms of a score. Only their ratios matter: they are normalized.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// Size of the file.
    pub size: f64,
    /// Frequency of access.
    pub access: f64,
    /// Class of the content, and whether it compresses.
    pub class: f64,
    /// Time for requests and transfer.
    pub network: f64,
    /// Billed storage.
    pub cost: f64,
}

impl Default for Tiers {
    /// A file that half of the sessions open, 50 ms away over 100 Mbit/s.
    fn default() -> Self {
        Tiers {
            weights: Weights::default(),
            access: 0.5,
            round_trip_ms: 50.0,
            bandwidth: 12_500_000.0,
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Weights {
            size: 0.30,
            access: 0.25,
            class: 0.15,
            network: 0.10,
            cost: 0.20,
        }
    }
}

impl Weights {
    /// All weights: size, access, class, network, cost.
    fn all(&self) -> [f64; 5] {
        [self.size, self.access, self.class, self.network, self.cost]
    }

    /// Returns the weights normalized to a sum of one.
    pub fn normal(&self) -> Weights {
        let sum: f64 = self.all().iter().sum();
        Weights {
            size: self.size / sum,
            access: self.access / sum,
            class: self.class / sum,
            network: self.network / sum,
            cost: self.cost / sum,
        }
    }
}

impl Tiers {
    /// Rejects invalid values, with the reason.
    pub(super) fn check(&self) -> Result<(), String> {
        let weights = self.weights.all();
        for weight in weights {
            check_range("a weight in [tiers]", weight, 0.0..=1e6)?;
        }
        if weights.iter().sum::<f64>() < 1e-6 {
            return Err("all weights in [tiers] are 0; set at least one higher".into());
        }
        check_range("access in [tiers]", self.access, 0.0..=1.0)?;
        check_range(
            "round_trip_ms in [tiers]",
            self.round_trip_ms,
            0.001..=60_000.0,
        )?;
        check_range("bandwidth in [tiers]", self.bandwidth, 1.0..=1e12)
    }
}
