//! Single flight: one fetch per chunk, shared by all waiters.
//!
//! A fetch that a reader waits for runs to completion, even if that reader gives
//! up, because another read is likely. A prefetch lives as long as an [`Underway`]
//! handle to it exists; a reader that joins it turns it into a demand fetch.
//!
//! A flight lands when its bytes are in memory and ends when they are on disk.
//! Readers wait for the former, callers that need durability for the latter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::CacheError;
use super::span::Span;
use walgit_format::chunk::ChunkHash;

pub(super) type Landed<T> = Result<T, CacheError>;

/// Urgency of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Demand read: a reader waits.
    Now,
    /// Prefetch: no reader waits yet.
    Ahead,
}

/// A fetch in progress, of one demanded chunk and its neighbours.
#[derive(Debug)]
pub(super) struct Flight<T> {
    demanded: ChunkHash,
    carried: Vec<ChunkHash>,
    landed: watch::Sender<Option<Landed<T>>>,
    /// Whether the result was written to disk, once known.
    kept: watch::Sender<Option<Landed<()>>>,
    /// Cancelled once a reader waits for the flight.
    awaited: CancellationToken,
    /// Cancelled once the flight is no longer needed.
    called_off: CancellationToken,
    /// Number of [`Underway`] handles.
    holders: AtomicUsize,
}

impl<T> Flight<T> {
    /// Registers interest in the result.
    fn join(&self, urgency: Urgency) {
        match urgency {
            Urgency::Now => self.awaited.cancel(),
            Urgency::Ahead => _ = self.holders.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl<T: Clone> Flight<T> {
    /// The chunk whose bytes the flight returns.
    pub(super) fn demanded(&self) -> ChunkHash {
        self.demanded
    }

    /// Completes when a reader waits for the flight.
    pub(super) async fn awaited(&self) {
        self.awaited.cancelled().await;
    }

    /// Completes when the flight is no longer needed.
    pub(super) async fn called_off(&self) {
        self.called_off.cancelled().await;
    }

    /// Waits until the bytes are in memory.
    pub(super) async fn landed(&self) -> Landed<T> {
        set(&self.landed).await
    }

    /// Waits until the bytes are on disk.
    pub(super) async fn kept(&self) -> Landed<()> {
        set(&self.kept).await
    }
}

/// Waits for a value and returns it.
async fn set<T: Clone>(outcome: &watch::Sender<Option<Landed<T>>>) -> Landed<T> {
    let mut outcome = outcome.subscribe();
    // The sender outlives this call, so waiting cannot fail; if it did, the fetch
    // would count as interrupted.
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(CacheError::Interrupted)),
        Err(_) => Err(CacheError::Interrupted),
    }
}

/// What to do about a missing chunk.
pub(super) enum Role<T, Plan> {
    /// Wait for a fetch in progress.
    Wait(Arc<Flight<T>>),
    /// Execute this fetch.
    Lead(Arc<Flight<T>>, Plan),
}

/// Plan of a fetch.
pub(super) trait Carry {
    /// Removes chunks that are already being fetched.
    fn leave_out(&mut self, fetched: &dyn Fn(&ChunkHash) -> bool);
    /// Returns the chunks that the fetch delivers.
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

/// Fetches in progress, indexed by every chunk they deliver.
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

    /// Joins the flight that delivers `hash`, or registers a new one. Prefetches
    /// must hold it with an [`Underway`].
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

    /// Joins the flight that delivers `hash`, if there is one. Prefetches must hold
    /// it with an [`Underway`].
    pub(super) fn join(&self, hash: &ChunkHash, urgency: Urgency) -> Option<Arc<Flight<T>>> {
        let flights = self.flights();
        let flight = flights.get(hash)?;
        flight.join(urgency);
        Some(flight.clone())
    }

    /// Ends a flight. Later requests for its chunks find them cached or start a new
    /// flight.
    fn end(&self, flight: &Arc<Flight<T>>, kept: Landed<()>) {
        remove(&mut self.flights(), flight);
        flight.kept.send_replace(Some(kept));
    }

    /// Releases one handle. After the last one, requests for its chunks start a new
    /// flight.
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
        // Another flight may have registered the chunk meanwhile.
        if (flights.get(carried)).is_some_and(|other| Arc::ptr_eq(other, flight)) {
            flights.remove(carried);
        }
    }
}

/// Handle to a prefetch. Dropping it before the flight lands cancels the fetch,
/// including the network request, unless a reader waits for it or another handle
/// exists.
#[derive(Debug)]
#[must_use = "a fetch that nobody holds is called off"]
pub struct Underway<T> {
    flights: Arc<Flights<T>>,
    flight: Arc<Flight<T>>,
}

impl<T: Clone> Underway<T> {
    /// Holds a flight that was joined or started by a prefetch.
    pub(super) fn of(flights: &Arc<Flights<T>>, flight: Arc<Flight<T>>) -> Self {
        let flights = flights.clone();
        Underway { flights, flight }
    }

    /// Hashes of the chunks that the fetch delivers.
    pub fn brings(&self) -> &[ChunkHash] {
        &self.flight.carried
    }

    /// Waits until the chunks can be read from memory.
    ///
    /// # Errors
    /// The error of the store.
    pub async fn landed(&self) -> Result<(), CacheError> {
        self.flight.landed().await.map(drop)
    }

    /// Waits until the chunks are on disk.
    ///
    /// # Errors
    /// The error of the store or the disk.
    pub async fn kept(&self) -> Result<(), CacheError> {
        self.flight.kept().await
    }
}

impl<T> Drop for Underway<T> {
    fn drop(&mut self) {
        self.flights.let_go(&self.flight);
    }
}

/// Owner of a flight while it is executed. Dropping it ends the flight, so that no
/// waiter hangs.
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

    /// Delivers the bytes to waiting readers.
    pub(super) fn land(&self, bytes: T) {
        self.flight.landed.send_replace(Some(Ok(bytes)));
    }

    /// Ends the flight with the outcome of the disk write.
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
