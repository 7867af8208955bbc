//! Prefetch of content.

use std::sync::Arc;

use bytes::Bytes;

use super::content::Cover;
use super::{Node, RepoError, Snapshot};
use crate::cache::{self, Underway};
use walgit_format::chunk::{ByteRange, ChunkHash, ChunkRef, WholeBlob};

/// A prefetch in progress. Dropping it cancels the fetch, unless another task waits
/// for the same content.
#[derive(Debug)]
#[must_use = "a fetch that nobody holds is called off"]
pub enum Coming {
    /// Some chunks.
    Chunks(Underway<Bytes>),
    /// A file stored as one blob.
    Whole(Underway<Arc<[ChunkRef]>>),
}

impl Coming {
    /// Waits until the content can be read.
    ///
    /// # Errors
    /// Fails if it cannot be fetched.
    pub async fn landed(&self) -> Result<(), RepoError> {
        match self {
            Coming::Chunks(chunks) => chunks.landed().await?,
            Coming::Whole(whole) => whole.landed().await?,
        }
        Ok(())
    }

    /// The chunks that it fetches, if known.
    pub fn chunks(&self) -> &[ChunkHash] {
        match self {
            Coming::Chunks(chunks) => chunks.brings(),
            Coming::Whole(_) => &[],
        }
    }

    /// Waits until the content is on disk.
    ///
    /// # Errors
    /// Fails if it cannot be fetched or written.
    pub async fn kept(&self) -> Result<(), RepoError> {
        match self {
            Coming::Chunks(chunks) => chunks.kept().await?,
            Coming::Whole(whole) => whole.kept().await?,
        }
        Ok(())
    }
}

impl Snapshot {
    /// Starts to prefetch `range` of a file, in requests of up to `window` stored
    /// bytes. Waits only for the chunk list. For a file stored as one blob see
    /// [`Snapshot::begin_whole`].
    ///
    /// # Errors
    /// Fails if the chunk list cannot be read.
    pub async fn begin(
        &self,
        node: &Node,
        range: ByteRange,
        window: u64,
    ) -> Result<Vec<Coming>, RepoError> {
        let range = range.intersect(ByteRange::new(0, node.size));
        let Cover::Chunks(located) = self.locate(node, range).await? else {
            return Ok(Vec::new());
        };
        let store = self.store_of_content(node)?;
        let cache = self.repository.loader().cache();
        let begun = located.iter().filter_map(|part| {
            let begun = cache.begin(store, part.table.chunks(), part.index, window);
            begun.map(Coming::Chunks)
        });
        Ok(begun.collect())
    }

    /// Starts to prefetch chunk `table[index]` and the chunks that follow it both in
    /// the table and in the blob, up to `window` stored bytes. `None` if it is
    /// cached. Must be called within a runtime.
    pub fn begin_chunks(&self, table: &[ChunkRef], index: usize, window: u64) -> Option<Coming> {
        let cache = self.repository.loader().cache();
        let begun = cache.begin(self.repository.store(), table, index, window);
        begun.map(Coming::Chunks)
    }

    /// As [`Snapshot::begin_chunks`], for chunks that serve as patch bases and may be
    /// read as well: a table without patches.
    pub fn begin_bases(&self, table: &[ChunkRef], index: usize, window: u64) -> Option<Coming> {
        let cache = self.repository.loader().cache();
        let begun = cache.begin_bases(self.repository.store(), table, index, window);
        begun.map(Coming::Chunks)
    }

    /// As [`Snapshot::begin_chunks`], for chunks that must end up on disk: `None`
    /// only if the chunk is on disk already.
    pub fn begin_keeping(&self, table: &[ChunkRef], index: usize, window: u64) -> Option<Coming> {
        let cache = self.repository.loader().cache();
        let begun = cache.begin_keeping(self.repository.store(), table, index, window);
        begun.map(Coming::Chunks)
    }

    /// Starts to prefetch a file stored as one blob; `None` if it is known or its key
    /// is missing. Must be called within a runtime.
    pub fn begin_whole(&self, whole: &WholeBlob) -> Option<Coming> {
        let store = self.repository.store_of(whole).ok()?;
        let cache = self.repository.loader().cache();
        cache.begin_whole(store, whole).map(Coming::Whole)
    }

    /// Starts to refetch a piece of a file stored as one blob; `None` if it is on
    /// disk. Must be called within a runtime.
    pub fn begin_piece(&self, whole: &WholeBlob, pieces: &[ChunkRef], at: usize) -> Option<Coming> {
        let store = self.repository.store_of(whole).ok()?;
        let cache = self.repository.loader().cache();
        let begun = cache.begin_keeping(store, pieces, at, 0);
        begun.map(Coming::Chunks)
    }

    /// Loads chunks from disk into memory, on this thread.
    pub fn preload(&self, chunks: &[ChunkRef]) {
        let cache = self.repository.loader().cache();
        let at_rest = self.repository.store().at_rest();
        chunks
            .iter()
            .for_each(|chunk| cache.preload(chunk, at_rest));
    }

    /// As [`Snapshot::preload`], for the pieces of a file stored as one blob.
    pub fn preload_pieces(&self, whole: &WholeBlob, pieces: &[ChunkRef]) {
        let Ok(store) = self.repository.store_of(whole) else {
            return;
        };
        let (cache, at_rest) = (self.repository.loader().cache(), store.at_rest());
        pieces
            .iter()
            .for_each(|piece| cache.preload(piece, at_rest));
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
