//! Connection pool that drops connections when they may be dead.
//!
//! A pooled connection may be dead without notice: the machine slept or changed
//! networks, or a device on the path forgot the connection. Requests over it get no
//! answer. So all idle connections are dropped after the machine has slept, and after
//! one of them broke or was silent; the next request opens a new one.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Client, ClientBuilder};
use rustix::time::{ClockId, clock_gettime};

/// Least time between drops: concurrent failures have one cause.
const AGAIN: Duration = Duration::from_secs(1);
/// A shorter sleep does not break connections.
const NAP: Duration = Duration::from_secs(5);
/// Times in a row that a pooled connection must be slower than a new one to count as
/// dead.
const OUTRUN: u32 = 2;

/// A client whose connections can be dropped, and one without a pool.
pub struct Connections {
    make: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
    /// Opens a new connection for each request.
    unpooled: Client,
    pool: Mutex<Pool>,
}

struct Pool {
    client: Client,
    renewed: Option<Instant>,
    /// Times in a row that a new connection was faster.
    outrun: u32,
    slept: Duration,
}

impl Connections {
    /// Creates clients configured by `make`: two now, one more for each drop.
    ///
    /// # Errors
    /// If a client cannot be built.
    pub fn new(
        make: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> Result<Self, reqwest::Error> {
        let pool = Pool {
            client: make().build()?,
            renewed: None,
            outrun: 0,
            slept: slept(),
        };
        Ok(Connections {
            unpooled: make().pool_max_idle_per_host(0).build()?,
            make: Box::new(make),
            pool: Mutex::new(pool),
        })
    }

    /// Returns the client with pooled connections.
    pub fn client(&self) -> Client {
        self.pool().client.clone()
    }

    /// Returns the client that opens a new connection for each request.
    pub fn unpooled(&self) -> Client {
        self.unpooled.clone()
    }

    /// Drops all idle connections; those in use continue. At most once a second.
    pub fn drop_idle(&self) {
        let due = {
            let mut pool = self.pool();
            let due = pool.renewed.is_none_or(|at| at.elapsed() >= AGAIN);
            if due {
                pool.renewed = Some(Instant::now());
            }
            due
        };
        if due {
            self.renew();
        }
    }

    /// Records that a pooled connection answered.
    pub fn answered(&self) {
        self.pool().outrun = 0;
    }

    /// Records that a new connection answered before a pooled one, which may be dead.
    pub fn outrun(&self) {
        let dead = {
            let mut pool = self.pool();
            pool.outrun += 1;
            pool.outrun >= OUTRUN
        };
        if dead {
            self.drop_idle();
        }
    }

    /// Whether the machine slept since the last call; if so, drops all idle connections.
    pub fn woke_up(&self) -> bool {
        self.woke_up_after(slept())
    }

    fn woke_up_after(&self, slept: Duration) -> bool {
        let woke = {
            let mut pool = self.pool();
            let woke = slept.saturating_sub(pool.slept) >= NAP;
            if woke {
                pool.slept = slept;
                pool.renewed = Some(Instant::now());
            }
            woke
        };
        if woke {
            self.renew();
        }
        woke
    }

    /// Builds a new client while requests continue, then replaces the old one.
    fn renew(&self) {
        match (self.make)().build() {
            Ok(client) => {
                let mut pool = self.pool();
                pool.client = client;
                pool.outrun = 0;
            }
            Err(error) => tracing::warn!("connections are kept: {error}"),
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// Time that the machine has slept since boot: the difference of a clock that counts
/// sleep and the one used for time-outs, which does not.
fn slept() -> Duration {
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
    fn they_are_made_anew_when_the_machine_slept_and_once_for_many_failures() {
        let (made, connections) = counted();
        assert_eq!(made.load(Ordering::Relaxed), 2, "one of them keeps none");
        assert!(!connections.woke_up());
        connections.drop_idle();
        connections.drop_idle();
        assert_eq!(made.load(Ordering::Relaxed), 3);
        let slept = slept();
        assert!(!connections.woke_up_after(slept + NAP / 2));
        assert!(connections.woke_up_after(slept + NAP * 2));
        assert!(!connections.woke_up_after(slept + NAP * 2));
        assert_eq!(made.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_second_request_builds_no_client_and_keeps_warm_connections() {
        let (made, connections) = counted();
        for _ in 0..100 {
            drop(connections.client());
            drop(connections.unpooled());
            connections.outrun();
            connections.answered();
        }
        assert_eq!(made.load(Ordering::Relaxed), 2);
        connections.outrun();
        connections.outrun();
        let made = made.load(Ordering::Relaxed);
        assert_eq!(
            made, 3,
            "outrun twice in a row: those that are kept are dead"
        );
    }

    #[test]
    fn requests_go_on_while_a_client_is_built() {
        use std::sync::mpsc::channel;
        let (begun, is_begun) = channel();
        let (go_on, goes_on) = channel();
        let (first, goes_on) = (AtomicU32::new(0), Mutex::new(goes_on));
        let connections = Connections::new(move || {
            if first.fetch_add(1, Ordering::Relaxed) >= 2 {
                begun.send(()).unwrap();
                goes_on.lock().unwrap().recv().unwrap();
            }
            crate::net::http::client()
        });
        let connections = Arc::new(connections.unwrap());
        let renewing = std::thread::spawn({
            let connections = connections.clone();
            move || connections.drop_idle()
        });
        is_begun.recv().unwrap();
        // Would deadlock if the lock were held.
        drop(connections.client());
        go_on.send(()).unwrap();
        renewing.join().unwrap();
    }
}
