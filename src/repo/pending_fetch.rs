//! Prefetch of content.

use std::sync::Arc;

use bytes::Bytes;

use super::content::FileExtent;
use super::error::RepoError;
use super::snapshot::{Node, Snapshot};
use crate::cache::{self, PrefetchGoal, PrefetchHandle};
use walgit_format::chunk::{ByteRange, ChunkHash, ChunkRef, WholeBlob};

/// A prefetch in progress. Dropping it cancels the fetch, unless another task waits
/// for the same content.
#[derive(Debug)]
#[must_use = "a prefetch without a handle is cancelled"]
pub enum PendingFetch {
    /// Some chunks.
    Chunks(PrefetchHandle<Bytes>),
    /// A file stored as one blob.
    Whole(PrefetchHandle<Arc<[ChunkRef]>>),
}

impl PendingFetch {
    /// Waits until the content can be read.
    pub async fn completed(&self) -> Result<(), RepoError> {
        match self {
            PendingFetch::Chunks(chunks) => chunks.completed().await?,
            PendingFetch::Whole(whole) => whole.completed().await?,
        }
        Ok(())
    }

    /// The chunks that it fetches, if known.
    pub fn chunks(&self) -> &[ChunkHash] {
        match self {
            PendingFetch::Chunks(chunks) => chunks.chunks(),
            PendingFetch::Whole(_) => &[],
        }
    }

    /// Waits until the content is on disk.
    pub async fn persisted(&self) -> Result<(), RepoError> {
        match self {
            PendingFetch::Chunks(chunks) => chunks.persisted().await?,
            PendingFetch::Whole(whole) => whole.persisted().await?,
        }
        Ok(())
    }
}

impl Snapshot {
    /// Starts to prefetch `range` of a file, in requests of up to `window` stored
    /// bytes. Waits only for the chunk list. For a file stored as one blob see
    /// [`Snapshot::begin_whole`].
    pub async fn begin(
        &self,
        node: &Node,
        range: ByteRange,
        window: u64,
    ) -> Result<Vec<PendingFetch>, RepoError> {
        let range = range.intersect(ByteRange::new(0, node.size));
        let FileExtent::Chunks(located) = self.locate(node, range).await? else {
            return Ok(Vec::new());
        };
        let store = self.content_store(node)?;
        let cache = self.repository.loader().cache();
        let fetches = located.iter().filter_map(|part| {
            let (table, goal) = (part.table.chunks(), PrefetchGoal::Read);
            let fetch = cache.prefetch(store, table, part.index, window, goal);
            fetch.map(PendingFetch::Chunks)
        });
        Ok(fetches.collect())
    }

    /// Starts to prefetch chunk `table[index]` and the chunks that follow it both in
    /// the table and in the blob, up to `window` stored bytes. `None` if the goal is
    /// reached already. Must be called within a runtime.
    pub fn begin_chunks(
        &self,
        table: &[ChunkRef],
        index: usize,
        window: u64,
        goal: PrefetchGoal,
    ) -> Option<PendingFetch> {
        let cache = self.repository.loader().cache();
        let fetch = cache.prefetch(self.repository.store(), table, index, window, goal);
        fetch.map(PendingFetch::Chunks)
    }

    /// Starts to prefetch a file stored as one blob; `None` if it is known or its key
    /// is missing. Must be called within a runtime.
    pub fn begin_whole(&self, whole: &WholeBlob) -> Option<PendingFetch> {
        let store = self.repository.store_of(whole).ok()?;
        let cache = self.repository.loader().cache();
        cache
            .prefetch_raw_file(store, whole)
            .map(PendingFetch::Whole)
    }

    /// Starts to refetch a piece of a file stored as one blob; `None` if it is on
    /// disk. Must be called within a runtime.
    pub fn begin_piece(
        &self,
        whole: &WholeBlob,
        pieces: &[ChunkRef],
        at: usize,
    ) -> Option<PendingFetch> {
        let store = self.repository.store_of(whole).ok()?;
        let cache = self.repository.loader().cache();
        let fetch = cache.prefetch(store, pieces, at, 0, PrefetchGoal::Persist);
        fetch.map(PendingFetch::Chunks)
    }

    /// Most plain bytes to preload per reader.
    pub fn preload_bytes(&self) -> u64 {
        self.repository.loader().cache().preload_bytes()
    }

    /// Stored bytes per prefetch request, based on the measured link.
    pub fn request_bytes(&self) -> u64 {
        cache::request_bytes(self.repository.store().as_ref())
    }
}
