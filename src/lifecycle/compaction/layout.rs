//! How a head lies.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::super::walk::{Need, Place, Role, Walk, with_bases};
use crate::cache::MAX_GAP;
use crate::repo::{RepoError, Repository, Tier};
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, Codec};

/// Blobs that are asked for their length at once.
const AT_ONCE: usize = 16;
/// Stored bytes that one request of a walk asks for.
const REQUEST: u64 = 4 << 20;

/// What a head needs of a blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of it that are needed.
    pub live: u64,
    /// Those of them that are nodes: directories and lists, which are written
    /// anew with every layout.
    pub nodes: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Whether it is a file, and nothing else.
    pub plain: bool,
}

/// How a head lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The blobs it needs.
    pub blobs: BTreeMap<BlobId, Held>,
    /// Requests that reading all of its trees takes: ranges that lie together
    /// count as one, up to 4 MiB.
    pub requests: u64,
    /// Stored bytes of the trees and of what is in them.
    pub tree_bytes: u64,
    /// Files that want to be kept elsewhere, and their bytes.
    pub moves: (u64, u64),
    /// Content that is a patch against what is in no tree: the blob of its base, and
    /// about the bytes it would take whole.
    pub patched: Vec<(BlobId, u64)>,
}

/// A file that a measuring came to; inline ones are not told of.
#[derive(Clone, Copy, Debug)]
pub struct FileFound<'a> {
    /// Where it is.
    pub place: &'a Place,
    /// Its length in bytes.
    pub size: u64,
    /// Whether it shrinks, as far as it is stored like that.
    pub shrinks: bool,
    /// Where it is kept.
    pub tier: Tier,
}

/// Measures how a head lies; `moves` says which files want to be kept elsewhere.
///
/// # Errors
/// What kept a node from being read.
pub async fn measure(
    repository: &Repository,
    moves: &(dyn Fn(&FileFound<'_>) -> bool + Sync),
) -> Result<Layout, RepoError> {
    let mut layout = Layout::default();
    // By where they lie: what is needed twice is there once.
    let mut seen: HashMap<(BlobId, u64), (u32, bool)> = HashMap::new();
    let mut file: Option<Arc<Place>> = None;
    // Content of the trees, and patches with their bases.
    let mut content: HashSet<ChunkHash> = HashSet::new();
    let mut patches: HashMap<ChunkHash, ChunkRef> = HashMap::new();
    let mut walk = Walk::of(repository);
    while let Some(stretch) = walk.next().await {
        for found in stretch {
            let (chunk, role) = match found.need {
                Need::Chunk(chunk, role) => (chunk, role),
                Need::Unreadable(why) => return Err(why),
                Need::Opened(blob) | Need::Perhaps(blob) => {
                    layout.blobs.entry(blob).or_default();
                    continue;
                }
                Need::Whole(_) => continue,
            };
            if role == Role::Content && file.as_ref() != Some(&found.place) {
                if let Place::In(_, _, size) = *found.place {
                    let found = of_file(&found.place, size, &chunk);
                    if moves(&found) {
                        layout.moves = (layout.moves.0 + 1, layout.moves.1 + size);
                    }
                }
                file = Some(found.place.clone());
            }
            let in_tree = role != Role::Attachment;
            if role == Role::Content && matches!(*found.place, Place::In(..)) {
                content.insert(chunk.hash);
                if let (Codec::Patch, [base, ..]) = (chunk.at.codec, &chunk.bases[..]) {
                    patches.insert(chunk.hash, base.clone());
                }
            }
            for (chunk, role) in with_bases(&chunk, role) {
                let at = (chunk.at.blob, chunk.at.offset);
                let known = seen.entry(at).or_insert((0, false));
                known.1 |= in_tree;
                if known.0 == 0 {
                    known.0 = chunk.at.stored_len;
                    layout.note(chunk, role);
                }
            }
        }
    }
    layout.patched = (patches.into_values())
        .filter(|base| !content.contains(&base.hash))
        .map(|base| (base.at.blob, u64::from(base.at.stored_len)))
        .collect();
    layout.patched.sort_unstable();
    let mut ranges: Vec<(BlobId, u64, u64)> = (seen.into_iter())
        .filter(|(_, (_, in_tree))| *in_tree)
        .map(|((blob, offset), (len, _))| (blob, offset, offset + u64::from(len)))
        .collect();
    ranges.sort_unstable();
    layout.tree_bytes = ranges.iter().map(|(_, start, end)| end - start).sum();
    layout.requests = requests(&ranges);
    let blobs: Vec<BlobId> = layout.blobs.keys().copied().collect();
    let lens = futures_util::stream::iter(blobs)
        .map(|blob| async move { Ok::<_, RepoError>((blob, repository.store().len(blob).await?)) })
        .buffered(AT_ONCE);
    let lens: Vec<(BlobId, Option<u64>)> = lens.try_collect().await?;
    for (blob, len) in lens {
        if let Some(held) = layout.blobs.get_mut(&blob) {
            held.len = len.unwrap_or(0).max(held.live);
        }
    }
    Ok(layout)
}

fn of_file<'a>(place: &'a Place, size: u64, first: &ChunkRef) -> FileFound<'a> {
    FileFound {
        place,
        size,
        shrinks: first.at.codec != Codec::Raw,
        tier: Tier::of(std::slice::from_ref(first)),
    }
}

impl Layout {
    fn note(&mut self, chunk: &ChunkRef, role: Role) {
        let held = self.blobs.entry(chunk.at.blob).or_default();
        let len = u64::from(chunk.at.stored_len);
        held.live += len;
        held.plain |= Tier::of(std::slice::from_ref(chunk)) == Tier::Walrus;
        if matches!(role, Role::Directory | Role::List) {
            held.nodes += len;
        }
    }
}

/// How many requests read these ranges, which are sorted.
fn requests(ranges: &[(BlobId, u64, u64)]) -> u64 {
    let mut requests = 0;
    let mut last: Option<(BlobId, u64, u64)> = None;
    for &(blob, start, end) in ranges {
        match &mut last {
            Some((of, from, to))
                if *of == blob && start <= *to + MAX_GAP && end - *from <= REQUEST =>
            {
                *to = end.max(*to);
            }
            _ => {
                requests += 1;
                last = Some((blob, start, end));
            }
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_together_is_one_request_up_to_its_length() {
        let blob = |n| BlobId::from_bytes([n; 32]);
        assert_eq!(requests(&[]), 0);
        let near = [
            (blob(1), 0, 100),
            (blob(1), 100, 200),
            (blob(1), 4000, 5000),
        ];
        assert_eq!(requests(&near), 1);
        let far = [(blob(1), 0, 100), (blob(1), 10_000, 10_100)];
        assert_eq!(requests(&far), 2);
        assert_eq!(requests(&[(blob(1), 0, 100), (blob(2), 100, 200)]), 2);
        let long: Vec<_> = (0..10).map(|n| (blob(1), n << 20, (n + 1) << 20)).collect();
        assert_eq!(requests(&long), 3);
    }
}
