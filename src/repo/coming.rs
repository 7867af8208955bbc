//! Content that is fetched ahead of its readers.

use std::sync::Arc;

use bytes::Bytes;

use super::content::Cover;
use super::{Node, RepoError, Snapshot};
use crate::cache::{self, Underway};
use walgit_format::chunk::{ByteRange, ChunkHash, ChunkRef, WholeBlob};

/// Something that is being fetched ahead of its readers. Dropped before it has
/// landed, it is called off, unless somebody else wants it.
#[derive(Debug)]
#[must_use = "a fetch that nobody holds is called off"]
pub enum Coming {
    /// Some chunks.
    Chunks(Underway<Bytes>),
    /// A blob that is a file.
    Whole(Underway<Arc<[ChunkRef]>>),
}

impl Coming {
    /// Waits until it can be read.
    ///
    /// # Errors
    /// What kept it from being fetched.
    pub async fn landed(&self) -> Result<(), RepoError> {
        match self {
            Coming::Chunks(chunks) => chunks.landed().await?,
            Coming::Whole(whole) => whole.landed().await?,
        }
        Ok(())
    }

    /// The chunks that it brings, as far as that is known.
    pub fn chunks(&self) -> &[ChunkHash] {
        match self {
            Coming::Chunks(chunks) => chunks.brings(),
            Coming::Whole(_) => &[],
        }
    }

    /// Waits until it is on disk.
    ///
    /// # Errors
    /// What kept it from being fetched or written.
    pub async fn kept(&self) -> Result<(), RepoError> {
        match self {
            Coming::Chunks(chunks) => chunks.kept().await?,
            Coming::Whole(whole) => whole.kept().await?,
        }
        Ok(())
    }
}

impl Snapshot {
    /// Begins to fetch `range` of a file ahead of its readers, in requests of
    /// up to `window` stored bytes. Waits for nothing but the list of its
    /// chunks; for a file that is one blob see [`Snapshot::begin_whole`].
    ///
    /// # Errors
    /// What kept that list from being read.
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

    /// Begins to fetch chunk `table[index]` ahead of its readers, with those
    /// that follow it in the table and in the blob, up to `window` stored
    /// bytes; `None` where it is here. Must be called within a runtime.
    pub fn begin_chunks(&self, table: &[ChunkRef], index: usize, window: u64) -> Option<Coming> {
        let cache = self.repository.loader().cache();
        let begun = cache.begin(self.repository.store(), table, index, window);
        begun.map(Coming::Chunks)
    }

    /// As [`Snapshot::begin_chunks`], for what others are patches against, and may
    /// be read as well: a table without patches.
    pub fn begin_bases(&self, table: &[ChunkRef], index: usize, window: u64) -> Option<Coming> {
        let cache = self.repository.loader().cache();
        let begun = cache.begin_bases(self.repository.store(), table, index, window);
        begun.map(Coming::Chunks)
    }

    /// As [`Snapshot::begin_chunks`], for what must be on disk in the end:
    /// `None` only where it is there already.
    pub fn begin_keeping(&self, table: &[ChunkRef], index: usize, window: u64) -> Option<Coming> {
        let cache = self.repository.loader().cache();
        let begun = cache.begin_keeping(self.repository.store(), table, index, window);
        begun.map(Coming::Chunks)
    }

    /// Begins to fetch a file that is one blob ahead of its readers; `None`
    /// where it is known, or its key is not. Must be called within a runtime.
    pub fn begin_whole(&self, whole: &WholeBlob) -> Option<Coming> {
        let store = self.repository.store_of(whole).ok()?;
        let cache = self.repository.loader().cache();
        cache.begin_whole(store, whole).map(Coming::Whole)
    }

    /// Begins to fetch a piece of a file that is one blob again; `None` where
    /// it is on disk. Must be called within a runtime.
    pub fn begin_piece(&self, whole: &WholeBlob, pieces: &[ChunkRef], at: usize) -> Option<Coming> {
        let store = self.repository.store_of(whole).ok()?;
        let cache = self.repository.loader().cache();
        let begun = cache.begin_keeping(store, pieces, at, 0);
        begun.map(Coming::Chunks)
    }

    /// Takes chunks that are on disk into memory ahead of their readers, on this
    /// thread.
    pub fn preload(&self, chunks: &[ChunkRef]) {
        let cache = self.repository.loader().cache();
        let at_rest = self.repository.store().at_rest();
        chunks
            .iter()
            .for_each(|chunk| cache.preload(chunk, at_rest));
    }

    /// As [`Snapshot::preload`], for the pieces of a file that is one blob.
    pub fn preload_pieces(&self, whole: &WholeBlob, pieces: &[ChunkRef]) {
        let Ok(store) = self.repository.store_of(whole) else {
            return;
        };
        let (cache, at_rest) = (self.repository.loader().cache(), store.at_rest());
        pieces
            .iter()
            .for_each(|piece| cache.preload(piece, at_rest));
    }

    /// Plain bytes that should be preloaded ahead of one reader at most.
    pub fn preload_bytes(&self) -> u64 {
        self.repository.loader().cache().preload_bytes()
    }

    /// Stored bytes that one request ahead of readers should ask for, by what
    /// the link is known to be.
    pub fn request_bytes(&self) -> u64 {
        cache::request_bytes(self.repository.store().as_ref())
    }
}
