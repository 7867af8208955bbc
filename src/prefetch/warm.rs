//! Bringing a part of a tree into the cache because its user said so, rather
//! than because a reader is expected.
//!
//! The files are taken in the order in which they are stored, a stretch of the
//! tree at a time, so that memory does not grow with the tree.

use serde::{Deserialize, Serialize};

use super::requests;
use crate::repo::{Node, RepoError, Snapshot};
use walgit_format::Kind;
use walgit_format::chunk::{ChunkRef, WholeBlob};

/// Files and directories that are looked at together.
const STRETCH: u64 = 8192;
/// Requests that are made before the first of them is waited for.
const REQUESTS: usize = 8;

/// What was brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warmed {
    /// Files and directories.
    pub nodes: u64,
    /// Bytes of content, as readers see them.
    pub bytes: u64,
    /// Stored bytes that were not here before.
    pub fetched: u64,
}

/// Brings everything below a node into the cache; with `pin`, keeps it there
/// under that name. Tells `progress` how many bytes of content are here, of how
/// many.
///
/// # Errors
/// What kept something from being read; what came before it is kept. With
/// `pin`, also when pins may not take so much, before anything is fetched that
/// is not needed to tell.
pub async fn warm(
    snapshot: &Snapshot,
    node: &Node,
    pin: Option<&str>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Warmed, RepoError> {
    let mut warmed = Warmed {
        bytes: node.size,
        ..Warmed::default()
    };
    if let Some(name) = pin {
        // Where files are blobs of their own, only having them tells what they
        // consist of: those are added at the end.
        pin_all(snapshot, node, name).await?;
    }
    let mut here = 0;
    let mut whole = false;
    let mut walk = Walk::over(snapshot, node).await?;
    while let Some(part) = walk.next().await? {
        warmed.nodes += part.nodes;
        whole |= !part.wholes.is_empty();
        let missing_nodes = missing(snapshot, part.structure);
        fetch(snapshot, &missing_nodes, |chunks| {
            warmed.fetched += stored(chunks);
        })
        .await?;
        for table in part.tables {
            let all = plain(&table);
            let missing = missing(snapshot, table);
            here += all - plain(&missing);
            progress(here, node.size);
            fetch(snapshot, &missing, |chunks| {
                warmed.fetched += stored(chunks);
                here += plain(chunks);
                progress(here, node.size);
            })
            .await?;
        }
        for file in &part.wholes {
            if fetch_whole(snapshot, file).await? {
                warmed.fetched += file.size;
            }
            here += file.size;
            progress(here, node.size);
        }
    }
    if let (Some(name), true) = (pin, whole) {
        pin_all(snapshot, node, name).await?;
    }
    Ok(warmed)
}

/// Pins what a subtree is stored in, as far as it is known.
async fn pin_all(snapshot: &Snapshot, node: &Node, name: &str) -> Result<(), RepoError> {
    let mut chunks = Vec::new();
    let mut walk = Walk::over(snapshot, node).await?;
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

/// Goes over a subtree, a stretch at a time.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    at: u64,
    end: u64,
}

/// What a stretch of a subtree is stored in.
struct Part {
    /// Files and directories in it.
    nodes: u64,
    /// What leads to content: directories, and lists of chunks.
    structure: Vec<ChunkRef>,
    /// Content, each table in the order in which it is stored.
    tables: Vec<Vec<ChunkRef>>,
    /// Files that are a blob each.
    wholes: Vec<WholeBlob>,
}

impl<'a> Walk<'a> {
    async fn over(snapshot: &'a Snapshot, node: &Node) -> Result<Self, RepoError> {
        let nodes = match node.kind {
            Kind::Directory => snapshot.directory(node).await?.nodes(),
            _ => 1,
        };
        Ok(Walk {
            snapshot,
            at: node.index.0,
            end: node.index.0 + nodes,
        })
    }

    async fn next(&mut self) -> Result<Option<Part>, RepoError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let next = (self.at + STRETCH).min(self.end);
        let stretch = self.snapshot.stretch(self.at..next).await?;
        let mut part = Part {
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

/// Those of some chunks that are not on disk: what is in memory alone would be
/// gone tomorrow.
fn missing(snapshot: &Snapshot, mut chunks: Vec<ChunkRef>) -> Vec<ChunkRef> {
    chunks.retain(|chunk| !snapshot.keeps(chunk));
    chunks
}

/// Fetches chunks that are missing, in the order in which they are stored, a
/// few requests at a time. Tells `kept` which are on disk.
async fn fetch(
    snapshot: &Snapshot,
    missing: &[ChunkRef],
    mut kept: impl FnMut(&[ChunkRef]),
) -> Result<(), RepoError> {
    let length = snapshot.request_bytes();
    let starts = requests::starts(missing, length);
    let mut groups = starts.chunks(REQUESTS).peekable();
    while let Some(group) = groups.next() {
        let end = groups.peek().map_or(missing.len(), |next| next[0]);
        let begin = |&at: &usize| snapshot.begin_keeping(missing, at, length);
        let begun: Vec<_> = group.iter().filter_map(begin).collect();
        for coming in begun {
            coming.kept().await?;
        }
        // What could not come along with its neighbours comes alone.
        for at in group[0]..end {
            if let Some(coming) = snapshot.begin_keeping(missing, at, length) {
                coming.kept().await?;
            }
        }
        kept(&missing[group[0]..end]);
    }
    Ok(())
}

/// Fetches a file that is one blob, and what of it was lost since it was known;
/// whether anything was missing.
async fn fetch_whole(snapshot: &Snapshot, file: &WholeBlob) -> Result<bool, RepoError> {
    let mut missing = false;
    if let Some(coming) = snapshot.begin_whole(file) {
        missing = true;
        coming.kept().await?;
    }
    let pieces = snapshot.pieces_of(file).unwrap_or_default();
    for at in 0..pieces.len() {
        if let Some(coming) = snapshot.begin_piece(file, &pieces, at) {
            missing = true;
            coming.kept().await?;
        }
    }
    Ok(missing)
}

fn stored(chunks: &[ChunkRef]) -> u64 {
    chunks.iter().map(|c| u64::from(c.at.stored_len)).sum()
}

fn plain(chunks: &[ChunkRef]) -> u64 {
    chunks.iter().map(|c| u64::from(c.raw_len)).sum()
}
