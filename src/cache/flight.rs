//! One fetch per chunk, however many want it: who fetches what, and for whom.
//!
//! A fetch that a reader waits for goes on until it ends, even when that reader
//! gives up: somebody will ask again. One that was begun ahead of readers lives
//! as long as somebody holds its [`Underway`]; a reader who joins it makes it a
//! fetch like any other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::CacheError;
use super::span::Span;
use crate::chunk::ChunkHash;

pub(super) type Landed<T> = Result<T, CacheError>;

/// For whom something is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A reader waits.
    Now,
    /// Nobody has asked for it yet.
    Ahead,
}

/// A fetch under way: of one demanded thing, and its neighbours.
#[derive(Debug)]
pub(super) struct Flight<T> {
    demanded: ChunkHash,
    carried: Vec<ChunkHash>,
    landed: watch::Sender<Option<Landed<T>>>,
    /// Set once a reader waits for it.
    awaited: CancellationToken,
    /// Set once nobody wants it any more.
    called_off: CancellationToken,
    /// How many [`Underway`]s there are.
    holders: AtomicUsize,
}

impl<T: Clone> Flight<T> {
    /// The chunk whose bytes it ends with.
    pub(super) fn demanded(&self) -> ChunkHash {
        self.demanded
    }

    /// Ends when a reader waits for it.
    pub(super) async fn awaited(&self) {
        self.awaited.cancelled().await;
    }

    /// Ends when nobody wants it any more.
    pub(super) async fn called_off(&self) {
        self.called_off.cancelled().await;
    }

    /// Waits for its end.
    pub(super) async fn landed(&self) -> Landed<T> {
        let mut landed = self.landed.subscribe();
        // The sender lives in `self`, so waiting cannot fail; if it did, the
        // fetch is as good as interrupted.
        match landed.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or(Err(CacheError::Interrupted)),
            Err(_) => Err(CacheError::Interrupted),
        }
    }
}

/// What to do about a missing chunk.
pub(super) enum Role<T, Plan> {
    /// Somebody fetches it already.
    Wait(Arc<Flight<T>>),
    /// Fetch this.
    Lead(Arc<Flight<T>>, Plan),
}

/// What a flight is going to fetch.
pub(super) trait Carry {
    /// Leaves out what others fetch already.
    fn leave_out(&mut self, fetched: &dyn Fn(&ChunkHash) -> bool);
    /// What it brings.
    fn carries(&self) -> Vec<ChunkHash>;
}

impl Carry for Span {
    fn leave_out(&mut self, fetched: &dyn Fn(&ChunkHash) -> bool) {
        self.chunks.retain(|chunk| !fetched(&chunk.hash));
    }

    fn carries(&self) -> Vec<ChunkHash> {
        self.chunks.iter().map(|chunk| chunk.hash).collect()
    }
}

type ByChunk<T> = HashMap<ChunkHash, Arc<Flight<T>>>;

/// Fetches under way, by every chunk they carry.
#[derive(Debug)]
pub(super) struct Flights<T>(Mutex<ByChunk<T>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Flights(Mutex::default())
    }
}

impl<T> Flights<T> {
    fn flights(&self) -> MutexGuard<'_, ByChunk<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the flight that carries `hash`, or registers a new one. Who asks
    /// ahead must hold it by an [`Underway`].
    pub(super) fn join_or_lead<Plan: Carry>(
        &self,
        hash: &ChunkHash,
        urgency: Urgency,
        plan: impl FnOnce() -> Plan,
    ) -> Role<T, Plan> {
        let mut flights = self.flights();
        let join = |flight: &Flight<T>| match urgency {
            Urgency::Now => flight.awaited.cancel(),
            Urgency::Ahead => _ = flight.holders.fetch_add(1, Ordering::Relaxed),
        };
        if let Some(flight) = flights.get(hash) {
            join(flight);
            return Role::Wait(flight.clone());
        }
        let mut plan = plan();
        plan.leave_out(&|other| other != hash && flights.contains_key(other));
        let flight = Arc::new(Flight {
            demanded: *hash,
            carried: plan.carries(),
            landed: watch::Sender::new(None),
            awaited: CancellationToken::new(),
            called_off: CancellationToken::new(),
            holders: AtomicUsize::new(0),
        });
        join(&flight);
        for carried in &flight.carried {
            flights.insert(*carried, flight.clone());
        }
        Role::Lead(flight, plan)
    }

    fn land(&self, flight: &Arc<Flight<T>>, landed: Landed<T>) {
        remove(&mut self.flights(), flight);
        flight.landed.send_replace(Some(landed));
    }

    /// One holder less. Whoever asks for its chunks after the last one is gone
    /// leads a flight of their own.
    fn let_go(&self, flight: &Arc<Flight<T>>) {
        let mut flights = self.flights();
        let last = flight.holders.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && !flight.awaited.is_cancelled() {
            remove(&mut flights, flight);
            flight.called_off.cancel();
        }
    }
}

fn remove<T>(flights: &mut ByChunk<T>, flight: &Arc<Flight<T>>) {
    for carried in &flight.carried {
        // Another flight may carry the chunk by now.
        if (flights.get(carried)).is_some_and(|other| Arc::ptr_eq(other, flight)) {
            flights.remove(carried);
        }
    }
}

/// A fetch ahead of readers. Dropped before it has landed, it is called off,
/// on the wire too, unless a reader waits for it or somebody else holds it.
#[derive(Debug)]
#[must_use = "a fetch that nobody holds is called off"]
pub struct Underway<T> {
    flights: Arc<Flights<T>>,
    flight: Arc<Flight<T>>,
}

impl<T: Clone> Underway<T> {
    /// Holds a flight that was joined or led ahead of readers.
    pub(super) fn of(flights: &Arc<Flights<T>>, flight: Arc<Flight<T>>) -> Self {
        let flights = flights.clone();
        Underway { flights, flight }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What the store said.
    pub async fn landed(&self) -> Result<(), CacheError> {
        self.flight.landed().await.map(drop)
    }
}

impl<T> Drop for Underway<T> {
    fn drop(&mut self) {
        self.flights.let_go(&self.flight);
    }
}

/// Lands a flight whose task ends early, so that nobody waits for ever.
pub(super) struct LandOnDrop<'a, T>(
    pub(super) &'a Flights<T>,
    pub(super) &'a Arc<Flight<T>>,
    pub(super) Option<Landed<T>>,
);

impl<T> Drop for LandOnDrop<'_, T> {
    fn drop(&mut self) {
        let landed = self.2.take().unwrap_or(Err(CacheError::Interrupted));
        self.0.land(self.1, landed);
    }
}
