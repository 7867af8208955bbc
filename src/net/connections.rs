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

use reqwest::Client;
use rustix::time::{ClockId, clock_gettime};

/// Failures of many requests at once have one cause.
const AGAIN: Duration = Duration::from_secs(1);
/// A sleep shorter than this breaks nothing.
const NAP: Duration = Duration::from_secs(5);

/// A client whose connections can be dropped.
pub struct Connections {
    make: Box<dyn Fn() -> Result<Client, reqwest::Error> + Send + Sync>,
    pool: Mutex<Pool>,
}

struct Pool {
    client: Client,
    made: Option<Instant>,
    slept: Duration,
}

impl Connections {
    /// Made by `make`, now and whenever they are dropped.
    ///
    /// # Errors
    /// What `make` fails with.
    pub fn new(
        make: impl Fn() -> Result<Client, reqwest::Error> + Send + Sync + 'static,
    ) -> Result<Self, reqwest::Error> {
        let pool = Pool {
            client: make()?,
            made: None,
            slept: slept(),
        };
        Ok(Connections {
            make: Box::new(make),
            pool: Mutex::new(pool),
        })
    }

    /// To send a request with.
    pub fn client(&self) -> Client {
        self.pool().client.clone()
    }

    /// Drops all that are idle; those in use go on. At most once a second.
    pub fn drop_idle(&self) {
        let mut pool = self.pool();
        if pool.made.is_none_or(|made| made.elapsed() >= AGAIN) {
            self.renew(&mut pool);
        }
    }

    /// To send a request over a connection that is certainly a new one.
    pub fn apart(&self) -> Client {
        (self.make)().unwrap_or_else(|_| self.client())
    }

    /// What was [`Connections::apart`] is used from now on; those there are
    /// may be dead.
    pub fn adopt(&self, client: Client) {
        self.pool().client = client;
    }

    /// Whether the machine slept since this was asked last; then all are
    /// dropped.
    pub fn woke_up(&self) -> bool {
        self.woke_up_after(slept())
    }

    fn woke_up_after(&self, slept: Duration) -> bool {
        let mut pool = self.pool();
        let woke = slept.saturating_sub(pool.slept) >= NAP;
        if woke {
            pool.slept = slept;
            self.renew(&mut pool);
        }
        woke
    }

    fn renew(&self, pool: &mut Pool) {
        match (self.make)() {
            Ok(client) => pool.client = client,
            Err(error) => tracing::warn!("connections are kept: {error}"),
        }
        pool.made = Some(Instant::now());
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

    #[test]
    fn they_are_made_anew_when_the_machine_slept_and_once_for_many_failures() {
        let made = Arc::new(AtomicU32::new(0));
        let counted = made.clone();
        let connections = Connections::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            crate::net::http::client().build()
        })
        .unwrap();
        assert!(!connections.woke_up());
        connections.drop_idle();
        connections.drop_idle();
        assert_eq!(made.load(Ordering::Relaxed), 2);
        let slept = slept();
        assert!(!connections.woke_up_after(slept + NAP / 2));
        assert!(connections.woke_up_after(slept + NAP * 2));
        assert!(!connections.woke_up_after(slept + NAP * 2));
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }
}
