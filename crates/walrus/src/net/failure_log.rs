//! Counts of failures.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::failures::{Failure, FailureKind};
use super::journal::Journal;

/// Most (endpoint, kind) pairs counted; further ones are dropped, so that servers cannot
/// fill our memory.
const MAX_PAIRS: usize = 256;

/// Count of one kind of failure at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCount {
    /// URL of the endpoint.
    pub endpoint: String,
    /// Kind of failure.
    pub kind: FailureKind,
    /// Number of failures.
    pub count: u64,
    /// Time of the latest, in seconds since 1970.
    pub last: u64,
    /// Message of the latest.
    pub message: String,
}

/// Counts failures by endpoint and kind, and writes each into the journal.
#[derive(Debug, Default)]
pub struct FailureLog {
    counts: Mutex<BTreeMap<(String, FailureKind), FailureCount>>,
    journal: Option<Arc<Journal>>,
}

impl FailureLog {
    /// Creates a log that also writes to `journal`.
    pub fn new(journal: Option<Arc<Journal>>) -> Self {
        FailureLog {
            counts: Mutex::default(),
            journal,
        }
    }

    /// Records a failure.
    pub fn record(&self, failure: Failure) {
        tracing::debug!(
            endpoint = failure.endpoint,
            operation = &*failure.operation,
            kind = failure.kind.name(),
            severity = ?failure.severity,
            attempt = failure.attempt,
            done = ?failure.handling,
            consequence = ?failure.consequence,
            "request failed: {}",
            failure.message
        );
        self.count(&failure);
        if let Some(journal) = &self.journal {
            journal.record(failure);
        }
    }

    fn count(&self, failure: &Failure) {
        let mut counts = self.counts.lock();
        let key = (failure.endpoint.clone(), failure.kind);
        if counts.len() >= MAX_PAIRS && !counts.contains_key(&key) {
            return;
        }
        let entry = counts.entry(key).or_insert_with(|| FailureCount {
            endpoint: failure.endpoint.clone(),
            kind: failure.kind,
            count: 0,
            last: 0,
            message: String::new(),
        });
        entry.count += 1;
        entry.last = failure.time;
        entry.message.clone_from(&failure.message);
    }

    /// Returns all counts.
    pub fn counts(&self) -> Vec<FailureCount> {
        let counts = self.counts.lock();
        counts.values().cloned().collect()
    }
}
