//! The tree that is going to be published, before it has places in blobs.

use bytes::Bytes;

use super::Learned;
use super::history::History;
use super::placed::{KnownDirectory, Placed};
use super::remote::{Remote, Replaced};
use super::source::{FolderFile, Skipped};
use walgit_format::Kind;
use walgit_format::chunk::WholeBlob;
use walgit_format::head::{AttachmentKind, CommitId, GitId, Ref, Signature};

/// Number of a directory in [`Plan::directories`].
pub(super) type DirectoryNumber = usize;
/// A file: its directory, and its number among the entries there.
pub(super) type FilePlace = (DirectoryNumber, usize);

/// Everything that is going to be published.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Every directory that is not known already; parents before children.
    pub(super) directories: Vec<PlannedDirectory>,
    /// Files whose content is needed, in the order of their packs.
    pub(super) files: Vec<FileJob>,
    /// Where the files of a git repository come from.
    pub(super) git: Option<gix::ThreadSafeRepository>,
    /// Commits with their trees, the default branch's first.
    pub(super) commits: Vec<CommitPlan>,
    /// The default branch; empty for a plain folder or a detached head.
    pub(super) default_branch: Vec<u8>,
    /// Branches and tags.
    pub(super) refs: Vec<Ref>,
    /// What is kept beside the trees, in chunks.
    pub(super) attachments: Vec<(AttachmentKind, Vec<Vec<u8>>)>,
    /// What is archived of the history of a git repository.
    pub(super) history: Option<History>,
    /// Where content comes from that lies in another repository. Its commits
    /// are named by all that is in them.
    pub(super) remote: Option<Remote>,
    /// Files that are the same as another one of the plan: which, and they.
    pub(super) copies: Vec<(FilePlace, FilePlace)>,
    /// What was left out, and why.
    pub(super) warnings: Vec<String>,
    /// What was skipped of a plain folder.
    pub(super) skipped: Vec<Skipped>,
    /// Entries that are to be taken out again, once no job refers to others by
    /// their numbers.
    pub(super) dropped: Vec<FilePlace>,
    /// Whether what cannot be read of a plain folder is skipped.
    pub(super) skip_unreadable: bool,
    /// What is carried along of what somebody learned about it.
    pub(super) learned: Learned,
}

impl Plan {
    /// What was left out, in words.
    pub(super) fn all_warnings(&self) -> Vec<String> {
        let skipped = self.skipped_warning();
        self.warnings.iter().cloned().chain(skipped).collect()
    }

    /// What the plan's content costs where it lies now.
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
    /// What git calls it, and its raw tree where that cannot be rebuilt.
    pub(super) git: Option<(GitId, Bytes)>,
    /// The directory published before that holds the very same.
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

/// A file to be read.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) source: FileSource,
    pub(super) directory: DirectoryNumber,
    pub(super) entry: usize,
    /// Bytes expected.
    pub(super) size: u64,
}

impl FileJob {
    /// The file.
    pub(super) fn place(&self) -> FilePlace {
        (self.directory, self.entry)
    }
}

/// Where a file's content is.
#[derive(Clone, Debug)]
pub(super) enum FileSource {
    Git(gix::ObjectId),
    Folder(FolderFile),
    /// A blob that is the file.
    Blob(WholeBlob),
    Bytes(Bytes),
}
