//! How files are laid out: the section `[tiers]`.
//!
//! ```toml
//! [tiers]
//! weights = { size = 0.30, access = 0.25, class = 0.15, network = 0.10, cost = 0.20 }
//! access = 0.5                   # part of the sessions that open a file, 0 to 1
//! round_trip_ms = 50             # what publishes reckon with
//! bandwidth = 12_500_000         # bytes a second
//! ```
//!
//! A publish reckons with the same access and network for every file, whatever
//! was measured on this machine: the same input has to give the same bytes on
//! every one, or an interrupted publish would not find what it has stored, and
//! two people who publish one tree would pay for it twice. Who sets these values
//! sets them for all of that.

use serde::{Deserialize, Serialize};

/// What `[tiers]` says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tiers {
    /// How much each term counts.
    pub weights: Weights,
    /// Part of the sessions that open a file, 0..=1, where nobody has counted.
    pub access: f64,
    /// Time from asking to an answer, in milliseconds, where nobody has measured.
    pub round_trip_ms: f64,
    /// What the link carries, in bytes a second, where nobody has measured.
    pub bandwidth: f64,
}

/// How much each term of a score counts. Only what they are to each other
/// matters: they are divided by their sum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// How long the file is.
    pub size: f64,
    /// How often it is opened.
    pub access: f64,
    /// What it is, and whether it shrinks.
    pub class: f64,
    /// What requests and bytes take.
    pub network: f64,
    /// What is billed for it.
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
    /// All of them: size, access, class, network, cost.
    fn all(&self) -> [f64; 5] {
        [self.size, self.access, self.class, self.network, self.cost]
    }

    /// The same, with a sum of one.
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
    /// Refuses what cannot be meant, with the reason.
    pub(super) fn check(&self) -> Result<(), String> {
        let sound = |value: f64| (0.0..=1e6).contains(&value);
        let weights = self.weights.all();
        if !weights.into_iter().all(sound) {
            return Err("a weight in [tiers] is from 0 to 1000000".into());
        }
        if weights.iter().sum::<f64>() < 1e-6 {
            return Err("the weights in [tiers] are all 0; one of them has to count".into());
        }
        if !(0.0..=1.0).contains(&self.access) {
            return Err("access in [tiers] is from 0 to 1".into());
        }
        if !(0.001..=60_000.0).contains(&self.round_trip_ms) {
            return Err("round_trip_ms in [tiers] is from 0.001 to 60000".into());
        }
        match (1.0..=1e12).contains(&self.bandwidth) {
            true => Ok(()),
            false => Err("bandwidth in [tiers] is from 1 byte a second on".into()),
        }
    }
}
