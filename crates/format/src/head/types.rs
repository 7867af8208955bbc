//! The values of a head.

use bytes::Bytes;

use crate::attachment::{Attachment, AttachmentKind};
use crate::chunk::{BlobId, ChunkRef, PlannedChunk};
use crate::id::CommitId;
use crate::names::check_ref_name;

pub(super) const MAGIC: u8 = b'H';
pub(super) const VERSION: u8 = 1;

/// Longest branch or tag name, in bytes.
pub const MAX_REF_NAME_BYTES: usize = 1024;
/// Longest commit message in a head, in bytes; an attachment stores the complete raw
/// commit.
pub const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// Longest person in a head, in bytes.
pub(super) const MAX_PERSON_BYTES: usize = 4096;

/// The author or committer of a commit, and the time.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Signature {
    /// `Name <email>`, as bytes because git does not require UTF-8.
    pub person: Bytes,
    /// Seconds since 1970, UTC.
    pub seconds: i64,
    /// Minutes east of UTC.
    pub offset_minutes: i32,
}

impl Signature {
    /// Formats the time as `2025-05-24 03:57:07 +0000`, or as plain seconds if it is
    /// outside the calendar's range.
    pub fn date(&self) -> String {
        let offset = jiff::tz::Offset::from_seconds(self.offset_minutes.saturating_mul(60));
        let at = jiff::Timestamp::from_second(self.seconds);
        match (offset, at) {
            (Ok(offset), Ok(at)) => (at.to_zoned(jiff::tz::TimeZone::fixed(offset)))
                .strftime("%Y-%m-%d %H:%M:%S %z")
                .to_string(),
            _ => format!("{} seconds after 1970", self.seconds),
        }
    }
}

/// A commit whose tree can be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit<C = ChunkRef> {
    /// ID of the commit.
    pub id: CommitId,
    /// Its root directory.
    pub root: C,
    /// Nodes in the tree, the root included.
    pub nodes: u64,
    /// Bytes of content in the tree.
    pub bytes: u64,
    /// Author of the change.
    pub author: Signature,
    /// Committer of the change.
    pub committer: Signature,
    /// Message, truncated to [`MAX_MESSAGE_BYTES`] when encoded.
    pub message: Bytes,
    /// IDs of the parents.
    pub parents: Vec<CommitId>,
}

/// A commit of a [`PlannedHead`].
pub type PlannedCommit = Commit<PlannedChunk>;

/// The kind of a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefKind {
    /// A branch, which moves.
    Branch,
    /// A tag, which does not move.
    Tag,
}

/// A branch or tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    /// Branch or tag.
    pub kind: RefKind,
    /// Name without `refs/heads/` or `refs/tags/`.
    pub name: Bytes,
    /// Index of its commit in the head.
    pub commit: usize,
}

/// The content of a head; verified and well-formed if it was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<C = ChunkRef> {
    /// The branch that a mount shows by default; empty for a plain folder.
    pub default_branch: Bytes,
    /// Commits whose trees the head holds; the first is the default branch's.
    pub commits: Vec<Commit<C>>,
    /// Branches and tags; sorted by kind and name when encoded.
    pub refs: Vec<Ref>,
    /// Attachments of the head.
    pub attachments: Vec<Attachment<C>>,
    /// All other blobs that the repository refers to; sorted when encoded.
    pub blobs: Vec<BlobId>,
}

/// A head to be encoded.
pub type PlannedHead = Head<PlannedChunk>;

// Derived, it would require `C: Default`.
impl<C> Default for Head<C> {
    fn default() -> Self {
        Head {
            default_branch: Bytes::new(),
            commits: Vec::new(),
            refs: Vec::new(),
            attachments: Vec::new(),
            blobs: Vec::new(),
        }
    }
}

impl<C> Head<C> {
    /// Iterates over the chunks of the attachments of one kind, in order.
    pub fn attached(&self, kind: AttachmentKind) -> impl Iterator<Item = &C> + Clone {
        let attached = self.attachments.iter().filter(move |it| it.kind == kind);
        attached.flat_map(|it| &it.chunks)
    }

    /// Whether the head has an attachment of this kind.
    pub fn has_attachment(&self, kind: AttachmentKind) -> bool {
        self.attachments.iter().any(|it| it.kind == kind)
    }
}

impl Head {
    /// Makes the first commit the head of `branch`, if there are no refs yet.
    pub fn of_branch(mut self, branch: &str) -> Self {
        if self.refs.is_empty() && check_ref_name(branch.as_bytes()).is_ok() {
            self.default_branch = Bytes::copy_from_slice(branch.as_bytes());
            self.refs.push(Ref {
                kind: RefKind::Branch,
                name: self.default_branch.clone(),
                commit: 0,
            });
        }
        self
    }

    /// Returns its approximate size in memory, in bytes.
    pub fn weight(&self) -> u64 {
        let commits = self.commits.iter().map(|it| {
            let text = it.message.len() + it.author.person.len() + it.committer.person.len();
            size_of::<Commit>() + text + it.parents.len() * (size_of::<CommitId>() + 48)
        });
        let refs = self.refs.iter().map(|it| size_of::<Ref>() + it.name.len());
        let attached = (self.attachments.iter())
            .map(|it| size_of::<Attachment>() + it.chunks.len() * size_of::<ChunkRef>());
        let blobs = self.blobs.len() * size_of::<BlobId>();
        (commits.chain(refs).chain(attached).sum::<usize>() + blobs) as u64
    }

    /// Finds a branch, a tag, or a commit by its full or abbreviated (at least four
    /// digits) ID.
    pub fn resolve(&self, name: &str) -> Option<usize> {
        let named = |kind| {
            self.refs
                .iter()
                .find(|r| r.kind == kind && r.name == name.as_bytes())
                .map(|r| r.commit)
        };
        named(RefKind::Branch)
            .or_else(|| named(RefKind::Tag))
            .or_else(|| {
                let hex = name.len() >= 4 && name.bytes().all(|b| b.is_ascii_hexdigit());
                let mut with_prefix = (0..self.commits.len()).filter(|&i| {
                    let id = self.commits[i].id.to_string();
                    hex && id.starts_with(&name.to_ascii_lowercase())
                });
                with_prefix.next().filter(|_| with_prefix.next().is_none())
            })
            .or_else(|| (self.commits.iter()).position(|c| c.id.to_string() == name))
    }

    /// Returns the chunk of an attachment that consists of one chunk of at most `limit`
    /// bytes; otherwise `None`.
    pub fn hint(&self, kind: AttachmentKind, limit: usize) -> Option<&ChunkRef> {
        let attached = self.attachments.iter().find(|it| it.kind == kind)?;
        let fits = |len: u32| usize::try_from(len).is_ok_and(|len| len <= limit);
        match &attached.chunks[..] {
            // The stored length has the same limit.
            [one] if fits(one.raw_len) && fits(one.stored_len) => Some(one),
            _ => None,
        }
    }

    /// Returns the names of branches and tags, for a message.
    pub fn ref_names(&self) -> String {
        if self.refs.is_empty() {
            return "none (a plain folder)".into();
        }
        join_names(self.refs.iter().map(|r| &r.name))
    }
}

/// Joins the first names of a list, for a message.
pub fn join_names<'n>(names: impl Iterator<Item = &'n Bytes>) -> String {
    let names = names.take(20).map(|name| String::from_utf8_lossy(name));
    names.collect::<Vec<_>>().join(", ")
}
