//! Connections to servers, thrown away when they may be dead.
//!
//! A connection that was kept for the next request may be dead without our
//! knowing: the machine slept, or moved to another network, or something on
//! the way forgot it. What is sent over it meets silence. So all connections
//! are dropped when the machine has slept, and when one of them broke or was
//! silent; the next request makes a new one.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Client, ClientBuilder};
use rustix::time::{ClockId, clock_gettime};

/// Failures of many requests at once have one cause.
const AGAIN: Duration = Duration::from_secs(1);
/// A sleep shorter than this breaks nothing.
const NAP: Duration = Duration::from_secs(5);
/// Kept connections that were slower than a new one so often in a row are taken
/// to be dead.
const OUTRUN: u32 = 2;

/// A client whose connections can be dropped, and one that keeps none.
pub struct Connections {
    make: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
    /// Opens a connection for each request.
    unpooled: Client,
    pool: Mutex<Pool>,
}

struct Pool {
    client: Client,
    renewed: Option<Instant>,
    /// How often in a row a new connection was faster.
    outrun: u32,
    slept: Duration,
}

impl Connections {
    /// Clients that `make` configures: two now, one more whenever connections
    /// are dropped.
    ///
    /// # Errors
    /// When a client cannot be built.
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

    /// To send a request with.
    pub fn client(&self) -> Client {
        self.pool().client.clone()
    }

    /// To send a request over a connection that is certainly a new one.
    pub fn unpooled(&self) -> Client {
        self.unpooled.clone()
    }

    /// Drops all that are idle; those in use go on. At most once a second.
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

    /// A kept connection answered.
    pub fn answered(&self) {
        self.pool().outrun = 0;
    }

    /// A new connection answered before a kept one did, which may be dead.
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

    /// Whether the machine slept since this was asked last; then all are
    /// dropped.
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

    /// Builds a client while requests go on, then puts it in place.
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

/// How long the machine has slept since it was started: the one clock counts
/// that, the other, which all time-outs go by, does not.
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
        // Would wait for ever if the lock were held.
        drop(connections.client());
        go_on.send(()).unwrap();
        renewing.join().unwrap();
    }
}
