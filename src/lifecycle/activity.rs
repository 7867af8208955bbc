//! Repository activity: commits, publishes and mounts within a time window.
//!
//! Commits are counted in the repository and publishes in the ledger. Mounts are logged
//! in a file per network, one line each; when the file grows, entries older than any
//! window are dropped. A damaged line counts as a recent mount of every repository,
//! because it is unknown which repository was mounted, and when.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{EntryKind, LedgerEntry};
use crate::config::{ActivityLevels, Level};
use crate::repo::Repository;
use walgit_durable::Records;
use walgit_durable::{AppendLog, LockedLog};

/// Size in bytes above which the file is rewritten without old entries.
const MAX_LOG_BYTES: u64 = 1 << 20;
/// Age in days after which an entry counts in no window.
const MAX_AGE_DAYS: u64 = 3650;
const DAY_SECONDS: u64 = 24 * 3600;

/// A logged mount.
#[derive(Debug, Serialize, Deserialize)]
struct Mounted {
    at: u64,
    name: String,
}

/// The mount log of one network.
#[derive(Clone, Debug)]
pub struct Activity {
    log: AppendLog,
}

impl Activity {
    /// Creates a log in `file`, which need not exist yet.
    pub fn new(file: PathBuf) -> Self {
        let log = AppendLog::new(file);
        Activity { log }
    }

    /// Records that a repository was mounted at `at`, in seconds since 1970.
    ///
    /// # Errors
    /// When the file cannot be written; a mount does not depend on it.
    pub fn mounted(&self, name: &str, at: u64) -> std::io::Result<()> {
        let mut log = self.log.lock()?;
        if log.size() > MAX_LOG_BYTES {
            tidy(&mut log, at)?;
        }
        log.append(&Mounted {
            at,
            name: name.into(),
        })
    }

    /// Verifies that the file is readable, for callers that base decisions on it.
    pub fn check(&self) -> std::io::Result<()> {
        self.read().map(drop)
    }

    /// Returns an upper bound for the number of mounts of a repository since `since`.
    pub fn mounts(&self, name: &str, since: u64) -> std::io::Result<u64> {
        let read = self.read()?;
        let of_it = |it: &&Mounted| it.name == name && it.at >= since;
        let known = read.records.iter().filter(of_it).count();
        Ok((known + read.unreadable) as u64)
    }

    /// Returns when a repository was last mounted, in seconds since 1970; `now` if that
    /// is unknown.
    pub fn last(&self, name: &str, now: u64) -> std::io::Result<Option<u64>> {
        let read = self.read()?;
        if read.unreadable > 0 {
            return Ok(Some(now));
        }
        let of_it = |it: &&Mounted| it.name == name;
        Ok(read.records.iter().filter(of_it).map(|it| it.at).max())
    }

    /// Returns how active the repository of a name is at `now`, from its publishes, its
    /// mounts, and its commits as far as they can be read.
    pub async fn level(
        &self,
        name: &str,
        levels: &ActivityLevels,
        ledger: &[LedgerEntry],
        repository: Option<&Repository>,
        now: u64,
    ) -> std::io::Result<Level> {
        let since = now.saturating_sub(u64::from(levels.window_days) * DAY_SECONDS);
        let of_it =
            |it: &&LedgerEntry| it.name == name && it.at >= since && it.kind == EntryKind::Publish;
        let publishes = ledger.iter().filter(of_it).count() as u64;
        let commits = match repository {
            Some(repository) => commits(repository, since).await,
            None => 0,
        };
        let (this, name) = (self.clone(), name.to_owned());
        let mounts = tokio::task::spawn_blocking(move || this.mounts(&name, since)).await??;
        Ok(levels.level(publishes + commits + mounts))
    }

    fn read(&self) -> std::io::Result<Records<Mounted>> {
        self.log.read().map_err(|error| {
            let path = self.log.path().display();
            std::io::Error::new(error.kind(), format!("{path}: {error}"))
        })
    }
}

/// Drops entries that are too old to count.
fn tidy(log: &mut LockedLog, now: u64) -> std::io::Result<()> {
    let oldest = now.saturating_sub(MAX_AGE_DAYS * DAY_SECONDS);
    let mut retained: Vec<Mounted> = log.read()?.records;
    retained.retain(|it| it.at >= oldest);
    // If that is still too much, keep the newest entries.
    let too_many = retained.len().saturating_sub(MAX_LOG_BYTES as usize / 100);
    log.replace(&retained[too_many..])
}

/// Counts the commits of a repository since `since`: in all of its history if that was
/// published, too.
async fn commits(repository: &Repository, since: u64) -> u64 {
    let recent = |seconds: i64| u64::try_from(seconds).is_ok_and(|at| at >= since);
    let history = repository.git_commits().await.unwrap_or_default();
    let recent = if history.is_empty() {
        let tips = repository.head().commits.iter();
        tips.filter(|it| !it.id.is_none() && recent(it.committer.seconds))
            .count()
    } else {
        history
            .iter()
            .filter(|it| recent(it.committer().seconds))
            .count()
    };
    recent as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_counted_by_name_and_window() {
        let dir = tempfile::tempdir().unwrap();
        let activity = Activity::new(dir.path().join("activity/local.jsonl"));
        assert_eq!(activity.mounts("a", 0).unwrap(), 0);
        for at in 0..10 {
            activity.mounted("a", at).unwrap();
        }
        activity.mounted("b", 5).unwrap();
        assert_eq!(activity.mounts("a", 5).unwrap(), 5);
        assert_eq!(activity.mounts("b", 0).unwrap(), 1);
        assert_eq!(activity.last("a", 20).unwrap(), Some(9));
        assert_eq!(activity.last("c", 20).unwrap(), None);
        // A file that grows too long is truncated, and the newest entries stay.
        let line = "{\"at\":7,\"name\":\"c\"}\n";
        let many = line.repeat((MAX_LOG_BYTES as usize / line.len()) + 1);
        std::fs::write(activity.log.path(), many).unwrap();
        activity.mounted("a", MAX_AGE_DAYS * DAY_SECONDS).unwrap();
        assert!(std::fs::metadata(activity.log.path()).unwrap().len() < MAX_LOG_BYTES);
        assert_eq!(activity.mounts("a", 1).unwrap(), 1);
    }

    #[test]
    fn damaged_lines_count_as_mounts() {
        let dir = tempfile::tempdir().unwrap();
        let activity = Activity::new(dir.path().join("local.jsonl"));
        activity.mounted("a", 5).unwrap();
        let text = std::fs::read_to_string(activity.log.path()).unwrap();
        // Only the last line may be truncated by a crash.
        let damaged = format!("{{\"at\":7,\"na\u{0}\n{text}");
        std::fs::write(activity.log.path(), damaged).unwrap();
        assert_eq!(activity.mounts("a", 0).unwrap(), 2);
        assert_eq!(activity.mounts("b", 9).unwrap(), 1);
        assert_eq!(activity.last("b", 20).unwrap(), Some(20));
        std::fs::remove_file(activity.log.path()).unwrap();
        std::fs::create_dir(activity.log.path()).unwrap();
        assert!(activity.mounts("a", 0).is_err() && activity.last("a", 20).is_err());
    }
}
