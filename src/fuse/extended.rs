//! What `getfattr` shows: where content comes from.

use crate::chunk::{ByteRange, ChunkHash};
use crate::repo::{Kind, Node, RepoError, Snapshot, Tier};

/// An extended attribute of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extended {
    /// The commit that the tree is of, as git calls it.
    Commit,
    /// BLAKE3 of a file's content; of what is in many chunks, of their list;
    /// of a directory, of its node. What is in a few chunks has none.
    Hash,
    /// How the content is stored: `inline`, `chunked` or `walrus`.
    Tier,
    /// The blob that the content starts in.
    Blob,
    /// Whether the content is in the cache: `yes`, `partly` or `no`.
    Cached,
}

impl Extended {
    /// All there are.
    pub(super) const ALL: [Extended; 5] = [
        Extended::Commit,
        Extended::Hash,
        Extended::Tier,
        Extended::Blob,
        Extended::Cached,
    ];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Extended::Commit => "user.walgit.commit",
            Extended::Hash => "user.walgit.hash",
            Extended::Tier => "user.walgit.tier",
            Extended::Blob => "user.walgit.blob",
            Extended::Cached => "user.walgit.cached",
        }
    }

    /// The one of this name.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        (Self::ALL.into_iter()).find(|known| known.name().as_bytes() == name)
    }

    /// Whether a node has it.
    pub(super) fn is_on(self, snapshot: &Snapshot, node: &Node) -> bool {
        match (self, node.kind) {
            // The kernel lets nobody read `user.*` of a symlink.
            (_, Kind::Symlink) => false,
            (Extended::Commit, _) => !snapshot.commit().id.0.is_empty(),
            (Extended::Hash, Kind::Submodule) => false,
            (Extended::Hash, _) => snapshot.chunks_of(node).len() <= 1,
            (Extended::Tier | Extended::Blob | Extended::Cached, _) => true,
        }
    }

    /// Its value on a node, if it is there.
    ///
    /// # Errors
    /// When a node that is needed cannot be read.
    pub(super) async fn value(
        self,
        snapshot: &Snapshot,
        node: &Node,
    ) -> Result<Option<String>, RepoError> {
        if !self.is_on(snapshot, node) {
            return Ok(None);
        }
        let first = snapshot.chunks_of(node).first();
        Ok(Some(match self {
            Extended::Commit => snapshot.commit().id.to_string(),
            Extended::Hash => match first {
                Some(chunk) => chunk.hash.to_string(),
                None => {
                    // Inline, so there is nothing to wait for.
                    let whole = ByteRange::new(0, node.size);
                    ChunkHash::of(&snapshot.read(node, whole, 0).await?).to_string()
                }
            },
            Extended::Tier => match snapshot.tier(node) {
                Tier::Inline => "inline",
                Tier::Chunked => "chunked",
                Tier::Walrus => "walrus",
            }
            .into(),
            Extended::Blob => match first {
                Some(chunk) => chunk.at.blob.to_string(),
                None => snapshot.repository().blob().to_string(),
            },
            Extended::Cached => cached(snapshot, node).await?.into(),
        }))
    }
}

async fn cached(snapshot: &Snapshot, node: &Node) -> Result<&'static str, RepoError> {
    let cache = snapshot.repository().loader().cache();
    let first = snapshot.chunks_of(node);
    // A list that is not there need not be fetched to tell that what it leads
    // to has not been read.
    if !first.is_empty() && !first.iter().any(|chunk| cache.holds(&chunk.hash)) {
        return Ok("no");
    }
    let chunks = match node.kind {
        Kind::File { .. } => snapshot.file_chunks(node).await?,
        _ => first.to_vec(),
    };
    let held = chunks.iter().filter(|c| cache.holds(&c.hash)).count();
    Ok(match held {
        held if held == chunks.len() => "yes",
        0 => "no",
        _ => "partly",
    })
}
