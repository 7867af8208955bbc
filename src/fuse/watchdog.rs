//! Answers requests whose work blocks its thread.
//!
//! A timer of the runtime fires only if the work yields and a thread of the runtime
//! is free. To guarantee that the kernel gets a reply and no process hangs
//! uninterruptibly, a separate thread fails overdue requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Extra time for the timer of the runtime, which reports a more precise error.
const GRACE: Duration = Duration::from_millis(500);

/// A request that can expire.
pub(super) trait Overdue: Send + Sync {
    /// Fails the request. Must not block.
    fn expire(&self);
}

type Key = (Instant, u64);

#[derive(Default)]
struct Watched {
    next: u64,
    requests: BTreeMap<Key, Arc<dyn Overdue>>,
    runs: bool,
}

struct Watchdog {
    watched: Mutex<Watched>,
    changed: Condvar,
}

static WATCHDOG: LazyLock<Watchdog> = LazyLock::new(|| Watchdog {
    watched: Mutex::default(),
    changed: Condvar::new(),
});

/// Watches a request until dropped.
pub(super) struct Watch(Key);

/// Watches a request for `deadline` plus a grace period.
pub(super) fn watch(deadline: Duration, request: Arc<dyn Overdue>) -> Watch {
    let mut watched = WATCHDOG.watched();
    watched.next += 1;
    let key = (Instant::now() + deadline + GRACE, watched.next);
    let first = watched.requests.first_key_value();
    let earlier = first.is_none_or(|(first, _)| key < *first);
    watched.requests.insert(key, request);
    if !watched.runs {
        let name = String::from("watchdog");
        let run = std::thread::Builder::new()
            .name(name)
            .spawn(|| WATCHDOG.run());
        match run {
            Ok(_) => watched.runs = true,
            Err(error) => tracing::warn!("no thread to watch over deadlines: {error}"),
        }
    } else if earlier {
        WATCHDOG.changed.notify_one();
    }
    Watch(key)
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHDOG.watched().requests.remove(&self.0);
    }
}

impl Watchdog {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut watched = self.watched();
        loop {
            let now = Instant::now();
            let Some(first) = watched.requests.first_entry() else {
                let waited = self.changed.wait(watched);
                watched = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (due, _) = *first.key();
            if due <= now {
                let overdue = first.remove();
                drop(watched);
                overdue.expire();
                watched = self.watched();
            } else {
                let waited = self.changed.wait_timeout(watched, due - now);
                watched = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Tells(mpsc::Sender<&'static str>, &'static str);

    impl Overdue for Tells {
        fn expire(&self) {
            let _ = self.0.send(self.1);
        }
    }

    #[test]
    fn what_is_overdue_is_failed_in_order_and_what_is_done_is_not() {
        let (sender, told) = mpsc::channel();
        let tells = |name| Arc::new(Tells(sender.clone(), name));
        let _late = watch(Duration::from_millis(20), tells("late"));
        let _early = watch(Duration::ZERO, tells("early"));
        drop(watch(Duration::from_millis(10), tells("done")));
        assert_eq!(told.recv(), Ok("early"));
        assert_eq!(told.recv(), Ok("late"));
    }
}
