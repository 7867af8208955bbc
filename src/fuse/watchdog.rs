//! Answers requests whose work blocks its thread.
//!
//! A timer of the runtime fires only if the work yields and a thread of the runtime
//! is free. To guarantee that the kernel gets a reply and no process hangs
//! uninterruptibly, a separate thread fails overdue requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Extra time for the timer of the runtime, which reports a more precise error.
const GRACE_PERIOD: Duration = Duration::from_millis(500);

/// Fails a request. Must not block.
type Expire = Box<dyn FnOnce() + Send>;
type RequestKey = (Instant, u64);

struct PendingRequests {
    next: u64,
    requests: BTreeMap<RequestKey, Expire>,
    is_running: bool,
}

static WATCHED: Mutex<PendingRequests> = Mutex::new(PendingRequests {
    next: 0,
    requests: BTreeMap::new(),
    is_running: false,
});
static CHANGED: Condvar = Condvar::new();

/// Watches a request until dropped.
pub(super) struct Watch(RequestKey);

/// Watches a request for `deadline` plus a grace period; calls `expire` afterwards.
pub(super) fn watch(deadline: Duration, expire: impl FnOnce() + Send + 'static) -> Watch {
    let mut watched = WATCHED.lock();
    watched.next += 1;
    let key = (Instant::now() + deadline + GRACE_PERIOD, watched.next);
    watched.requests.insert(key, Box::new(expire));
    let is_first = (watched.requests.first_key_value()).is_some_and(|(first, _)| *first == key);
    if !watched.is_running {
        let thread = std::thread::Builder::new().name("watchdog".into());
        match thread.spawn(run) {
            Ok(_) => watched.is_running = true,
            Err(error) => tracing::warn!("the watchdog thread cannot be started: {error}"),
        }
    } else if is_first {
        CHANGED.notify_one();
    }
    Watch(key)
}

impl Drop for Watch {
    fn drop(&mut self) {
        let removed = WATCHED.lock().requests.remove(&self.0);
        // The closure is dropped without the lock, because it may own anything.
        drop(removed);
    }
}

fn run() {
    let mut watched = WATCHED.lock();
    loop {
        match watched.requests.first_entry() {
            None => CHANGED.wait(&mut watched),
            Some(first) if first.key().0 <= Instant::now() => {
                let expire = first.remove();
                MutexGuard::unlocked(&mut watched, expire);
            }
            Some(first) => {
                let due = first.key().0;
                CHANGED.wait_until(&mut watched, due);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn overdue_requests_expire_in_order_and_completed_ones_do_not() {
        let (sender, expired) = mpsc::channel();
        let send = |name: &'static str| {
            let sender = sender.clone();
            move || {
                let _ = sender.send(name);
            }
        };
        let _late = watch(Duration::from_millis(20), send("late"));
        let _early = watch(Duration::ZERO, send("early"));
        drop(watch(Duration::from_millis(10), send("done")));
        assert_eq!(expired.recv(), Ok("early"));
        assert_eq!(expired.recv(), Ok("late"));
    }
}
