//! Bringing a part of a tree into the cache because its user said so, rather
//! than because a reader is expected.
//!
//! The files are taken in the order in which they are stored, a stretch of the
//! tree at a time, so that memory does not grow with the tree.

use serde::{Deserialize, Serialize};

use super::ahead::starts;
use crate::chunk::{ChunkRef, WholeBlob};
use crate::repo::{Coming, Kind, Node, RepoError, Snapshot};

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
    let end = node.index.0 + nodes_of(snapshot, node).await?;
    let mut at = node.index.0;
    while at < end {
        let next = (at + STRETCH).min(end);
        let stretch = snapshot.stretch(at..next).await?;
        warmed.nodes += next - at;
        at = next;
        whole |= !stretch.wholes.is_empty();
        let mut tables = vec![stretch.chunks];
        for file in &stretch.listed {
            tables.push(snapshot.file_parts(file).await?.content);
        }
        for table in tables {
            let plain: u64 = table.iter().map(|c| u64::from(c.raw_len)).sum();
            let missing: Vec<ChunkRef> = table.into_iter().filter(|c| !snapshot.holds(c)).collect();
            here += plain - missing.iter().map(|c| u64::from(c.raw_len)).sum::<u64>();
            progress(here, node.size);
            fetch(snapshot, &missing, |stored, plain| {
                warmed.fetched += stored;
                here += plain;
                progress(here, node.size);
            })
            .await?;
        }
        for file in &stretch.wholes {
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

/// Nodes of a subtree, its root included.
async fn nodes_of(snapshot: &Snapshot, node: &Node) -> Result<u64, RepoError> {
    match node.kind {
        Kind::Directory => Ok(snapshot.directory(node).await?.nodes()),
        _ => Ok(1),
    }
}

/// Fetches chunks that are missing, in the order in which they are stored, a
/// few requests at a time. Tells `landed` the stored and plain bytes of each.
async fn fetch(
    snapshot: &Snapshot,
    missing: &[ChunkRef],
    mut landed: impl FnMut(u64, u64),
) -> Result<(), RepoError> {
    let mut rest = missing;
    while !rest.is_empty() {
        let length = snapshot.request_bytes();
        let mut starts = starts(rest, length);
        starts.truncate(REQUESTS + 1);
        // All but the last go to where the next one starts.
        let taken = match starts.get(REQUESTS) {
            Some(&next) => next,
            None => rest.len(),
        };
        let coming: Vec<(usize, Option<Coming>)> = (starts.into_iter().take(REQUESTS))
            .map(|first| (first, snapshot.begin_chunks(rest, first, length)))
            .collect();
        for (_, coming) in &coming {
            if let Some(coming) = coming {
                coming.landed().await?;
            }
        }
        // What could not come along with its neighbours comes alone.
        for at in 0..taken {
            if let Some(coming) = snapshot.begin_chunks(&rest[..taken], at, length) {
                coming.landed().await?;
            }
        }
        let (done, left) = rest.split_at(taken);
        let sum = |of: fn(&ChunkRef) -> u32| done.iter().map(|c| u64::from(of(c))).sum();
        landed(sum(|c| c.at.stored_len), sum(|c| c.raw_len));
        rest = left;
    }
    Ok(())
}

/// Fetches a file that is one blob, and what of it was lost since it was known;
/// whether anything was missing.
async fn fetch_whole(snapshot: &Snapshot, file: &WholeBlob) -> Result<bool, RepoError> {
    let Some(coming) = snapshot.begin_whole(file) else {
        let pieces = snapshot.pieces_of(file).unwrap_or_default();
        let mut missing = false;
        for at in 0..pieces.len() {
            if let Some(coming) = snapshot.begin_piece(file, &pieces, at) {
                missing = true;
                coming.landed().await?;
            }
        }
        return Ok(missing);
    };
    coming.landed().await?;
    Ok(true)
}

/// Pins what a subtree is stored in, as far as it is known.
async fn pin_all(snapshot: &Snapshot, node: &Node, name: &str) -> Result<(), RepoError> {
    let mut chunks = Vec::new();
    let end = node.index.0 + nodes_of(snapshot, node).await?;
    let mut at = node.index.0;
    while at < end {
        let next = (at + STRETCH).min(end);
        let stretch = snapshot.stretch(at..next).await?;
        at = next;
        chunks.extend(stretch.directories);
        chunks.extend(stretch.chunks);
        for file in &stretch.listed {
            let parts = snapshot.file_parts(file).await?;
            chunks.extend(parts.lists);
            chunks.extend(parts.content);
        }
        for file in &stretch.wholes {
            let pieces = snapshot.pieces_of(file).unwrap_or_default();
            chunks.extend_from_slice(&pieces);
        }
    }
    snapshot.repository().pin(name, &chunks)
}
