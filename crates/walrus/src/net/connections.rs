//! Connection pool that drops connections when they may be dead.
//!
//! A pooled connection may be dead without notice: the machine slept or changed
//! networks, or a device on the path forgot the connection. Requests over it get no
//! answer. So all idle connections are dropped after the machine has slept, and after
//! one of them broke or was silent; the next request opens a new one.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::{Client, ClientBuilder};
use rustix::time::{ClockId, clock_gettime};

/// Least time between drops: concurrent failures have one cause.
const MIN_RESET_INTERVAL: Duration = Duration::from_secs(1);
/// A shorter sleep does not break connections.
const MIN_SLEEP: Duration = Duration::from_secs(5);
/// Times in a row that a pooled connection must be slower than a new one to count as
/// dead.
const MAX_LOST_RACES: u32 = 2;

/// A client whose connections can be dropped, and one without a pool.
pub(crate) struct Connections {
    make: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
    /// Opens a new connection for each request.
    fresh_client: Client,
    pool: Mutex<Pool>,
}

struct Pool {
    client: Client,
    last_reset: Option<Instant>,
    /// Times in a row that a new connection was faster.
    lost_races: u32,
    time_asleep: Duration,
}

impl Connections {
    /// Creates clients configured by `make`: two now, one more for each drop.
    pub(crate) fn new(
        make: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> Result<Self, reqwest::Error> {
        let pool = Pool {
            client: make().build()?,
            last_reset: None,
            lost_races: 0,
            time_asleep: time_asleep(),
        };
        Ok(Connections {
            fresh_client: make().pool_max_idle_per_host(0).build()?,
            make: Box::new(make),
            pool: Mutex::new(pool),
        })
    }

    pub(crate) fn client(&self) -> Client {
        self.pool.lock().client.clone()
    }

    /// Returns the client that opens a new connection for each request.
    pub(crate) fn fresh_client(&self) -> Client {
        self.fresh_client.clone()
    }

    /// Drops all idle connections; those in use continue. At most once a second.
    pub(crate) fn reset_pool(&self) {
        let due = {
            let mut pool = self.pool.lock();
            let due = pool
                .last_reset
                .is_none_or(|at| at.elapsed() >= MIN_RESET_INTERVAL);
            if due {
                pool.last_reset = Some(Instant::now());
            }
            due
        };
        if due {
            self.rebuild();
        }
    }

    /// Records that a pooled connection answered.
    pub(crate) fn answered(&self) {
        self.pool.lock().lost_races = 0;
    }

    /// Records that a new connection answered before a pooled one, which may be dead.
    pub(crate) fn lost_race(&self) {
        let dead = {
            let mut pool = self.pool.lock();
            pool.lost_races += 1;
            pool.lost_races >= MAX_LOST_RACES
        };
        if dead {
            self.reset_pool();
        }
    }

    /// Whether the machine slept since the last call; if so, drops all idle connections.
    pub(crate) fn detect_resume(&self) -> bool {
        self.detect_resume_after(time_asleep())
    }

    fn detect_resume_after(&self, time_asleep: Duration) -> bool {
        let woke = {
            let mut pool = self.pool.lock();
            let woke = time_asleep.saturating_sub(pool.time_asleep) >= MIN_SLEEP;
            if woke {
                pool.time_asleep = time_asleep;
                pool.last_reset = Some(Instant::now());
            }
            woke
        };
        if woke {
            self.rebuild();
        }
        woke
    }

    /// Builds a new client while requests continue, then replaces the old one.
    fn rebuild(&self) {
        match (self.make)().build() {
            Ok(client) => {
                let mut pool = self.pool.lock();
                pool.client = client;
                pool.lost_races = 0;
            }
            Err(error) => tracing::warn!("cannot reset the connection pool: {error}"),
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// Time that the machine has slept since boot: the difference of a clock that counts
/// sleep and the one used for time-outs, which does not.
fn time_asleep() -> Duration {
    let read = |clock| {
        let now = clock_gettime(clock);
        Duration::try_from(now).unwrap_or_default()
    };
    read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn counted() -> (Arc<AtomicU32>, Connections) {
        let made = Arc::new(AtomicU32::new(0));
        let counter = made.clone();
        let connections = Connections::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            crate::net::http::client()
        });
        (made, connections.unwrap())
    }

    #[test]
    fn the_pool_is_reset_after_sleep_and_once_for_many_failures() {
        let (made, connections) = counted();
        assert_eq!(made.load(Ordering::Relaxed), 2, "one of them keeps none");
        assert!(!connections.detect_resume());
        connections.reset_pool();
        connections.reset_pool();
        assert_eq!(made.load(Ordering::Relaxed), 3);
        let time_asleep = time_asleep();
        assert!(!connections.detect_resume_after(time_asleep + MIN_SLEEP / 2));
        assert!(connections.detect_resume_after(time_asleep + MIN_SLEEP * 2));
        assert!(!connections.detect_resume_after(time_asleep + MIN_SLEEP * 2));
        assert_eq!(made.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_second_request_builds_no_client_and_keeps_warm_connections() {
        let (made, connections) = counted();
        for _ in 0..100 {
            drop(connections.client());
            drop(connections.fresh_client());
            connections.lost_race();
            connections.answered();
        }
        assert_eq!(made.load(Ordering::Relaxed), 2);
        connections.lost_race();
        connections.lost_race();
        let made = made.load(Ordering::Relaxed);
        assert_eq!(
            made, 3,
            "two lost races in a row: pooled connections are dead"
        );
    }

    #[test]
    fn requests_go_on_while_a_client_is_built() {
        use std::sync::mpsc::channel;
        let (build_started, build_starts) = channel();
        let (go_on, goes_on) = channel();
        let (first, goes_on) = (AtomicU32::new(0), Mutex::new(goes_on));
        let connections = Connections::new(move || {
            if first.fetch_add(1, Ordering::Relaxed) >= 2 {
                build_started.send(()).unwrap();
                goes_on.lock().recv().unwrap();
            }
            crate::net::http::client()
        });
        let connections = Arc::new(connections.unwrap());
        let renewing = std::thread::spawn({
            let connections = connections.clone();
            move || connections.reset_pool()
        });
        build_starts.recv().unwrap();
        // Would deadlock if the lock were held.
        drop(connections.client());
        go_on.send(()).unwrap();
        renewing.join().unwrap();
    }
}
