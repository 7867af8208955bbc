//! Log of compactions and their cost: JSON lines, per network.
//!
//! The planned cost is recorded first, and corrected when the actual cost is known: a run
//! that is killed counts with its planned cost.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::lifecycle::LogError;
use walgit_durable::AppendLog;

/// Period over which spending is summed, in seconds: 30 days.
const SPENDING_PERIOD_SECONDS: u64 = 30 * 24 * 3600;

/// A compaction of a head, or a cost entry for one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CompactionRecord {
    /// The name that was moved.
    pub name: String,
    /// Time in seconds since 1970.
    pub at: u64,
    /// Address before.
    pub from: String,
    /// Address after.
    pub to: String,
    /// Cost in addition to what was recorded before; negative if that was too much.
    pub cost: f64,
    /// Whether the name was moved.
    pub moved: bool,
    /// Bytes that were written.
    pub bytes: u64,
}

/// The compactions of one network.
#[derive(Clone, Debug)]
pub(super) struct CompactionLog {
    log: AppendLog,
}

impl CompactionLog {
    /// Opens the log in `dir`, which need not exist yet.
    pub(super) fn new(dir: &Path) -> Self {
        CompactionLog {
            log: AppendLog::new(dir.join("compactions.jsonl")),
        }
    }

    /// Returns all records, oldest first. A line truncated by a crash is skipped.
    pub(super) fn all(&self) -> Result<Vec<CompactionRecord>, LogError> {
        let read = self.log.read().map_err(LogError::at(self.log.path()))?;
        Ok(read.records)
    }

    /// Returns when a name was last moved, in seconds since 1970.
    pub(super) fn last(&self, name: &str) -> Result<Option<u64>, LogError> {
        let all = self.all()?;
        let moved = all.iter().rfind(|it| it.moved && it.name == name);
        Ok(moved.map(|it| it.at))
    }

    /// Returns the amount spent in the 30 days before `now`.
    pub(super) fn spent(&self, now: u64) -> Result<f64, LogError> {
        let all = self.all()?;
        let recent = all
            .iter()
            .filter(|it| it.at + SPENDING_PERIOD_SECONDS > now);
        Ok(recent.map(|it| it.cost).sum::<f64>().max(0.0))
    }

    /// Appends a record and waits until it is on disk.
    pub(super) fn append(&self, record: &CompactionRecord) -> Result<(), LogError> {
        self.log
            .append(record)
            .map_err(LogError::at(self.log.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spending_counts_for_thirty_days_and_the_last_move_of_a_name_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let log = CompactionLog::new(&dir.path().join("not there yet"));
        assert_eq!(log.spent(0).unwrap(), 0.0);
        for (name, at, cost) in [("a", 1000, 1.0), ("b", 2000, 2.0), ("a", 3000, 4.0)] {
            let record = CompactionRecord {
                name: name.into(),
                at,
                from: "walrus://x".into(),
                to: "walrus://y".into(),
                cost,
                moved: true,
                bytes: 1,
            };
            log.append(&record).unwrap();
        }
        assert_eq!(log.last("a").unwrap(), Some(3000));
        assert_eq!(log.last("c").unwrap(), None);
        assert_eq!(log.spent(3000).unwrap(), 7.0);
        assert_eq!(log.spent(1500 + SPENDING_PERIOD_SECONDS).unwrap(), 6.0);
    }
}
