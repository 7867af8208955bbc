//! Storage layout of nodes, and their residency.

use std::sync::Arc;

use super::error::RepoError;
use super::snapshot::{Node, Snapshot};
use crate::cache::{CacheView, Residency};
use walgit_format::chunk::{ChunkHash, ChunkRef, Codec, WholeBlob};
use walgit_format::{ChunkList, Content, Kind, MalformedNode};

/// Storage layout of a node's content, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Inside the node of its directory.
    Inline,
    /// As chunks in shared packs.
    Chunked,
    /// As a separate Walrus blob.
    Walrus,
}

impl Tier {
    /// The layout of a file with these chunks; an empty slice means no chunks.
    pub fn of(chunks: &[ChunkRef]) -> Self {
        match chunks {
            [] => Tier::Inline,
            // A chunk at offset 0 has no WalGit header before it: its blob contains
            // only the file.
            [first, ..] if first.location.offset == 0 && first.codec == Codec::Raw => Tier::Walrus,
            _ => Tier::Chunked,
        }
    }
}

/// The chunks of a file.
#[derive(Clone, Debug, Default)]
pub struct FileParts {
    /// Content chunks in order; empty for an inline file.
    pub content: Vec<ChunkRef>,
    /// The chunk lists of a large file.
    pub lists: Vec<ChunkRef>,
}

/// How much of a node's content is in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachedShare {
    /// All of it.
    All,
    /// Part of it.
    Part,
    /// None of it.
    None,
}

impl CachedShare {
    fn of(chunks: &[ChunkRef], holds: impl Fn(&ChunkHash) -> bool) -> Self {
        match chunks.iter().filter(|chunk| holds(&chunk.hash)).count() {
            held if held == chunks.len() => CachedShare::All,
            0 => CachedShare::None,
            _ => CachedShare::Part,
        }
    }
}

impl Snapshot {
    /// The chunk of a directory's node, if it is stored as a chunk.
    pub fn node_of(&self, node: &Node) -> Option<ChunkRef> {
        let chunk = node.chunks().first()?.clone();
        let derived = self.repository.derived(&chunk.hash).is_some();
        (node.kind == Kind::Directory && !derived).then_some(chunk)
    }

    /// The pieces of a file stored as one blob, if known.
    pub fn pieces_of(&self, whole: &WholeBlob) -> Option<Arc<[ChunkRef]>> {
        self.cache_of(whole)?.raw_file(whole)
    }

    /// The cache of this repository's tree and content.
    pub fn cache(&self) -> CacheView<'_> {
        let cache = self.repository.loader().cache();
        cache.view(self.repository.store().at_rest())
    }

    /// The cache of a file stored as one blob; `None` without its key.
    pub fn cache_of(&self, whole: &WholeBlob) -> Option<CacheView<'_>> {
        let cache = self.repository.loader().cache();
        Some(cache.view(self.repository.store_of(whole).ok()?.at_rest()))
    }

    /// Every content chunk of a file, in order; empty for an inline file.
    pub async fn file_chunks(&self, node: &Node) -> Result<Vec<ChunkRef>, RepoError> {
        Ok(self.file_parts(node).await?.content)
    }

    /// All chunks of a file, except for the node of its directory.
    pub async fn file_parts(&self, node: &Node) -> Result<FileParts, RepoError> {
        let mut parts = FileParts::default();
        let (parent, entry) = node.entry().ok_or(RepoError::IsADirectory)?;
        let Content::List { index } = entry.content else {
            parts.content = node.chunks().to_vec();
            return Ok(parts);
        };
        let index = index as usize;
        parts.lists.push(parent.chunks()[index].clone());
        let mut pending = vec![self.list(parent.chunks(), index, node.size, None).await?];
        while let Some(list) = pending.pop() {
            if list.level() == 0 {
                parts.content.extend_from_slice(list.parts());
                continue;
            }
            parts.lists.extend_from_slice(list.parts());
            for part in (0..list.parts().len()).rev() {
                let covers = list.start(part + 1) - list.start(part);
                let level = Some(list.level() - 1);
                pending.push(self.list(list.parts(), part, covers, level).await?);
            }
        }
        Ok(parts)
    }

    /// The chunk list at `table[index]`.
    ///
    /// # Errors
    /// Fails if the list cannot be read, does not cover `covers` bytes, or has another
    /// level than its parent requires.
    pub async fn list(
        &self,
        table: &[ChunkRef],
        index: usize,
        covers: u64,
        level: Option<u8>,
    ) -> Result<Arc<ChunkList>, RepoError> {
        let loader = self.repository.loader();
        let (account, store) = (&self.repository.access().account, self.repository.store());
        let list = loader.list(account, store, table, index).await?;
        if list.len() != covers {
            return Err(malformed_list(&table[index], "sizes"));
        }
        if level.is_some_and(|level| level != list.level()) {
            return Err(malformed_list(&table[index], "levels"));
        }
        Ok(list)
    }

    /// How much of a node's content is in the cache. Does not fetch content, but may
    /// fetch the chunk list of a large file.
    pub async fn cached_share(&self, node: &Node) -> Result<CachedShare, RepoError> {
        let first = node.chunks();
        if let Some(whole) = node.whole() {
            let cached = self.cache_of(whole);
            let cached = cached.and_then(|cache| Some((cache, cache.raw_file(whole)?)));
            return Ok(match cached {
                Some((cache, pieces)) => CachedShare::of(&pieces, |hash| cache.contains(hash)),
                None => CachedShare::None,
            });
        }
        // If the list is not cached, neither is the content that it references.
        let holds = |hash: &ChunkHash| self.cache().contains(hash);
        if !first.is_empty() && !first.iter().any(|chunk| holds(&chunk.hash)) {
            return Ok(CachedShare::None);
        }
        Ok(match node.kind {
            Kind::File { .. } => CachedShare::of(&self.file_chunks(node).await?, holds),
            _ => CachedShare::of(first, holds),
        })
    }

    /// Residency of the start of a file.
    pub fn residency(&self, node: &Node) -> Residency {
        let residency = |cache: CacheView<'_>, chunks: &[ChunkRef]| {
            let first = chunks.first();
            first.map_or(Residency::Memory, |first| cache.residency(&first.hash))
        };
        let Some(whole) = node.whole() else {
            return residency(self.cache(), node.chunks());
        };
        let cached = self.cache_of(whole);
        let cached = cached.and_then(|cache| Some((cache, cache.raw_file(whole)?)));
        cached.map_or(Residency::Network, |(cache, pieces)| {
            residency(cache, &pieces)
        })
    }

    /// Storage layout of a node's content.
    pub fn tier(&self, node: &Node) -> Tier {
        match node.whole() {
            Some(_) => Tier::Walrus,
            None => Tier::of(node.chunks()),
        }
    }
}

fn malformed_list(reference: &ChunkRef, what: &'static str) -> RepoError {
    RepoError::Malformed {
        what: "chunk list",
        hash: reference.hash,
        why: MalformedNode::Sum(what),
    }
}
