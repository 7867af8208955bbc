//! Errors of a publish.

use std::path::PathBuf;
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
    #[error("{}: {source}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The system error.
        source: std::io::Error,
    },
    /// An entry of a folder is unreadable, and unreadable entries are not to be skipped.
    #[error(
        "{}: {source}; make it readable, or add --skip-unreadable to leave out what is not",
        path.display()
    )]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The system error.
        source: std::io::Error,
    },
    /// The content differs from the announced one.
    #[error("{} is not as long as it should be", .0.display())]
    Changed(PathBuf),
    /// Only git repositories have branches.
    #[error("{} is not a git repository, so it has no branches", .0.display())]
    NotGit(PathBuf),
    /// Git cannot be read.
    #[error("git repository {}: {why}", path.display())]
    Git {
        /// The repository.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The branch does not exist.
    #[error("there is no branch `{branch}`; there are: {known}")]
    NoBranch {
        /// The requested name.
        branch: String,
        /// The existing branches.
        known: String,
    },
    /// The repository has no commits.
    #[error("{} has no commits yet; commit something first", .0.display())]
    NoCommits(PathBuf),
    /// A name that is not valid in a tree.
    #[error("{path}: {why}")]
    Name {
        /// Its path.
        path: String,
        /// The reason.
        why: MalformedNode,
    },
    /// A symlink whose target is invalid on any file system.
    #[error("{0}: the target of this symlink is empty, too long, or has a NUL byte in it")]
    Symlink(String),
    /// A blob cannot be protected from garbage collection.
    #[error("{0}; nothing more is stored")]
    Claim(#[from] LeaseError),
    /// A node does not fit into one blob.
    #[error(
        "a directory or the list of commits takes {len} bytes, more than the {limit} one blob may have; raise max_body of the network"
    )]
    NodeTooLarge {
        /// Its size, in bytes.
        len: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The previous head cannot be read.
    #[error("{}", previous(.0))]
    Previous(#[source] Box<RepoError>),
    /// The previous head is encrypted with a different key.
    #[error(
        "what was published before is encrypted, and not with this key; give its key with --key FILE, or add --fresh to store everything anew"
    )]
    WasPrivate,
    /// The previous head is public.
    #[error(
        "what was published before can be read by everybody, and encryption would not change that; add --fresh to store everything anew and encrypted under this name, or choose another --name"
    )]
    WasPublic,
    /// The repository to rewrite cannot be read.
    #[error(transparent)]
    Remote(Box<RepoError>),
    /// The head to compact is not in our format.
    #[error(
        "it is not in the format of walgit-fs, so it cannot be laid out anew; publish --from rewrites it"
    )]
    NotOurs,
    /// The head to compact contains data unknown to this version, which a rewrite would
    /// lose.
    #[error(
        "its head holds something that this version of walgit-fs does not know (attachment {0}); update it"
    )]
    Unknown(u64),
    /// The rewrite exceeds the planned number of bytes.
    #[error(
        "it takes more than the {0} bytes that were planned for it, and may cost more; nothing was moved"
    )]
    OverPlan(u64),
    /// The stored content differs from its source.
    #[error(
        "{0} reads otherwise in the new repository; this is a bug, and the old one is as it was"
    )]
    Differs(String),
    /// A blob cannot be stored.
    #[error("{}", unstored(.0))]
    Store(Arc<StoreError>),
    /// A blob has no ID.
    #[error(transparent)]
    BlobId(#[from] BlobIdError),
    /// Some input cannot be expressed in the format.
    #[error("{what} cannot be written: {why}")]
    Encode {
        /// The input.
        what: &'static str,
        /// The reason.
        why: EncodeError,
    },
    /// The upload of packs ended early; its own error states the reason.
    #[error("publishing was interrupted; run it again to continue")]
    Interrupted,
    /// A state that should be impossible. A retry does not help.
    #[error("internal error: {0}; please report this as a bug of walgit-fs")]
    Internal(&'static str),
}

/// Formats an error of storing a blob.
fn unstored(error: &StoreError) -> String {
    if matches!(error, StoreError::Unavailable { .. }) {
        format!(
            "{error}; the name was not changed: run the same command again to continue with \
             what is stored already"
        )
    } else {
        error.to_string()
    }
}

/// Formats an error of reading a head.
fn previous(error: &RepoError) -> String {
    if error.is_missing() {
        return format!(
            "what was published before is not stored any more ({error}); add --fresh to store \
             everything again under this name"
        );
    }
    if error.is_lasting() {
        return format!(
            "what was published before cannot be read ({error}); add --fresh to store everything \
             again under this name, or choose another --name"
        );
    }
    format!(
        "what was published before cannot be read now ({error}); nothing was changed: run the \
         same command again to continue"
    )
}

impl PublishError {
    /// Adds the commit to the path in the error.
    pub(super) fn in_commit(self, commit: impl std::fmt::Display) -> Self {
        match self {
            PublishError::Name { path, why } => PublishError::Name {
                path: format!("commit {commit}: {path}"),
                why,
            },
            PublishError::Symlink(path) => {
                PublishError::Symlink(format!("commit {commit}: {path}"))
            }
            other => other,
        }
    }

    /// Error of encoding `what`.
    pub(super) fn encode(what: &'static str) -> impl FnOnce(EncodeError) -> Self {
        move |why| PublishError::Encode { what, why }
    }
}

impl From<RepoError> for PublishError {
    fn from(error: RepoError) -> Self {
        PublishError::Remote(Box::new(error))
    }
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        PublishError::Store(Arc::new(error))
    }
}
