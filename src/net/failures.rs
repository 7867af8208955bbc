//! What went wrong, where, and how often.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::clock::unix_seconds;

/// How many different (endpoint, kind) pairs are counted; the rest is dropped,
/// so that nothing a server says can fill our memory.
const MAX_PAIRS: usize = 256;

/// Kinds of failures a person can do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No connection, or it broke.
    Connect,
    /// No answer in time.
    Timeout,
    /// The server is overloaded (429, 503).
    Overloaded,
    /// The server failed (other 5xx).
    Server,
    /// The server refuses (4xx).
    Refused,
    /// The bytes failed verification.
    Corrupt,
    /// The answer is not what the API says.
    Protocol,
    /// The server does not have it (404).
    NotFound,
}

/// How often an endpoint failed in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCount {
    /// Who.
    pub endpoint: String,
    /// How.
    pub kind: FailureKind,
    /// How often.
    pub count: u64,
    /// The latest, in seconds since 1970.
    pub last: u64,
    /// What the latest said.
    pub message: String,
}

/// Counts failures by endpoint and kind.
#[derive(Debug, Default)]
pub struct FailureLog(Mutex<BTreeMap<(String, FailureKind), FailureCount>>);

impl FailureLog {
    /// Notes a failure.
    pub fn record(&self, endpoint: &str, kind: FailureKind, message: &str) {
        tracing::debug!(endpoint, ?kind, message, "request failed");
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (endpoint.to_owned(), kind);
        if counts.len() >= MAX_PAIRS && !counts.contains_key(&key) {
            return;
        }
        let entry = counts.entry(key).or_insert_with(|| FailureCount {
            endpoint: endpoint.into(),
            kind,
            count: 0,
            last: 0,
            message: String::new(),
        });
        entry.count += 1;
        entry.last = unix_seconds();
        entry.message = message.chars().take(200).collect();
    }

    /// All counts.
    pub fn counts(&self) -> Vec<FailureCount> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values().cloned().collect()
    }
}
