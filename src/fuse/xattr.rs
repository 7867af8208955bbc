//! Extended attributes, read with `getfattr -n NAME`: the origin of content. They are
//! not listed: see [`super::driver::Driver`].

use crate::repo::{CachedShare, Node, RepoError, Snapshot, Tier};
use walgit_format::Kind;
use walgit_format::chunk::{BlobId, ByteRange, ChunkHash};

/// An extended attribute of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Xattr {
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

impl Xattr {
    /// Returns the attribute with this name.
    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"user.walgit.commit" => Xattr::Commit,
            b"user.walgit.hash" => Xattr::Hash,
            b"user.walgit.tier" => Xattr::Tier,
            b"user.walgit.blob" => Xattr::Blob,
            b"user.walgit.cached" => Xattr::Cached,
            _ => return None,
        })
    }

    /// The value for a node, if it has one.
    pub(super) async fn value(
        self,
        snapshot: &Snapshot,
        node: &Node,
    ) -> Result<Option<String>, RepoError> {
        // The kernel does not allow `user.*` attributes on symlinks.
        if node.kind == Kind::Symlink {
            return Ok(None);
        }
        let chunks = node.chunks();
        Ok(match self {
            Xattr::Commit => {
                let id = &snapshot.commit().id;
                (!id.is_none()).then(|| id.to_string())
            }
            Xattr::Hash if node.kind == Kind::Submodule || chunks.len() > 1 => None,
            // Other tools hashed these files, with other functions.
            Xattr::Hash if snapshot.repository().is_derived() => None,
            Xattr::Hash => Some(match chunks.first() {
                Some(chunk) => chunk.hash.to_string(),
                None => {
                    // Inline content, so this does not wait.
                    let whole = ByteRange::new(0, node.size);
                    ChunkHash::of(&snapshot.read(node, whole, 0).await?).to_string()
                }
            }),
            Xattr::Tier => Some(match snapshot.tier(node) {
                Tier::Inline => "inline".into(),
                Tier::Chunked => "chunked".into(),
                Tier::Walrus => "walrus".into(),
            }),
            Xattr::Blob => blob(snapshot, node).map(|blob| blob.to_string()),
            Xattr::Cached => Some(match snapshot.cached_share(node).await? {
                CachedShare::All => "yes".into(),
                CachedShare::Part => "partly".into(),
                CachedShare::None => "no".into(),
            }),
        })
    }
}

/// The blob with the start of a node's content.
fn blob(snapshot: &Snapshot, node: &Node) -> Option<BlobId> {
    let repository = snapshot.repository();
    let whole = node.whole().map(|whole| whole.blob);
    let first = node.chunks().first().map(|chunk| chunk.location.blob);
    let first = first.filter(|_| !repository.is_derived());
    whole.or(first).or(repository.blob())
}
