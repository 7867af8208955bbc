//! Errors of a publish.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::leases::LeaseError;
use crate::repo::RepoError;
use walgit_format::{EncodeError, MalformedNode};
use walrus_client::StoreError;
use walrus_encoding::blob_id::BlobIdError;

/// Error of a publish. Previous publishes are never affected.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A file or folder cannot be read.
    #[error("{}: {}", .0.display(), .1)]
    Read(PathBuf, #[source] io::Error),
    /// An entry of a folder is unreadable, and unreadable entries are not to be skipped.
    #[error(
        "{}: {}; make it readable, or add --skip-unreadable to skip unreadable entries",
        .0.display(), .1
    )]
    Unreadable(PathBuf, #[source] io::Error),
    /// The length of a file differs from the announced one.
    #[error("{}: the content is shorter or longer than announced", .0.display())]
    Changed(PathBuf),
    /// Only git repositories have branches.
    #[error("{} is not a git repository, so it has no branches", .0.display())]
    NotGit(PathBuf),
    /// A git repository cannot be read, with the reason.
    #[error("git repository {}: {}", .0.display(), .1)]
    Git(PathBuf, String),
    /// The branch does not exist.
    #[error("there is no branch `{branch}`; the branches are: {existing}")]
    NoBranch {
        /// The requested name.
        branch: String,
        /// The existing branches.
        existing: String,
    },
    /// The repository has no commits.
    #[error("{} has no commits yet; commit something first", .0.display())]
    NoCommits(PathBuf),
    /// The entry at this path has a name that is not valid in a tree.
    #[error("{0}: {1}")]
    Name(String, MalformedNode),
    /// A symlink whose target is invalid on any file system.
    #[error("{0}: the target of this symlink is empty, too long, or contains a NUL byte")]
    Symlink(String),
    /// A blob cannot be protected from garbage collection.
    #[error("{0}; the upload was stopped")]
    Lease(#[from] LeaseError),
    /// A node does not fit into one blob.
    #[error(
        "a directory or the list of commits takes {len} bytes, more than the limit of {limit} bytes per blob; raise max_body of the network"
    )]
    NodeTooLarge {
        /// Its size, in bytes.
        len: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The previous head cannot be read.
    #[error("{}", unreadable_previous(.0))]
    Previous(#[source] Box<RepoError>),
    /// The previous head is encrypted with a different key.
    #[error(
        "the previous head is encrypted with a different key; give its key with --key FILE, or add --fresh to store everything again"
    )]
    WasPrivate,
    /// The previous head is public.
    #[error(
        "the previous head is public, and encryption would not change that; add --fresh to store everything again, encrypted, under this name, or choose another --name"
    )]
    WasPublic,
    /// The repository to rewrite cannot be read.
    #[error(transparent)]
    Source(Box<RepoError>),
    /// The head to compact is in a foreign format.
    #[error(
        "the head is not in the format of walgit-fs, so it cannot be compacted; publish --from converts it"
    )]
    ForeignFormat,
    /// The head to compact contains data unknown to this version, which a compaction would
    /// lose.
    #[error(
        "the head contains an attachment that this version of walgit-fs does not support (type {0}); update walgit-fs"
    )]
    UnknownAttachment(u64),
    /// A compaction exceeds the planned number of bytes.
    #[error(
        "the compaction takes more than the planned {0} bytes, and may cost more; the name was not moved"
    )]
    OverPlan(u64),
    /// The stored content differs from its source.
    #[error("{0} differs in the new repository; this is a bug, and the old one is unchanged")]
    Differs(String),
    /// A blob cannot be stored.
    #[error("{}", not_stored(.0))]
    Store(Arc<StoreError>),
    /// A blob has no ID.
    #[error(transparent)]
    BlobId(#[from] BlobIdError),
    /// Some input cannot be expressed in the format.
    #[error("cannot encode {0}: {1}")]
    Encode(&'static str, EncodeError),
    /// The upload of packs ended early; its own error states the reason.
    #[error("publishing was interrupted; run it again to resume")]
    Interrupted,
    /// A state that should be impossible. A retry does not help.
    #[error("internal error: {0}; please report this as a bug of walgit-fs")]
    Internal(&'static str),
}

/// Formats an error of storing a blob.
fn not_stored(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable { .. } => format!(
            "{error}; the name was not changed: run the same command again to resume the upload"
        ),
        _ => error.to_string(),
    }
}

/// Formats an error of reading the previous head.
fn unreadable_previous(error: &RepoError) -> String {
    if error.is_missing() {
        format!(
            "the previous head is no longer stored ({error}); add --fresh to store everything \
             again under this name"
        )
    } else if error.is_lasting() {
        format!(
            "the previous head cannot be read ({error}); add --fresh to store everything again \
             under this name, or choose another --name"
        )
    } else {
        format!(
            "the previous head cannot be read at present ({error}); nothing was changed: run the \
             same command again to resume"
        )
    }
}

impl PublishError {
    /// Adds the commit to the path in the error.
    pub(super) fn in_commit(self, commit: impl std::fmt::Display) -> Self {
        let in_commit = |path| format!("commit {commit}: {path}");
        match self {
            PublishError::Name(path, why) => PublishError::Name(in_commit(path), why),
            PublishError::Symlink(path) => PublishError::Symlink(in_commit(path)),
            other => other,
        }
    }

    /// Error of reading a file or folder.
    pub(super) fn read(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| PublishError::Read(path.clone(), error)
    }

    /// Error of reading the previous head.
    pub(super) fn previous(error: RepoError) -> Self {
        PublishError::Previous(Box::new(error))
    }

    /// Error of encoding `what`.
    pub(super) fn encode(what: &'static str) -> impl FnOnce(EncodeError) -> Self {
        move |why| PublishError::Encode(what, why)
    }

    /// The content at this path differs.
    pub(super) fn differs(path: &[u8]) -> Self {
        PublishError::Differs(String::from_utf8_lossy(path).into_owned())
    }
}

impl From<RepoError> for PublishError {
    fn from(error: RepoError) -> Self {
        PublishError::Source(Box::new(error))
    }
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        PublishError::Store(Arc::new(error))
    }
}
