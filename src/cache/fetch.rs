//! Network part of a read: a span of a blob, verified chunk by chunk.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use super::bases::{BaseBytes, Step, standing};
use super::flight::{Flight, Pilot, Role, Urgency};
use super::lane::{self, Pass};
use super::span::{self, Span};
use super::stats::Counters;
use super::{Cache, CacheError};
use walgit_format::chunk::{ChunkHash, ChunkRef, Codec};
use walrus_client::{BlobStore, Extent, Rejected};

/// Maximum bytes that are being fetched, decoded or written. Each fetch counts with
/// its stored or plain bytes, whichever is larger.
pub(super) const IN_FLIGHT: u64 = 32 << 20;

/// Permit to fetch a number of bytes.
pub(super) struct Room<'a> {
    _lane: Option<Pass<'a>>,
    _bytes: SemaphorePermit<'a>,
}

impl Cache {
    /// Joins or starts the fetch of a missing chunk for a step, and returns the
    /// flight with its step.
    ///
    /// A read of a chunk joins a fetch of the same chunk as a base, but never the
    /// reverse.
    pub(super) fn lead(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
        window: u64,
        step: Step,
        urgency: Urgency,
    ) -> (Arc<Flight<Bytes>>, Step) {
        if step == Step::Content {
            let bases = &self.flights[Step::Base as usize];
            if let Some(flight) = bases.join(&table[index].hash, urgency) {
                return (flight, Step::Base);
            }
        }
        let held = |hash: &ChunkHash| self.holds(hash, store.at_rest());
        let span = || span::choose(table, index, window, held);
        let flights = &self.flights[step as usize];
        match flights.join_or_lead(&table[index].hash, urgency, span) {
            Role::Wait(flight) => (flight, step),
            Role::Lead(flight, span) => {
                let (cache, store) = (self.clone(), store.clone());
                let led = flight.clone();
                tokio::spawn(async move { cache.fly(&store, span, &led, step).await });
                (flight, step)
            }
        }
    }

    /// Waits for permits for `size` bytes in flight; prefetches yield to demand
    /// reads. Returns `None` if the flight is no longer needed. Hold the permit
    /// until the bytes are on disk, so that a fast network cannot outrun a slow
    /// disk.
    pub(super) async fn room<T: Clone>(
        &self,
        store: &Arc<dyn BlobStore>,
        flight: &Flight<T>,
        size: u64,
    ) -> Option<Room<'_>> {
        let size = size.clamp(1, IN_FLIGHT);
        let lane = tokio::select! {
            biased;
            () = flight.awaited() => None,
            () = flight.called_off() => return None,
            pass = self.lane.enter(size, || lane::most_ahead(store.as_ref())) => Some(pass),
        };
        let bytes = self.in_flight.acquire_many(size as u32).await.ok()?;
        Some(Room {
            _lane: lane,
            _bytes: bytes,
        })
    }

    /// Fetches a span, caches the chunks that verify, and lands the flight.
    async fn fly(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        mut span: Span,
        flight: &Arc<Flight<Bytes>>,
        step: Step,
    ) {
        let pilot = Pilot::of(&self.flights[step as usize], flight);
        // Bases come before the permit: a fetch that waits for bases holds none.
        let bases = match span.chunks.iter().all(|chunk| chunk.bases.is_empty()) {
            true => Ok(BaseBytes::default()),
            false => {
                tokio::select! {
                    biased;
                    () = flight.called_off() => return,
                    bases = self.bases(store, &mut span, step) => bases,
                }
            }
        };
        let bases = match bases {
            Ok(bases) => bases,
            Err(why) => {
                Counters::add(&self.counters.failed_fetches, 1);
                return pilot.end(Err(why));
            }
        };
        let Some(_room) = self.room(store, flight, span.weight()).await else {
            return;
        };
        // A flight that landed a moment ago may have cached it.
        let demanded = flight.demanded();
        if self.keeps(&demanded, store.at_rest())
            && let Some(raw) = self.memory.get(&demanded)
        {
            pilot.land(raw);
            return pilot.end(Ok(()));
        }
        Counters::add(&self.counters.fetches, 1);
        let mut arrived: Vec<(ChunkRef, Bytes, Bytes)> = Vec::with_capacity(span.chunks.len());
        let blob = span.chunks[0].location.blob;
        let mut accept = |bytes: Bytes| {
            arrived.clear();
            for (i, chunk) in span.chunks.iter().enumerate() {
                let stored = part(&bytes, &span, chunk);
                match bases.open(chunk, stored.clone()) {
                    Ok(raw) => arrived.push((chunk.clone(), stored, detached(chunk, raw))),
                    Err(why) if i == 0 => return Err(Rejected::because(why)),
                    // A corrupt neighbour does not fail the demanded chunk.
                    Err(_) => Counters::add(&self.counters.corrupt_dropped, 1),
                }
            }
            Ok(())
        };
        let read = tokio::select! {
            biased;
            () = flight.called_off() => {
                Counters::add(&self.counters.called_off, 1);
                return;
            }
            read = store.read(blob, Extent::Part(span.range), &mut accept) => read,
        };
        if let Err(error) = read {
            Counters::add(&self.counters.failed_fetches, 1);
            return pilot.end(Err(CacheError::Store(Arc::new(error))));
        }
        Counters::add(&self.counters.fetched_bytes, span.range.len());
        for (chunk, _, raw) in &arrived {
            self.memory.insert(chunk.hash, raw.clone());
        }
        let Some((_, _, raw)) = arrived.first() else {
            return;
        };
        pilot.land(raw.clone());
        // Readers have their bytes; write to disk in the background.
        let cache = self.clone();
        // Only a runtime shutdown loses this write, which costs only speed.
        let shelf = store.at_rest().cloned();
        let put = tokio::task::spawn_blocking(move || {
            let arrived = arrived.into_iter();
            let stored: Vec<_> = arrived
                .map(|(chunk, stored, raw)| standing(chunk, stored, &raw))
                .collect();
            cache.disk.put(&stored, shelf.as_ref())
        });
        pilot.end(put.await.unwrap_or(Err(CacheError::Interrupted)));
    }
}

/// Returns the stored bytes of one chunk of the span; empty if missing, which fails
/// verification.
fn part(bytes: &Bytes, span: &Span, chunk: &ChunkRef) -> Bytes {
    let start = (chunk.location.offset - span.range.start()) as usize;
    let end = start + chunk.stored_len as usize;
    match end <= bytes.len() {
        true => bytes.slice(start..end),
        false => Bytes::new(),
    }
}

/// Copies plain bytes if they are a slice of the response, so that an uncompressed
/// chunk does not keep the whole response in memory.
pub(super) fn detached(chunk: &ChunkRef, raw: Bytes) -> Bytes {
    match chunk.codec {
        Codec::Raw => Bytes::copy_from_slice(&raw),
        Codec::Zstd | Codec::Dictionary | Codec::Patch => raw,
    }
}
