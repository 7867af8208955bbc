//! Single flight: one fetch per chunk, shared by all waiters.
//!
//! A fetch that a reader waits for runs to completion, even if that reader gives
//! up, because another read is likely. A prefetch lives as long as a
//! [`PrefetchHandle`] to it exists; a reader that joins it turns it into a demand
//! fetch.
//!
//! A fetch is completed when its bytes are in memory and persisted when they are on
//! disk. Readers wait for the former, callers that need durability for the latter.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::CacheError;
use walgit_format::chunk::ChunkHash;

type FetchResult<T> = Result<T, CacheError>;

/// Priority of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// A reader waits.
    Demand,
    /// No reader waits yet. The caller must hold the fetch with a [`PrefetchHandle`].
    Prefetch,
}

/// A fetch in progress, of one requested chunk and its neighbours.
#[derive(Debug)]
pub(super) struct InFlightFetch<T> {
    requested: ChunkHash,
    chunks: Vec<ChunkHash>,
    completed: watch::Sender<Option<FetchResult<T>>>,
    /// Whether the result was written to disk, once known.
    persisted: watch::Sender<Option<FetchResult<()>>>,
    /// Cancelled once a reader waits for the fetch.
    demanded: CancellationToken,
    /// Cancelled once the fetch is no longer needed.
    cancelled: CancellationToken,
    /// Number of [`PrefetchHandle`]s.
    handles: AtomicUsize,
}

impl<T: Clone> InFlightFetch<T> {
    fn new(requested: ChunkHash, chunks: Vec<ChunkHash>) -> Self {
        InFlightFetch {
            requested,
            chunks,
            completed: watch::Sender::new(None),
            persisted: watch::Sender::new(None),
            demanded: CancellationToken::new(),
            cancelled: CancellationToken::new(),
            handles: AtomicUsize::new(0),
        }
    }

    /// Registers interest in the result.
    fn join(&self, priority: Priority) {
        match priority {
            Priority::Demand => self.demanded.cancel(),
            Priority::Prefetch => _ = self.handles.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The chunk whose bytes the fetch returns.
    pub(super) fn requested(&self) -> ChunkHash {
        self.requested
    }

    /// Waits until a reader waits for the fetch.
    pub(super) async fn demanded(&self) {
        self.demanded.cancelled().await;
    }

    /// Waits until the fetch is no longer needed.
    pub(super) async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Waits until the bytes are in memory.
    pub(super) async fn completed(&self) -> FetchResult<T> {
        outcome(&self.completed).await
    }

    /// Waits until the bytes are on disk.
    pub(super) async fn persisted(&self) -> FetchResult<()> {
        outcome(&self.persisted).await
    }
}

/// Waits for an outcome and returns it.
async fn outcome<T: Clone>(outcome: &watch::Sender<Option<FetchResult<T>>>) -> FetchResult<T> {
    let mut outcome = outcome.subscribe();
    // The sender outlives this call, so waiting cannot fail.
    let outcome = outcome.wait_for(Option::is_some).await;
    let outcome = outcome.ok().and_then(|outcome| outcome.clone());
    outcome.unwrap_or(Err(CacheError::Interrupted))
}

type FetchesByChunk<T> = HashMap<ChunkHash, Arc<InFlightFetch<T>>>;

/// Fetches in progress, indexed by every chunk that they deliver.
#[derive(Debug)]
pub(super) struct InFlightTable<T>(Mutex<FetchesByChunk<T>>);

impl<T> Default for InFlightTable<T> {
    fn default() -> Self {
        InFlightTable(Mutex::default())
    }
}

impl<T: Clone> InFlightTable<T> {
    /// Joins the fetch that delivers `hash`, or registers a new one; in this case
    /// returns its plan as well, and the caller must run it.
    ///
    /// `plan` returns the plan of a new fetch and the chunks that it delivers, without
    /// those that the given function reports as in flight.
    pub(super) fn join_or_start<Plan>(
        &self,
        hash: &ChunkHash,
        priority: Priority,
        plan: impl FnOnce(&dyn Fn(&ChunkHash) -> bool) -> (Plan, Vec<ChunkHash>),
    ) -> (Arc<InFlightFetch<T>>, Option<Plan>) {
        let mut fetches = self.0.lock();
        if let Some(fetch) = fetches.get(hash) {
            fetch.join(priority);
            return (fetch.clone(), None);
        }
        let (plan, chunks) = plan(&|other| other != hash && fetches.contains_key(other));
        let fetch = Arc::new(InFlightFetch::new(*hash, chunks));
        fetch.join(priority);
        for chunk in &fetch.chunks {
            fetches.insert(*chunk, fetch.clone());
        }
        (fetch, Some(plan))
    }

    /// Joins the fetch that delivers `hash`, if there is one.
    pub(super) fn join(
        &self,
        hash: &ChunkHash,
        priority: Priority,
    ) -> Option<Arc<InFlightFetch<T>>> {
        let fetches = self.0.lock();
        let fetch = fetches.get(hash)?;
        fetch.join(priority);
        Some(fetch.clone())
    }

    /// Releases one handle. After the last one, requests for its chunks start a new
    /// fetch.
    fn release(&self, fetch: &Arc<InFlightFetch<T>>) {
        let mut fetches = self.0.lock();
        let last = fetch.handles.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && !fetch.demanded.is_cancelled() && fetch.completed.borrow().is_none() {
            remove(&mut fetches, fetch);
            fetch.cancelled.cancel();
        }
    }
}

fn remove<T>(fetches: &mut FetchesByChunk<T>, fetch: &Arc<InFlightFetch<T>>) {
    for chunk in &fetch.chunks {
        // Another fetch may have registered the chunk since.
        if (fetches.get(chunk)).is_some_and(|other| Arc::ptr_eq(other, fetch)) {
            fetches.remove(chunk);
        }
    }
}

/// Handle to a prefetch. Dropping it before the fetch is completed cancels the fetch,
/// including the network request, unless a reader waits for it or another handle
/// exists.
#[derive(Debug)]
#[must_use = "a prefetch without a handle is cancelled"]
pub struct PrefetchHandle<T: Clone> {
    table: Arc<InFlightTable<T>>,
    fetch: Arc<InFlightFetch<T>>,
}

impl<T: Clone> PrefetchHandle<T> {
    /// Holds a fetch that was joined or started with [`Priority::Prefetch`].
    pub(super) fn new(table: &Arc<InFlightTable<T>>, fetch: Arc<InFlightFetch<T>>) -> Self {
        let table = table.clone();
        PrefetchHandle { table, fetch }
    }

    /// Hashes of the chunks that the fetch delivers.
    pub fn chunks(&self) -> &[ChunkHash] {
        &self.fetch.chunks
    }

    /// Waits until the chunks can be read from memory.
    pub async fn completed(&self) -> Result<(), CacheError> {
        self.fetch.completed().await.map(drop)
    }

    /// Waits until the chunks are on disk.
    pub async fn persisted(&self) -> Result<(), CacheError> {
        self.fetch.persisted().await
    }
}

impl<T: Clone> Drop for PrefetchHandle<T> {
    fn drop(&mut self) {
        self.table.release(&self.fetch);
    }
}

/// Owner of a fetch while it runs. Dropping it ends the fetch, so that no waiter
/// hangs; later requests for its chunks find them cached or start a new fetch.
pub(super) struct FetchGuard<'a, T: Clone> {
    table: &'a InFlightTable<T>,
    fetch: &'a Arc<InFlightFetch<T>>,
    persisted: FetchResult<()>,
}

impl<'a, T: Clone> FetchGuard<'a, T> {
    pub(super) fn new(table: &'a InFlightTable<T>, fetch: &'a Arc<InFlightFetch<T>>) -> Self {
        FetchGuard {
            table,
            fetch,
            persisted: Err(CacheError::Interrupted),
        }
    }

    /// Delivers the bytes to waiting readers.
    pub(super) fn complete(&self, bytes: T) {
        self.fetch.completed.send_replace(Some(Ok(bytes)));
    }

    /// Ends the fetch with the outcome of the disk write.
    pub(super) fn end(mut self, persisted: FetchResult<()>) {
        self.persisted = persisted;
    }
}

impl<T: Clone> Drop for FetchGuard<'_, T> {
    fn drop(&mut self) {
        let persisted = std::mem::replace(&mut self.persisted, Err(CacheError::Interrupted));
        let error = persisted.clone().err().unwrap_or(CacheError::Interrupted);
        remove(&mut self.table.0.lock(), self.fetch);
        self.fetch.persisted.send_replace(Some(persisted));
        self.fetch.completed.send_if_modified(|completed| {
            let was_pending = completed.is_none();
            completed.get_or_insert(Err(error));
            was_pending
        });
    }
}
