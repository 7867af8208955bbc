//! The tree to publish, before its content has locations in blobs.

use bytes::Bytes;

use super::Learned;
use super::history::History;
use super::placed::{KnownDirectory, Placed};
use super::remote::{Remote, Replaced};
use super::source::{FolderFile, Skipped};
use walgit_format::Kind;
use walgit_format::chunk::WholeBlob;
use walgit_format::head::{AttachmentKind, CommitId, GitId, Ref, Signature};

/// Index in [`Plan::directories`].
pub(super) type DirectoryNumber = usize;
/// A file: the index of its directory, and of its entry there.
pub(super) type FilePlace = (DirectoryNumber, usize);

/// Everything to publish.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// All new directories; parents before children.
    pub(super) directories: Vec<PlannedDirectory>,
    /// Files whose content is needed, in pack order.
    pub(super) files: Vec<FileJob>,
    /// Source of a git repository's files.
    pub(super) git: Option<gix::ThreadSafeRepository>,
    /// Commits with their trees, the default branch's first.
    pub(super) commits: Vec<CommitPlan>,
    /// The default branch; empty for a plain folder or a detached head.
    pub(super) default_branch: Vec<u8>,
    /// Branches and tags.
    pub(super) refs: Vec<Ref>,
    /// Attachments beside the trees, in chunks.
    pub(super) attachments: Vec<(AttachmentKind, Vec<Vec<u8>>)>,
    /// The git history to archive.
    pub(super) history: Option<History>,
    /// Source of content that is stored in another repository. Its commits are identified
    /// by their entire content.
    pub(super) remote: Option<Remote>,
    /// Files that equal another file of the plan: the original, and the copy.
    pub(super) copies: Vec<(FilePlace, FilePlace)>,
    /// Omitted content, with reasons.
    pub(super) warnings: Vec<String>,
    /// Skipped entries of a plain folder.
    pub(super) skipped: Vec<Skipped>,
    /// Entries to remove once no job refers to entries by index.
    pub(super) dropped: Vec<FilePlace>,
    /// Whether to skip unreadable entries of a plain folder.
    pub(super) skip_unreadable: bool,
    /// The learned profile to ship.
    pub(super) learned: Learned,
}

impl Plan {
    /// All warnings, including one about skipped entries.
    pub(super) fn all_warnings(&self) -> Vec<String> {
        let skipped = self.skipped_warning();
        self.warnings.iter().cloned().chain(skipped).collect()
    }

    /// Cost of the content in its present layout.
    pub(super) fn replaced(&self) -> Option<Replaced> {
        self.remote.as_ref().map(|remote| remote.replaced)
    }
}

/// A commit whose tree is published.
#[derive(Debug)]
pub(super) struct CommitPlan {
    pub(super) id: CommitId,
    pub(super) tree: TreePlan,
    pub(super) author: Signature,
    pub(super) committer: Signature,
    pub(super) message: Vec<u8>,
    pub(super) parents: Vec<CommitId>,
}

/// A directory, new or known.
#[derive(Clone, Debug)]
pub(super) enum TreePlan {
    New(DirectoryNumber),
    Known(KnownDirectory),
}

/// A directory that may have to be written.
#[derive(Debug)]
pub(super) struct PlannedDirectory {
    /// Its path from the root; names joined with `/`.
    pub(super) path: Vec<u8>,
    /// Sorted by name.
    pub(super) entries: Vec<EntryPlan>,
    /// Its git ID, and its raw tree if that cannot be reconstructed.
    pub(super) git: Option<(GitId, Bytes)>,
    /// The identical directory of the previous head.
    pub(super) same_as: Option<KnownDirectory>,
}

/// An entry of a [`PlannedDirectory`].
#[derive(Debug)]
pub(super) struct EntryPlan {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) git: Option<GitId>,
    pub(super) size: u64,
    pub(super) content: ContentPlan,
}

/// Content of an [`EntryPlan`].
#[derive(Clone, Debug)]
pub(super) enum ContentPlan {
    /// Not read yet.
    Pending,
    Inline(Vec<u8>),
    Chunks(Vec<Placed>),
    /// A chunk list stored before.
    List(Placed),
    Tree(TreePlan),
}

/// A file to read.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) source: FileSource,
    pub(super) directory: DirectoryNumber,
    pub(super) entry: usize,
    /// Expected size, in bytes.
    pub(super) size: u64,
}

impl FileJob {
    /// The indices of the file.
    pub(super) fn place(&self) -> FilePlace {
        (self.directory, self.entry)
    }
}

/// Source of a file's content.
#[derive(Clone, Debug)]
pub(super) enum FileSource {
    Git(gix::ObjectId),
    Folder(FolderFile),
    /// A blob that contains exactly the file.
    Blob(WholeBlob),
    Bytes(Bytes),
}
