//! One fetch per chunk, however many want it: who fetches what, and for whom.
//!
//! A fetch that a reader waits for goes on until it ends, even when that reader
//! gives up: somebody will ask again. One that was begun ahead of readers lives
//! as long as somebody holds its [`Underway`]; a reader who joins it makes it a
//! fetch like any other.
//!
//! It lands when its bytes are in memory, and ends when the disk has them: who
//! reads waits for the one, who wants to find them tomorrow for the other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::CacheError;
use super::span::Span;
use walgit_format::chunk::ChunkHash;

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
    /// Whether the disk took what it brought, once that is known.
    kept: watch::Sender<Option<Landed<()>>>,
    /// Set once a reader waits for it.
    awaited: CancellationToken,
    /// Set once nobody wants it any more.
    called_off: CancellationToken,
    /// How many [`Underway`]s there are.
    holders: AtomicUsize,
}

impl<T> Flight<T> {
    /// Somebody wants what it brings.
    fn join(&self, urgency: Urgency) {
        match urgency {
            Urgency::Now => self.awaited.cancel(),
            Urgency::Ahead => _ = self.holders.fetch_add(1, Ordering::Relaxed),
        }
    }
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

    /// Waits until its bytes are in memory.
    pub(super) async fn landed(&self) -> Landed<T> {
        set(&self.landed).await
    }

    /// Waits until they are on disk.
    pub(super) async fn kept(&self) -> Landed<()> {
        set(&self.kept).await
    }
}

/// What is set, as soon as it is.
async fn set<T: Clone>(outcome: &watch::Sender<Option<Landed<T>>>) -> Landed<T> {
    let mut outcome = outcome.subscribe();
    // The sender outlives this, so waiting cannot fail; if it did, the fetch is
    // as good as interrupted.
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(CacheError::Interrupted)),
        Err(_) => Err(CacheError::Interrupted),
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
        if let Some(flight) = flights.get(hash) {
            flight.join(urgency);
            return Role::Wait(flight.clone());
        }
        let mut plan = plan();
        plan.leave_out(&|other| other != hash && flights.contains_key(other));
        let flight = Arc::new(Flight {
            demanded: *hash,
            carried: plan.carries(),
            landed: watch::Sender::new(None),
            kept: watch::Sender::new(None),
            awaited: CancellationToken::new(),
            called_off: CancellationToken::new(),
            holders: AtomicUsize::new(0),
        });
        flight.join(urgency);
        for carried in &flight.carried {
            flights.insert(*carried, flight.clone());
        }
        Role::Lead(flight, plan)
    }

    /// Joins the flight that carries `hash`, if there is one. Who asks ahead must
    /// hold it by an [`Underway`].
    pub(super) fn join(&self, hash: &ChunkHash, urgency: Urgency) -> Option<Arc<Flight<T>>> {
        let flights = self.flights();
        let flight = flights.get(hash)?;
        flight.join(urgency);
        Some(flight.clone())
    }

    /// Ends a flight. Whoever asks for its chunks from now on finds them, or
    /// leads a flight of their own.
    fn end(&self, flight: &Arc<Flight<T>>, kept: Landed<()>) {
        remove(&mut self.flights(), flight);
        flight.kept.send_replace(Some(kept));
    }

    /// One holder less. Whoever asks for its chunks after the last one is gone
    /// leads a flight of their own.
    fn let_go(&self, flight: &Arc<Flight<T>>) {
        let mut flights = self.flights();
        let last = flight.holders.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && !flight.awaited.is_cancelled() && flight.landed.borrow().is_none() {
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

    /// What it brings, by hash.
    pub fn brings(&self) -> &[ChunkHash] {
        &self.flight.carried
    }

    /// Waits until it can be read.
    ///
    /// # Errors
    /// What the store said.
    pub async fn landed(&self) -> Result<(), CacheError> {
        self.flight.landed().await.map(drop)
    }

    /// Waits until it is on disk.
    ///
    /// # Errors
    /// What the store said, or the disk.
    pub async fn kept(&self) -> Result<(), CacheError> {
        self.flight.kept().await
    }
}

impl<T> Drop for Underway<T> {
    fn drop(&mut self) {
        self.flights.let_go(&self.flight);
    }
}

/// A flight in the hands of whoever fetches it. Dropped, it ends, so that
/// nobody waits for ever.
pub(super) struct Pilot<'a, T> {
    flights: &'a Flights<T>,
    flight: &'a Arc<Flight<T>>,
    kept: Landed<()>,
}

impl<'a, T> Pilot<'a, T> {
    pub(super) fn of(flights: &'a Flights<T>, flight: &'a Arc<Flight<T>>) -> Self {
        let kept = Err(CacheError::Interrupted);
        Pilot {
            flights,
            flight,
            kept,
        }
    }

    /// Lets readers have what they wait for.
    pub(super) fn land(&self, bytes: T) {
        self.flight.landed.send_replace(Some(Ok(bytes)));
    }

    /// Ends it: the disk has what it brought, or why not.
    pub(super) fn end(mut self, kept: Landed<()>) {
        self.kept = kept;
    }
}

impl<T> Drop for Pilot<'_, T> {
    fn drop(&mut self) {
        let kept = std::mem::replace(&mut self.kept, Err(CacheError::Interrupted));
        let why = kept.clone().err().unwrap_or(CacheError::Interrupted);
        self.flights.end(self.flight, kept);
        self.flight.landed.send_if_modified(|landed| {
            let waited = landed.is_none();
            landed.get_or_insert(Err(why));
            waited
        });
    }
}
