//! Network part of a read: a range of a blob, verified chunk by chunk.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use super::chunk_cache::{Cache, ChunkRequest, FetchPurpose};
use super::coalesce::{CoalescedRange, coalesce};
use super::delta_bases::{BaseBytes, recompress_standalone};
use super::error::CacheError;
use super::limits::MAX_IN_FLIGHT_BYTES;
use super::memory::detach;
use super::prefetch_budget::{self, PrefetchPermit};
use super::single_flight::{FetchGuard, InFlightFetch, InFlightTable, PrefetchHandle, Priority};
use super::stats::CacheCounters;
use walgit_format::chunk::{ChunkHash, ChunkRef};
use walrus_client::{BlobStore, ReadRange, Rejected, StoreError};

/// Goal of a prefetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefetchGoal {
    /// The chunk can be read from memory or disk.
    Read,
    /// Like `Read`, for bases of other chunks that may also be read themselves; the
    /// table contains no patches. Fetches that need one of these chunks as a base also
    /// wait for this fetch.
    Base,
    /// The chunk is on disk.
    Persist,
}

/// Permit to fetch a number of bytes.
pub(super) struct FetchPermit<'a> {
    _prefetch: Option<PrefetchPermit<'a>>,
    _bytes: SemaphorePermit<'a>,
}

impl Cache {
    /// Returns the plain bytes of chunk `table[index]` from memory, disk or
    /// network.
    ///
    /// A fetch also reads chunks that follow in the table and are adjacent in the
    /// blob, in the same ranged read of at most `window` stored bytes.
    ///
    /// # Errors
    /// The error of the store. Dropping the future does not cancel the fetch; the
    /// next reader retries a failed fetch.
    pub async fn get(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
        window: u64,
    ) -> Result<Bytes, CacheError> {
        let purpose = FetchPurpose::Content;
        self.get_for(ChunkRequest {
            store,
            table,
            index,
            window,
            purpose,
        })
        .await
    }

    pub(super) async fn get_for(
        self: &Arc<Self>,
        request: ChunkRequest<'_>,
    ) -> Result<Bytes, CacheError> {
        let chunk = &request.table[request.index];
        let mut missed = false;
        loop {
            if let Some(raw) = self.view(request.store.at_rest()).get_cached(chunk) {
                return Ok(raw);
            }
            if !missed {
                missed = true;
                CacheCounters::add(&self.counters.misses, 1);
            }
            let (_, fetch) = self.join_or_start_fetch(request, Priority::Demand);
            let completed = fetch.completed().await;
            if fetch.requested() == chunk.hash {
                return check_len(chunk, completed?);
            }
            // The chunk was a neighbour in this fetch, or failed verification: look
            // again. Each iteration either finds it or starts its own fetch.
            if completed.is_ok() && !self.memory.contains(&chunk.hash) {
                let _ = fetch.persisted().await;
            }
        }
    }

    /// Starts a prefetch of chunk `table[index]`, with neighbours as in
    /// [`Cache::get`]; returns `None` if the goal is reached already. Later reads of
    /// any of these chunks wait for this fetch.
    ///
    /// Must be called within a runtime.
    pub fn prefetch(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
        window: u64,
        goal: PrefetchGoal,
    ) -> Option<PrefetchHandle<Bytes>> {
        let (view, hash) = (self.view(store.at_rest()), &table[index].hash);
        let (is_reached, purpose) = match goal {
            PrefetchGoal::Read => (view.contains(hash), FetchPurpose::Content),
            PrefetchGoal::Base => (view.contains(hash), FetchPurpose::Base),
            PrefetchGoal::Persist => (view.contains_on_disk(hash), FetchPurpose::Content),
        };
        if is_reached {
            return None;
        }
        let request = ChunkRequest {
            store,
            table,
            index,
            window,
            purpose,
        };
        let (table, fetch) = self.join_or_start_fetch(request, Priority::Prefetch);
        Some(PrefetchHandle::new(table, fetch))
    }

    /// Joins or starts the fetch of a missing chunk, and returns it with its table.
    ///
    /// A read of a chunk joins a fetch of the same chunk as a base, but never the
    /// reverse.
    fn join_or_start_fetch(
        self: &Arc<Self>,
        request: ChunkRequest<'_>,
        priority: Priority,
    ) -> (&Arc<InFlightTable<Bytes>>, Arc<InFlightFetch<Bytes>>) {
        let (store, purpose) = (request.store, request.purpose);
        let hash = &request.table[request.index].hash;
        if purpose == FetchPurpose::Content {
            let bases = self.in_flight.chunks(FetchPurpose::Base);
            if let Some(fetch) = bases.join(hash, priority) {
                return (bases, fetch);
            }
        }
        let view = self.view(store.at_rest());
        let table = self.in_flight.chunks(purpose);
        let (fetch, read) = table.join_or_start(hash, priority, |is_in_flight| {
            let is_cached = |hash: &ChunkHash| view.contains(hash);
            let mut read = coalesce(request.table, request.index, request.window, is_cached);
            read.chunks.retain(|chunk| !is_in_flight(&chunk.hash));
            let hashes = read.chunks.iter().map(|chunk| chunk.hash).collect();
            (read, hashes)
        });
        if let Some(read) = read {
            let (cache, store, fetch) = (self.clone(), store.clone(), fetch.clone());
            tokio::spawn(async move { cache.run_fetch(&store, read, &fetch, purpose).await });
        }
        (table, fetch)
    }

    /// Waits for permits for `size` bytes in flight; prefetches yield to demand
    /// reads. Returns `None` if the fetch is no longer needed. Hold the permit until
    /// the bytes are on disk, so that a fast network cannot outrun a slow disk.
    pub(super) async fn acquire_permit<T: Clone>(
        &self,
        store: &Arc<dyn BlobStore>,
        fetch: &InFlightFetch<T>,
        size: u64,
    ) -> Option<FetchPermit<'_>> {
        let size = size.clamp(1, MAX_IN_FLIGHT_BYTES);
        let limit = || prefetch_budget::concurrent_bytes(store.as_ref());
        let prefetch = tokio::select! {
            biased;
            () = fetch.demanded() => None,
            () = fetch.cancelled() => return None,
            permit = self.prefetch_budget.acquire(size, limit) => Some(permit),
        };
        let bytes = self.in_flight_bytes.acquire_many(size as u32).await.ok()?;
        Some(FetchPermit {
            _prefetch: prefetch,
            _bytes: bytes,
        })
    }

    /// Fetches a range, caches the chunks that verify, and completes the fetch.
    async fn run_fetch(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        mut read: CoalescedRange,
        fetch: &Arc<InFlightFetch<Bytes>>,
        purpose: FetchPurpose,
    ) {
        let guard = FetchGuard::new(self.in_flight.chunks(purpose), fetch);
        // Bases come before the permit: a fetch that waits for bases holds none.
        let bases = if read.chunks.iter().all(|chunk| chunk.bases.is_empty()) {
            Ok(BaseBytes::default())
        } else {
            tokio::select! {
                biased;
                () = fetch.cancelled() => return,
                bases = self.fetch_bases(store, &mut read, purpose) => bases,
            }
        };
        let bases = match bases {
            Ok(bases) => bases,
            Err(error) => {
                CacheCounters::add(&self.counters.failed_fetches, 1);
                return guard.end(Err(error));
            }
        };
        let Some(_permit) = self.acquire_permit(store, fetch, read.weight()).await else {
            return;
        };
        // A fetch that has just completed may have cached it.
        let requested = fetch.requested();
        if self.view(store.at_rest()).contains_on_disk(&requested)
            && let Some(raw) = self.memory.get(&requested)
        {
            guard.complete(raw);
            return guard.end(Ok(()));
        }
        CacheCounters::add(&self.counters.fetches, 1);
        let mut arrived: Vec<(ChunkRef, Bytes, Bytes)> = Vec::with_capacity(read.chunks.len());
        let blob = read.chunks[0].location.blob;
        let mut accept = |bytes: Bytes| {
            arrived.clear();
            for (i, chunk) in read.chunks.iter().enumerate() {
                let stored = stored_bytes(&bytes, &read, chunk);
                match bases.open(chunk, stored.clone()) {
                    Ok(raw) => arrived.push((chunk.clone(), stored, detach(chunk, raw))),
                    Err(why) if i == 0 => return Err(Rejected::because(why)),
                    // A corrupt neighbour does not fail the requested chunk.
                    Err(_) => CacheCounters::add(&self.counters.corrupt_dropped, 1),
                }
            }
            Ok(())
        };
        let result = tokio::select! {
            biased;
            () = fetch.cancelled() => {
                CacheCounters::add(&self.counters.called_off, 1);
                return;
            }
            result = store.read(blob, ReadRange::Part(read.range), &mut accept) => result,
        };
        if let Err(error) = result {
            CacheCounters::add(&self.counters.failed_fetches, 1);
            return guard.end(Err(error.into()));
        }
        CacheCounters::add(&self.counters.fetched_bytes, read.range.len());
        for (chunk, _, raw) in &arrived {
            self.memory.insert(chunk.hash, raw.clone());
        }
        let Some((_, _, raw)) = arrived.first() else {
            return;
        };
        guard.complete(raw.clone());
        // Readers have their bytes; write to disk in the background. Only a runtime
        // shutdown loses this write, which costs only speed.
        let (cache, key) = (self.clone(), store.at_rest().cloned());
        let put = tokio::task::spawn_blocking(move || {
            let entries: Vec<_> = (arrived.into_iter())
                .map(|(chunk, stored, raw)| recompress_standalone(chunk, stored, &raw))
                .collect();
            cache.disk.put(&entries, cache.view(key.as_ref()).at_rest)
        });
        guard.end(put.await.unwrap_or(Err(CacheError::Interrupted)));
    }
}

/// Checks the plain bytes of a chunk that another reference's fetch may have
/// delivered. If the length is wrong, so is the reference, not the bytes.
fn check_len(chunk: &ChunkRef, raw: Bytes) -> Result<Bytes, CacheError> {
    if raw.len() as u64 == u64::from(chunk.raw_len) {
        return Ok(raw);
    }
    Err(CacheError::from(StoreError::Corrupt {
        blob: chunk.location.blob,
        place: "its reference".into(),
        why: format!(
            "chunk {} has {} bytes where it says {}",
            chunk.hash,
            raw.len(),
            chunk.raw_len
        ),
    }))
}

/// Returns the stored bytes of one chunk of the range; empty if missing, which fails
/// verification.
fn stored_bytes(bytes: &Bytes, read: &CoalescedRange, chunk: &ChunkRef) -> Bytes {
    let start = (chunk.location.offset - read.range.start()) as usize;
    let end = start + chunk.stored_len as usize;
    if end <= bytes.len() {
        bytes.slice(start..end)
    } else {
        Bytes::new()
    }
}
