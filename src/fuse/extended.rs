//! Extended attributes, read with `getfattr -n NAME`: the origin of content. They are
//! not listed: see [`super::Driver`].

use crate::repo::{Held, Node, RepoError, Snapshot, Tier};
use walgit_format::Kind;
use walgit_format::chunk::{BlobId, ByteRange, ChunkHash};

/// An extended attribute of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extended {
    /// The git ID of the commit of the tree.
    Commit,
    /// BLAKE3 of the content of a file in at most one chunk, of the list of a file in
    /// many chunks, or of the node of a directory. A file in a few chunks has none.
    Hash,
    /// Storage layout of the content: `inline`, `chunked` or `walrus`.
    Tier,
    /// The blob with the start of the content.
    Blob,
    /// Whether the content is in the cache: `yes`, `partly` or `no`.
    Cached,
}

impl Extended {
    /// All attributes.
    const ALL: [Extended; 5] = [
        Extended::Commit,
        Extended::Hash,
        Extended::Tier,
        Extended::Blob,
        Extended::Cached,
    ];

    /// Its name.
    fn name(self) -> &'static str {
        match self {
            Extended::Commit => "user.walgit.commit",
            Extended::Hash => "user.walgit.hash",
            Extended::Tier => "user.walgit.tier",
            Extended::Blob => "user.walgit.blob",
            Extended::Cached => "user.walgit.cached",
        }
    }

    /// Returns the attribute with this name.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        (Self::ALL.into_iter()).find(|known| known.name().as_bytes() == name)
    }

    /// Whether a node has the attribute.
    fn is_on(self, snapshot: &Snapshot, node: &Node) -> bool {
        match (self, node.kind) {
            // The kernel does not allow `user.*` attributes on symlinks.
            (_, Kind::Symlink) => false,
            (Extended::Commit, _) => !snapshot.commit().id.is_none(),
            (Extended::Hash, Kind::Submodule) => false,
            // Other tools hashed these files, with other functions.
            (Extended::Hash, _) if snapshot.repository().is_implied() => false,
            (Extended::Hash, _) => snapshot.chunks_of(node).len() <= 1,
            (Extended::Blob, _) => blob(snapshot, node).is_some(),
            (Extended::Tier | Extended::Cached, _) => true,
        }
    }

    /// The value for a node, if it has one.
    ///
    /// # Errors
    /// Fails if a required node cannot be read.
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
                    // Inline content, so this does not wait.
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
            Extended::Blob => match blob(snapshot, node) {
                Some(blob) => blob.to_string(),
                None => return Ok(None),
            },
            Extended::Cached => match snapshot.held(node).await? {
                Held::All => "yes",
                Held::Part => "partly",
                Held::Nothing => "no",
            }
            .into(),
        }))
    }
}

/// The blob with the start of a node's content.
fn blob(snapshot: &Snapshot, node: &Node) -> Option<BlobId> {
    let repository = snapshot.repository();
    let whole = snapshot.whole_of(node).map(|whole| whole.blob);
    let first = snapshot
        .chunks_of(node)
        .first()
        .map(|chunk| chunk.location.blob);
    let first = first.filter(|_| !repository.is_implied());
    whole.or(first).or(repository.blob())
}
