//! Attachments of a head: data that `ls` and `cat` never fetch.

use super::id::{CommitId, GitId, ObjectId};
use super::malformed::MalformedNode;
use super::table::UsedChunks;
use super::wire::Reader;
use crate::chunk::budget::{MAX_DICTIONARIES, MAX_DICTIONARY_BYTES};
use crate::chunk::{BlobId, ChunkRef};

/// Length of a part of a manifest in [`AttachmentKind::Manifests`], in bytes.
pub const MANIFEST_PART_BYTES: usize = 1 << 20;
/// Longest profile that a repository carries, in bytes.
pub const MAX_SHIPPED_BYTES: usize = 1 << 20;

/// The kind of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachmentKind {
    /// Raw git commit objects: see `super::git`.
    GitCommits,
    /// Git IDs of the nodes of directories: see `super::git`.
    GitIds,
    /// Manifests of WalGit's own command line, unchanged, in the order of the commits:
    /// each in parts of [`MANIFEST_PART_BYTES`] bytes, of which the last is shorter. The
    /// manifest blobs are then the commit IDs.
    Manifests,
    /// IDs of commit objects on the Sui chain, one per line. They are then the commit
    /// IDs.
    Objects,
    /// Files that changed together: see `super::prior`. One chunk.
    Prior,
    /// A learned order of file opens: a profile of `walgit-prefetch`. One chunk of at
    /// most [`MAX_SHIPPED_BYTES`] bytes.
    Learned,
    /// History: segments of an archive, oldest first; see `super::archive`.
    Archive,
    /// Dictionaries of content chunks, one chunk each. Chunks refer to their own
    /// dictionary; this list lets a mount prefetch all of them.
    Dictionaries,
    /// Data of a newer version, which older versions may skip.
    Other(u64),
}

/// Known kinds; the position plus one is the number in the format.
const KINDS: [AttachmentKind; 8] = [
    AttachmentKind::GitCommits,
    AttachmentKind::GitIds,
    AttachmentKind::Manifests,
    AttachmentKind::Objects,
    AttachmentKind::Prior,
    AttachmentKind::Learned,
    AttachmentKind::Archive,
    AttachmentKind::Dictionaries,
];

impl AttachmentKind {
    pub(super) fn number(self) -> u64 {
        if let AttachmentKind::Other(number) = self {
            return number;
        }
        let position = KINDS.iter().take_while(|kind| **kind != self).count();
        position as u64 + 1
    }

    fn from_number(number: u64) -> Self {
        let known = (1..).zip(KINDS).find(|(known, _)| *known == number);
        known.map_or(AttachmentKind::Other(number), |(_, kind)| kind)
    }

    /// Whether the attachment determines the type of commit IDs.
    pub(super) fn has_commit_ids(self) -> bool {
        matches!(self, AttachmentKind::Manifests | AttachmentKind::Objects)
    }

    /// Converts a decoded commit ID to its type in a head with this attachment.
    pub(super) fn commit_id(self, id: CommitId) -> CommitId {
        let CommitId::Git(GitId(bytes)) = &id else {
            return id;
        };
        match (<[u8; 32]>::try_from(&bytes[..]), self) {
            (Ok(id), AttachmentKind::Manifests) => CommitId::Manifest(BlobId::from_bytes(id)),
            (Ok(id), AttachmentKind::Objects) => CommitId::Object(ObjectId::from_bytes(id)),
            _ => id,
        }
    }
}

/// A stream of bytes stored beside the trees, in chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment<C = ChunkRef> {
    /// Kind of the attachment.
    pub kind: AttachmentKind,
    /// Chunks in order.
    pub chunks: Vec<C>,
}

impl Attachment {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        chunks: &[ChunkRef],
        used: &mut UsedChunks,
    ) -> Result<Self, MalformedNode> {
        let kind = AttachmentKind::from_number(reader.uint()?);
        let (first, count) = (reader.uint()?, reader.uint()?);
        let run = used.take(chunks, first, count, "attachments")?;
        reader.charge::<ChunkRef>(run.len())?;
        Ok(Attachment {
            kind,
            chunks: run.to_vec(),
        })
    }
}

/// Rejects more dictionaries than a reader should have to hold.
pub(super) fn check_dictionaries(attachments: &[Attachment]) -> Result<(), MalformedNode> {
    let attached = (attachments.iter()).filter(|it| it.kind == AttachmentKind::Dictionaries);
    let (mut count, mut bytes) = (0, 0);
    for dictionary in attached.flat_map(|it| &it.chunks) {
        count += 1;
        bytes += u64::from(dictionary.raw_len);
    }
    if count > MAX_DICTIONARIES || bytes > MAX_DICTIONARY_BYTES {
        return Err(MalformedNode::Dictionaries);
    }
    Ok(())
}
