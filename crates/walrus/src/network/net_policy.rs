//! Rules for requests to remote servers.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The section `[net]` of the config file, with its defaults:
///
/// ```toml
/// [net]
/// retries = 5               # after the first attempt
/// first_pause_ms = 1000     # before the first retry; doubles with each
/// longest_pause_ms = 30_000
/// breaker_failures = 5      # in a row, then the breaker opens
/// breaker_open_ms = 30_000  # for this long
/// breaker_successes = 2     # in a row, then it closes
/// concurrency = 32          # concurrent requests to one server
/// hedge_percentile = 95     # slower reads are hedged
/// hedge_percent = 5         # at most this share of reads; 0 for none
/// quarantine_s = 600        # after repeated corrupt bytes
/// ca = "company.pem"        # additional trusted certificates
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetPolicy {
    /// Retries after the first attempt.
    pub retries: u32,
    /// Pause before the first retry, in milliseconds; doubles with each.
    pub first_pause_ms: u64,
    /// Longest pause, in milliseconds.
    pub longest_pause_ms: u64,
    /// Failures in a row that open a server's breaker.
    pub breaker_failures: u32,
    /// Time that the breaker stays open, in milliseconds.
    pub breaker_open_ms: u64,
    /// Successes in a row that close the breaker.
    pub breaker_successes: u32,
    /// Most concurrent requests to one server.
    pub concurrency: u32,
    /// Percentile of read times after which a read is hedged.
    pub hedge_percentile: u8,
    /// Most hedged reads per 100 reads.
    pub hedge_percent: u8,
    /// Length of the quarantine of a server that returned corrupt bytes twice, in
    /// seconds; doubles each time.
    pub quarantine_s: u64,
    /// File of PEM certificates to trust in addition to the system's; relative to the
    /// config file.
    pub ca: Option<PathBuf>,
}

impl Default for NetPolicy {
    fn default() -> Self {
        NetPolicy {
            retries: 5,
            first_pause_ms: 1000,
            longest_pause_ms: 30_000,
            breaker_failures: 5,
            breaker_open_ms: 30_000,
            breaker_successes: 2,
            concurrency: 32,
            hedge_percentile: 95,
            hedge_percent: 5,
            quarantine_s: 600,
            ca: None,
        }
    }
}

impl NetPolicy {
    /// Checks the values, and makes the path absolute, relative to the config file.
    ///
    /// # Errors
    /// A sentence that names the invalid value.
    pub fn settle(&mut self, config: &Path) -> Result<(), String> {
        for (name, value, min, max) in [
            ("retries", self.retries, 0, 100),
            ("breaker_failures", self.breaker_failures, 1, 1000),
            ("breaker_successes", self.breaker_successes, 1, 1000),
            ("concurrency", self.concurrency, 1, 1000),
            ("hedge_percentile", self.hedge_percentile.into(), 50, 99),
            ("hedge_percent", self.hedge_percent.into(), 0, 100),
        ] {
            if !(min..=max).contains(&value) {
                return Err(format!("net.{name} must be {min} to {max}"));
            }
        }
        if let (Some(ca), Some(dir)) = (&mut self.ca, config.parent()) {
            let absolute = std::path::absolute(dir.join(&*ca));
            *ca = absolute.map_err(|error| format!("net.ca: {error}"))?;
        }
        Ok(())
    }
}
