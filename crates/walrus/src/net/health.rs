//! State of a gateway, for display.

use serde::{Deserialize, Serialize};

use super::breaker::BreakerState;
use super::conditions::Conditions;

/// Role of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// For reads.
    Aggregator,
    /// For writes.
    Publisher,
}

/// State of one gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointHealth {
    /// URL, without a password.
    pub url: String,
    /// Role of the gateway.
    pub role: Role,
    /// Network conditions; `None` before the first answer, and for publishers.
    pub conditions: Option<Conditions>,
    /// State of its circuit breaker.
    pub breaker: BreakerState,
    /// Seconds until the next probe, if the breaker is open.
    pub probe_in_s: Option<u64>,
    /// Remaining seconds of quarantine, during which it is asked last, after corrupt bytes.
    pub quarantined_s: Option<u64>,
    /// Number of proven corrupt answers.
    #[serde(rename = "lies")]
    pub integrity_violations: u32,
    /// Present limit of concurrent requests.
    #[serde(rename = "at_once")]
    pub concurrency_limit: u32,
}
