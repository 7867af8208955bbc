//! One fetch per chunk, however many wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::span::Span;
use super::stats::Counters;
use super::{Cache, CacheError};
use crate::chunk::{ChunkHash, ChunkRef, Codec};
use crate::walrus::{BlobStore, Extent, Rejected};

type Landed<T> = Result<T, CacheError>;

/// Most stored bytes that are being fetched or wait to be written.
pub(super) const IN_FLIGHT: u64 = 32 << 20;

/// A fetch under way: of one demanded thing, and its neighbours.
#[derive(Debug)]
pub(super) struct Flight<T> {
    demanded: ChunkHash,
    carried: Vec<ChunkHash>,
    landed: watch::Sender<Option<Landed<T>>>,
}

impl<T: Clone> Flight<T> {
    /// The chunk whose bytes it ends with.
    pub(super) fn demanded(&self) -> ChunkHash {
        self.demanded
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

/// Fetches under way, by every chunk they carry.
#[derive(Debug)]
pub(super) struct Flights<T>(Mutex<HashMap<ChunkHash, Arc<Flight<T>>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Flights(Mutex::default())
    }
}

impl<T> Flights<T> {
    /// Joins the flight that carries `hash`, or registers a new one.
    pub(super) fn join_or_lead<Plan: Carry>(
        &self,
        hash: &ChunkHash,
        plan: impl FnOnce() -> Plan,
    ) -> Role<T, Plan> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(hash) {
            return Role::Wait(flight.clone());
        }
        let mut plan = plan();
        plan.leave_out(&|other| other != hash && flights.contains_key(other));
        let flight = Arc::new(Flight {
            demanded: *hash,
            carried: plan.carries(),
            landed: watch::Sender::new(None),
        });
        for carried in &flight.carried {
            flights.insert(*carried, flight.clone());
        }
        Role::Lead(flight, plan)
    }

    fn land(&self, flight: &Flight<T>, landed: Landed<T>) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for carried in &flight.carried {
            flights.remove(carried);
        }
        drop(flights);
        flight.landed.send_replace(Some(landed));
    }
}

/// Lands a flight whose task ends early, so that nobody waits for ever.
pub(super) struct LandOnDrop<'a, T>(
    pub(super) &'a Flights<T>,
    pub(super) &'a Flight<T>,
    pub(super) Option<Landed<T>>,
);

impl<T> Drop for LandOnDrop<'_, T> {
    fn drop(&mut self) {
        let landed = self.2.take().unwrap_or(Err(CacheError::Interrupted));
        self.0.land(self.1, landed);
    }
}

impl Cache {
    /// Fetches a span, keeps what verifies, and lands the flight.
    pub(super) async fn fly(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        span: Span,
        flight: &Flight<Bytes>,
    ) {
        let mut guard = LandOnDrop(&self.flights, flight, None);
        // Held until the disk has it, so that a fast network cannot pile up
        // what a slow disk has yet to take.
        let size = span.range.len().min(IN_FLIGHT);
        let Ok(_room) = self.in_flight.acquire_many(size as u32).await else {
            return;
        };
        // Whoever led a flight that landed a moment ago has left it here.
        if let Some(raw) = self.memory.get(&flight.demanded) {
            guard.2 = Some(Ok(raw));
            return;
        }
        Counters::add(&self.counters.fetches, 1);
        let mut arrived: Vec<(ChunkRef, Bytes, Bytes)> = Vec::with_capacity(span.chunks.len());
        let blob = span.chunks[0].at.blob;
        let read = store
            .read(blob, Extent::Part(span.range), &mut |bytes: Bytes| {
                arrived.clear();
                for (i, chunk) in span.chunks.iter().enumerate() {
                    let stored = part(&bytes, &span, chunk);
                    match chunk.open(stored.clone()) {
                        Ok(raw) => arrived.push((*chunk, stored, detached(chunk, raw))),
                        Err(why) if i == 0 => return Err(Rejected::because(why)),
                        // A bad neighbour does not spoil what was asked for.
                        Err(_) => Counters::add(&self.counters.corrupt_dropped, 1),
                    }
                }
                Ok(())
            })
            .await;
        let landed = match read {
            Ok(()) => {
                Counters::add(&self.counters.fetched_bytes, span.range.len());
                for (chunk, _, raw) in &arrived {
                    self.memory.insert(chunk.hash, raw.clone());
                }
                arrived
                    .first()
                    .map(|(_, _, raw)| raw.clone())
                    .ok_or(CacheError::Interrupted)
            }
            Err(error) => {
                Counters::add(&self.counters.failed_fetches, 1);
                Err(CacheError::Store(Arc::new(error)))
            }
        };
        guard.2 = Some(landed);
        drop(guard);
        // Readers have their bytes; now the disk, at its leisure.
        let kept: Vec<_> = arrived
            .into_iter()
            .map(|(chunk, stored, _)| (chunk, stored))
            .collect();
        let cache = self.clone();
        // Only a runtime that shuts down loses this, and then only speed.
        let shelf = store.at_rest().cloned();
        let _ = tokio::task::spawn_blocking(move || cache.disk.put(&kept, shelf.as_ref())).await;
    }
}

/// The stored bytes of one chunk of the span; empty where they are missing,
/// which fails verification.
fn part(bytes: &Bytes, span: &Span, chunk: &ChunkRef) -> Bytes {
    let start = (chunk.at.offset - span.range.start()) as usize;
    let end = start + chunk.at.stored_len as usize;
    match end <= bytes.len() {
        true => bytes.slice(start..end),
        false => Bytes::new(),
    }
}

/// Plain bytes that do not keep the whole response in memory: uncompressed
/// chunks are slices of it.
pub(super) fn detached(chunk: &ChunkRef, raw: Bytes) -> Bytes {
    match chunk.at.codec {
        Codec::Raw => Bytes::copy_from_slice(&raw),
        Codec::Zstd => raw,
    }
}
