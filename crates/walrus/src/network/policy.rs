//! How requests to somebody else's machine are made.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What `[net]` of the config file says; each has the default that is named.
///
/// ```toml
/// [net]
/// retries = 5               # after the first attempt
/// first_pause_ms = 1000     # before the first retry; doubles with each
/// longest_pause_ms = 30_000
/// breaker_failures = 5      # in a row, then a server is left alone
/// breaker_open_ms = 30_000  # for so long
/// breaker_successes = 2     # in a row, then it is trusted again
/// concurrency = 32          # requests to one server at once
/// hedge_percentile = 95     # a slower read is asked for a second time
/// hedge_percent = 5         # of all reads at most; 0 for never
/// quarantine_s = 600        # how long a server that lied is asked last
/// ca = "company.pem"        # trust these certificates as well
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
    /// Failures in a row after which a server is left alone.
    pub breaker_failures: u32,
    /// For how long, in milliseconds.
    pub breaker_open_ms: u64,
    /// Successes in a row after which it is used as before.
    pub breaker_successes: u32,
    /// Most requests to one server at once.
    pub concurrency: u32,
    /// A read slower than so many of 100 is asked for a second time.
    pub hedge_percentile: u8,
    /// Most of 100 reads that are asked for a second time.
    pub hedge_percent: u8,
    /// How long a server that lied twice is asked last, in seconds; doubles
    /// each time.
    pub quarantine_s: u64,
    /// A file of PEM certificates that are trusted beside the system's; a
    /// relative path is one beside the config file.
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
    /// Checks its values, and makes its path absolute, relative to the config file.
    ///
    /// # Errors
    /// A sentence that names the value.
    pub fn settle(&mut self, config: &Path) -> Result<(), String> {
        let within =
            |name: &str, value: u32, least: u32, most: u32| match (least..=most).contains(&value) {
                true => Ok(()),
                false => Err(format!("net.{name} must be {least} to {most}")),
            };
        within("retries", self.retries, 0, 100)?;
        within("breaker_failures", self.breaker_failures, 1, 1000)?;
        within("breaker_successes", self.breaker_successes, 1, 1000)?;
        within("concurrency", self.concurrency, 1, 1000)?;
        within("hedge_percentile", self.hedge_percentile.into(), 50, 99)?;
        within("hedge_percent", self.hedge_percent.into(), 0, 100)?;
        if let (Some(ca), Some(dir)) = (&mut self.ca, config.parent()) {
            let beside = std::path::absolute(dir.join(&*ca));
            *ca = beside.map_err(|error| format!("net.ca: {error}"))?;
        }
        Ok(())
    }
}
