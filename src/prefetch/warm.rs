//! Warming: loads a part of a tree into the cache at the user's request.
//!
//! Files are processed in storage order, a range of the tree at a time, so that
//! memory does not grow with the tree.

use serde::{Deserialize, Serialize};

use super::requests;
use crate::cache::PrefetchGoal;
use crate::repo::{Node, RepoError, Snapshot};
use walgit_format::Kind;
use walgit_format::chunk::{ChunkRef, WholeBlob};

/// Files and directories per part.
const FILES_PER_PART: u64 = 8192;
/// Requests started before the first one is awaited.
const CONCURRENT_REQUESTS: usize = 8;

/// Result of warming.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmReport {
    /// Number of files and directories.
    pub nodes: u64,
    /// Bytes of content, as seen by readers.
    pub bytes: u64,
    /// Stored bytes that were not cached before.
    pub fetched: u64,
}

/// Loads everything below a node into the cache; with `pin`, pins it under that
/// name. Calls `progress` with the bytes of content that are cached and the total.
///
/// # Errors
/// The error that prevented a read; earlier content stays cached. With `pin`, also
/// if pins would exceed their budget, before any content is fetched that is not
/// needed to determine this.
pub async fn warm(
    snapshot: &Snapshot,
    node: &Node,
    pin: Option<&str>,
    mut progress: impl FnMut(u64, u64),
) -> Result<WarmReport, RepoError> {
    let mut warmed = WarmReport {
        bytes: node.size,
        ..WarmReport::default()
    };
    if let Some(name) = pin {
        // Files that are whole blobs reveal their chunks only once fetched: their
        // pins are added at the end.
        pin_all(snapshot, node, name).await?;
    }
    let mut cached = 0;
    let mut has_whole_blobs = false;
    let mut walk = SubtreeWalk::over(snapshot, node).await?;
    while let Some(part) = walk.next().await? {
        warmed.nodes += part.nodes;
        has_whole_blobs |= !part.wholes.is_empty();
        let missing_nodes = missing(snapshot, part.structure);
        fetch(snapshot, &missing_nodes, |chunks| {
            warmed.fetched += stored(chunks);
        })
        .await?;
        for table in part.tables {
            let all = plain(&table);
            let missing = missing(snapshot, table);
            cached += all - plain(&missing);
            progress(cached, node.size);
            fetch(snapshot, &missing, |chunks| {
                warmed.fetched += stored(chunks);
                cached += plain(chunks);
                progress(cached, node.size);
            })
            .await?;
        }
        for file in &part.wholes {
            if fetch_whole(snapshot, file).await? {
                warmed.fetched += file.size;
            }
            cached += file.size;
            progress(cached, node.size);
        }
    }
    if let (Some(name), true) = (pin, has_whole_blobs) {
        pin_all(snapshot, node, name).await?;
    }
    Ok(warmed)
}

/// Pins the chunks of a subtree, as far as they are known.
async fn pin_all(snapshot: &Snapshot, node: &Node, name: &str) -> Result<(), RepoError> {
    let mut chunks = Vec::new();
    let mut walk = SubtreeWalk::over(snapshot, node).await?;
    while let Some(part) = walk.next().await? {
        chunks.extend(part.structure);
        chunks.extend(part.tables.into_iter().flatten());
        for file in &part.wholes {
            let pieces = snapshot.pieces_of(file).unwrap_or_default();
            chunks.extend_from_slice(&pieces);
        }
    }
    snapshot.repository().pin(name, &chunks)
}

/// Traverses a subtree, a part at a time.
struct SubtreeWalk<'a> {
    snapshot: &'a Snapshot,
    at: u64,
    end: u64,
}

/// Chunks of a part of a subtree.
struct WalkPart {
    /// Number of files and directories.
    nodes: u64,
    /// Chunks of directories and chunk lists.
    structure: Vec<ChunkRef>,
    /// Chunks of content, each table in storage order.
    tables: Vec<Vec<ChunkRef>>,
    /// Files that are a blob each.
    wholes: Vec<WholeBlob>,
}

impl<'a> SubtreeWalk<'a> {
    async fn over(snapshot: &'a Snapshot, node: &Node) -> Result<Self, RepoError> {
        let nodes = match node.kind {
            Kind::Directory => snapshot.directory(node).await?.nodes(),
            _ => 1,
        };
        Ok(SubtreeWalk {
            snapshot,
            at: node.index.0,
            end: node.index.0 + nodes,
        })
    }

    async fn next(&mut self) -> Result<Option<WalkPart>, RepoError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let next = (self.at + FILES_PER_PART).min(self.end);
        let stretch = self.snapshot.scan(self.at..next).await?;
        let mut part = WalkPart {
            nodes: next - self.at,
            structure: stretch.directories,
            tables: vec![stretch.chunks],
            wholes: stretch.wholes,
        };
        for file in &stretch.listed {
            let parts = self.snapshot.file_parts(file).await?;
            part.structure.extend(parts.lists);
            part.tables.push(parts.content);
        }
        self.at = next;
        Ok(Some(part))
    }
}

/// Returns the chunks that are not on disk: chunks in memory only would be lost at
/// exit.
fn missing(snapshot: &Snapshot, mut chunks: Vec<ChunkRef>) -> Vec<ChunkRef> {
    chunks.retain(|chunk| !snapshot.cache().contains_on_disk(&chunk.hash));
    chunks
}

/// Fetches missing chunks in storage order, a few requests at a time. Calls `on_stored`
/// with those that are on disk.
async fn fetch(
    snapshot: &Snapshot,
    missing: &[ChunkRef],
    mut on_stored: impl FnMut(&[ChunkRef]),
) -> Result<(), RepoError> {
    let length = snapshot.request_bytes();
    let starts = requests::starts(missing, length);
    let mut groups = starts.chunks(CONCURRENT_REQUESTS).peekable();
    while let Some(group) = groups.next() {
        let end = groups.peek().map_or(missing.len(), |next| next[0]);
        let begin = |&at: &usize| snapshot.begin_chunks(missing, at, length, PrefetchGoal::Persist);
        let started: Vec<_> = group.iter().filter_map(begin).collect();
        for fetch in started {
            fetch.persisted().await?;
        }
        // Chunks that did not arrive with their neighbours are fetched
        // individually.
        for at in group[0]..end {
            if let Some(fetch) = snapshot.begin_chunks(missing, at, length, PrefetchGoal::Persist) {
                fetch.persisted().await?;
            }
        }
        on_stored(&missing[group[0]..end]);
    }
    Ok(())
}

/// Fetches a file that is one blob, or its evicted pieces; returns whether anything
/// was missing.
async fn fetch_whole(snapshot: &Snapshot, file: &WholeBlob) -> Result<bool, RepoError> {
    let mut missing = false;
    if let Some(fetch) = snapshot.begin_whole(file) {
        missing = true;
        fetch.persisted().await?;
    }
    let pieces = snapshot.pieces_of(file).unwrap_or_default();
    for at in 0..pieces.len() {
        if let Some(fetch) = snapshot.begin_piece(file, &pieces, at) {
            missing = true;
            fetch.persisted().await?;
        }
    }
    Ok(missing)
}

fn stored(chunks: &[ChunkRef]) -> u64 {
    chunks.iter().map(|c| u64::from(c.stored_len)).sum()
}

fn plain(chunks: &[ChunkRef]) -> u64 {
    chunks.iter().map(|c| u64::from(c.raw_len)).sum()
}
