//! Counters and failures of a run.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::testbed::ProcessSize;

/// Time limit of a system call: it sends at most a handful of requests to the driver,
/// each within its deadline, plus time for a slow machine and a stopped daemon.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(super::testbed::DEADLINE_S * 5 + 15);

#[derive(Debug, Default)]
pub(super) struct Statistics {
    operations: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) publish_failed: AtomicU64,
    faults: AtomicU64,
    pub(super) disruptions: AtomicU64,
    details: Mutex<Details>,
}

#[derive(Debug, Default)]
struct Details {
    longest: (Duration, String),
    wrong: Vec<String>,
    late: Vec<String>,
    recovery: Duration,
    sizes: Option<(ProcessSize, ProcessSize)>,
}

impl Statistics {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Runs `work`, which must end within `limit`.
    pub(super) fn timed<T, E>(
        &self,
        what: impl FnOnce() -> String,
        limit: Duration,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let started = Instant::now();
        let done = work();
        let took = started.elapsed();
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.failed
            .fetch_add(u64::from(done.is_err()), Ordering::Relaxed);
        let mut details = self.details.lock().unwrap();
        let longest = took > details.longest.0 && limit == MAX_DURATION;
        if longest || took > limit {
            let what = what();
            if took > limit {
                details.late.push(format!("{what} took {took:?}"));
            }
            if longest {
                details.longest = (took, what);
            }
        }
        done
    }

    /// Counts bytes that were read and compared.
    pub(super) fn record_read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn record_error(&self, what: String) {
        eprintln!("chaos: wrong: {what}");
        self.details.lock().unwrap().wrong.push(what);
    }

    pub(super) fn record_faults(&self, faults: u64) {
        self.faults.fetch_add(faults, Ordering::Relaxed);
    }

    pub(super) fn record_recovery(&self, after: Duration) {
        let mut details = self.details.lock().unwrap();
        details.recovery = details.recovery.max(after);
    }

    pub(super) fn record_size(&self, before: ProcessSize, after: ProcessSize) {
        self.details.lock().unwrap().sizes = Some((before, after));
    }

    pub(super) fn assert_healthy(&self) {
        let details = self.details.lock().unwrap();
        assert!(details.wrong.is_empty(), "wrong: {:#?}", details.wrong);
        assert!(details.late.is_empty(), "late: {:#?}", details.late);
        for (count, what) in [
            (&self.bytes, "was read"),
            (&self.published, "was published"),
            (&self.faults, "went wrong"),
        ] {
            assert_ne!(count.load(Ordering::Relaxed), 0, "nothing {what}");
        }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let details = self.details.lock().unwrap();
        write!(
            f,
            "{} operations ({} failed, as they may), {:.1} MB compared, {} faults and {} blows, \
             {} published ({} failed), longest stall {:.1} s ({}), wrong {}, late {}, recovered \
             in {:.1} s",
            count(&self.operations),
            count(&self.failed),
            count(&self.bytes) as f64 / 1e6,
            count(&self.faults),
            count(&self.disruptions),
            count(&self.published),
            count(&self.publish_failed),
            details.longest.0.as_secs_f64(),
            details.longest.1,
            details.wrong.len(),
            details.late.len(),
            details.recovery.as_secs_f64(),
        )?;
        match &details.sizes {
            Some((before, after)) => write!(f, "; daemon {before}, then {after}"),
            None => Ok(()),
        }
    }
}
