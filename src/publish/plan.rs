//! The tree to publish, before its content has locations in blobs.

use bytes::Bytes;

use super::error::PublishError;
use super::foreign_source::{ForeignSource, FormerLayout};
use super::history::commits::History;
use super::options::ShippedProfile;
use super::pending_chunk::{PendingChunk, StoredDirectory};
use super::source::{Folder, FolderFile, Skip, SkipReason, Skipped};
use walgit_format::chunk::WholeBlob;
use walgit_format::directory::check_count;
use walgit_format::head::{AttachmentKind, CommitId, GitId, Ref, Signature};
use walgit_format::{Commit, Kind};

/// Maximum number of skipped entries that a warning names.
const MAX_NAMED_SKIPS: usize = 5;

/// Index in [`Plan::directories`].
pub(super) type DirectoryIndex = usize;
/// The index of a directory, and of an entry in it.
pub(super) type EntryIndex = (DirectoryIndex, usize);

/// Everything to publish.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// All new directories; parents before children.
    pub(super) directories: Vec<DirectoryPlan>,
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
    /// Chunks of further attachments.
    pub(super) attachments: Vec<(AttachmentKind, Vec<Vec<u8>>)>,
    /// The git history to archive.
    pub(super) history: Option<History>,
    /// Source of content in a foreign format. Its commits are identified by their entire
    /// content.
    pub(super) foreign: Option<ForeignSource>,
    /// Files that equal another file of the plan: the original, and the copy.
    pub(super) copies: Vec<(EntryIndex, EntryIndex)>,
    /// Omitted content, with reasons.
    pub(super) warnings: Vec<String>,
    /// Skipped entries of a plain folder.
    pub(super) skipped: Vec<Skipped>,
    /// Entries to remove once no job refers to entries by index.
    pub(super) dropped: Vec<EntryIndex>,
    /// Whether to skip unreadable entries of a plain folder.
    pub(super) skip_unreadable: bool,
    /// The learned profile to ship.
    pub(super) profile: ShippedProfile,
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

/// A directory, new or stored.
#[derive(Clone, Debug)]
pub(super) enum TreePlan {
    New(DirectoryIndex),
    Stored(StoredDirectory),
}

/// A directory that may have to be written.
#[derive(Debug)]
pub(super) struct DirectoryPlan {
    /// Its path from the root; names joined with `/`.
    pub(super) path: Vec<u8>,
    /// Sorted by name.
    pub(super) entries: Vec<EntryPlan>,
    /// Its git ID, and its raw tree if that cannot be reconstructed.
    pub(super) git: Option<(GitId, Bytes)>,
    /// The identical directory of the previous head.
    pub(super) same_as: Option<StoredDirectory>,
}

/// An entry of a [`DirectoryPlan`].
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
    Chunks(Vec<PendingChunk>),
    /// A chunk list stored before.
    List(PendingChunk),
    Tree(TreePlan),
}

/// A file to read.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) source: FileSource,
    pub(super) entry: EntryIndex,
    /// Expected size, in bytes.
    pub(super) size: u64,
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

impl CommitPlan {
    /// A commit of another head, with a new tree.
    pub(super) fn of(commit: &Commit, tree: DirectoryIndex) -> Self {
        CommitPlan {
            id: commit.id.clone(),
            tree: TreePlan::New(tree),
            author: commit.author.clone(),
            committer: commit.committer.clone(),
            message: commit.message.to_vec(),
            parents: commit.parents.clone(),
        }
    }
}

impl DirectoryPlan {
    pub(super) fn new(path: Vec<u8>, entries: Vec<EntryPlan>) -> Self {
        DirectoryPlan {
            path,
            entries,
            git: None,
            same_as: None,
        }
    }
}

impl Plan {
    /// Adds a directory; returns its index.
    pub(super) fn push(&mut self, directory: DirectoryPlan) -> DirectoryIndex {
        self.directories.push(directory);
        self.directories.len() - 1
    }

    pub(super) fn entry(&self, (directory, entry): EntryIndex) -> &EntryPlan {
        &self.directories[directory].entries[entry]
    }

    pub(super) fn entry_mut(&mut self, (directory, entry): EntryIndex) -> &mut EntryPlan {
        &mut self.directories[directory].entries[entry]
    }

    /// The path of an entry.
    pub(super) fn path(&self, entry: EntryIndex) -> Vec<u8> {
        join(&self.directories[entry.0].path, &self.entry(entry).name)
    }

    /// The stored form of a tree; `None` if it has to be written.
    pub(super) fn stored<'a>(&'a self, tree: &'a TreePlan) -> Option<&'a StoredDirectory> {
        match tree {
            TreePlan::New(directory) => self.directories[*directory].same_as.as_ref(),
            TreePlan::Stored(stored) => Some(stored),
        }
    }

    /// All warnings, including one about skipped entries.
    pub(super) fn all_warnings(&self) -> Vec<String> {
        let skipped = self.skipped_warning();
        self.warnings.iter().cloned().chain(skipped).collect()
    }

    /// Cost of the content in its present layout.
    pub(super) fn former_layout(&self) -> Option<FormerLayout> {
        self.foreign.as_ref().map(|foreign| foreign.layout)
    }

    /// Skips an entry of a folder.
    ///
    /// # Errors
    /// [`PublishError::Unreadable`] if it is unreadable and unreadable entries are not to
    /// be skipped.
    pub(super) fn skip(
        &mut self,
        folder: &Folder,
        relative: &[u8],
        skip: Skip,
    ) -> Result<(), PublishError> {
        if skip.why == SkipReason::Unreadable && !self.skip_unreadable {
            return Err(PublishError::Unreadable(folder.path(relative), skip.error));
        }
        self.skipped.push(Skipped {
            path: String::from_utf8_lossy(relative).into_owned(),
            why: skip.why,
        });
        Ok(())
    }

    /// Removes entries that turned out to be missing after planning.
    pub(super) fn remove_dropped(&mut self) {
        let mut dropped = std::mem::take(&mut self.dropped);
        // From the last one, so that the other indices stay valid.
        dropped.sort_unstable_by(|a, b| b.cmp(a));
        dropped.dedup();
        for (directory, entry) in dropped {
            self.directories[directory].entries.remove(entry);
        }
    }

    /// Summary of the skipped entries.
    fn skipped_warning(&self) -> Option<String> {
        let named = self.skipped.iter().take(MAX_NAMED_SKIPS);
        let named: Vec<_> = named
            .map(|it| format!("{} ({})", it.path, it.why.word()))
            .collect();
        let named = named.join(", ");
        match self.skipped.len() {
            0 => None,
            1 => Some(format!("1 entry of the folder was skipped: {named}")),
            count if count <= MAX_NAMED_SKIPS => Some(format!(
                "{count} entries of the folder were skipped: {named}"
            )),
            count => Some(format!(
                "{count} entries of the folder were skipped: {named} and {} more; --json lists them",
                count - MAX_NAMED_SKIPS
            )),
        }
    }
}

/// Joins a path and a name.
pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        name.to_vec()
    } else {
        [path, b"/", name].concat()
    }
}

/// Rejects a directory with more entries than readers accept.
pub(super) fn check_entries(path: &[u8], count: usize) -> Result<(), PublishError> {
    let name = |why| PublishError::Name(format!("./{}", String::from_utf8_lossy(path)), why);
    check_count(count).map_err(name)
}
