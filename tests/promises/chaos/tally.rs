//! What came of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::town::Size;

/// Longest time one system call may take: it asks the driver a handful of
/// times at most, each within its deadline; the rest is for a slow machine and
/// for a daemon that was stopped meanwhile.
pub(super) const PATIENCE: Duration = Duration::from_secs(super::town::DEADLINE_S * 5 + 15);

#[derive(Debug, Default)]
pub(super) struct Tally {
    operations: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) publish_failed: AtomicU64,
    faults: AtomicU64,
    pub(super) blows: AtomicU64,
    rest: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    longest: (Duration, String),
    wrong: Vec<String>,
    late: Vec<String>,
    recovery: Duration,
    sizes: Option<(Size, Size)>,
}

impl Tally {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Does something that must end within [`PATIENCE`].
    pub(super) fn timed<T, E>(
        &self,
        what: impl FnOnce() -> String,
        patience: Duration,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let begun = Instant::now();
        let done = work();
        let took = begun.elapsed();
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.failed
            .fetch_add(u64::from(done.is_err()), Ordering::Relaxed);
        let mut rest = self.rest.lock().unwrap();
        let longest = took > rest.longest.0 && patience == PATIENCE;
        if longest || took > patience {
            let what = what();
            if took > patience {
                rest.late.push(format!("{what} took {took:?}"));
            }
            if longest {
                rest.longest = (took, what);
            }
        }
        done
    }

    /// Bytes that were read and compared.
    pub(super) fn right(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn wrong(&self, what: String) {
        eprintln!("chaos: wrong: {what}");
        self.rest.lock().unwrap().wrong.push(what);
    }

    pub(super) fn fired(&self, faults: u64) {
        self.faults.fetch_add(faults, Ordering::Relaxed);
    }

    pub(super) fn recovered(&self, after: Duration) {
        let mut rest = self.rest.lock().unwrap();
        rest.recovery = rest.recovery.max(after);
    }

    pub(super) fn size(&self, before: Size, after: Size) {
        self.rest.lock().unwrap().sizes = Some((before, after));
    }

    pub(super) fn must_be_fair(&self) {
        let rest = self.rest.lock().unwrap();
        assert!(rest.wrong.is_empty(), "wrong: {:#?}", rest.wrong);
        assert!(rest.late.is_empty(), "late: {:#?}", rest.late);
        for (count, what) in [
            (&self.bytes, "was read"),
            (&self.published, "was published"),
            (&self.faults, "went wrong"),
        ] {
            assert_ne!(count.load(Ordering::Relaxed), 0, "nothing {what}");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let rest = self.rest.lock().unwrap();
        write!(
            f,
            "{} operations ({} failed, as they may), {:.1} MB compared, {} faults and {} blows, \
             {} published ({} failed), longest stall {:.1} s ({}), wrong {}, late {}, recovered \
             in {:.1} s",
            count(&self.operations),
            count(&self.failed),
            count(&self.bytes) as f64 / 1e6,
            count(&self.faults),
            count(&self.blows),
            count(&self.published),
            count(&self.publish_failed),
            rest.longest.0.as_secs_f64(),
            rest.longest.1,
            rest.wrong.len(),
            rest.late.len(),
            rest.recovery.as_secs_f64(),
        )?;
        match &rest.sizes {
            Some((before, after)) => write!(f, "; daemon {before}, then {after}"),
            None => Ok(()),
        }
    }
}
