//! Why something cannot be published.

use std::path::PathBuf;
use std::sync::Arc;

use crate::repo::RepoError;
use walgit_format::{EncodeError, MalformedNode};
use walrus_client::StoreError;
use walrus_encoding::blob_id::BlobIdError;

/// Why a publish failed. Nothing that was published before is affected.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// What cannot be read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in a folder cannot be read, and is not to be skipped.
    #[error(
        "{}: {source}; make it readable, or add --skip-unreadable to leave out what is not",
        path.display()
    )]
    Unreadable {
        /// What cannot be read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another content than the one that was announced.
    #[error("{} is not as long as it should be", .0.display())]
    Changed(PathBuf),
    /// Branches only exist in git.
    #[error("{} is not a git repository, so it has no branches", .0.display())]
    NotGit(PathBuf),
    /// Git cannot be read.
    #[error("git repository {}: {why}", path.display())]
    Git {
        /// The repository.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No such branch.
    #[error("there is no branch `{branch}`; there are: {known}")]
    NoBranch {
        /// As asked for.
        branch: String,
        /// What there is.
        known: String,
    },
    /// Nothing was ever committed.
    #[error("{} has no commits yet; commit something first", .0.display())]
    NoCommits(PathBuf),
    /// A name that no tree may hold.
    #[error("{path}: {why}")]
    Name {
        /// Where it is.
        path: String,
        /// Why not.
        why: MalformedNode,
    },
    /// A symlink that no file system could hold.
    #[error("{0}: the target of this symlink is empty, too long, or has a NUL byte in it")]
    Symlink(String),
    /// A blob cannot be protected from being collected.
    #[error("{0}; nothing more is stored")]
    Claim(String),
    /// A node that does not fit into one blob.
    #[error(
        "a directory or the list of commits takes {len} bytes, more than the {limit} one blob may have; raise max_body of the network"
    )]
    NodeTooLarge {
        /// What it takes.
        len: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The head published before cannot be read.
    #[error("{}", previous(.0))]
    Previous(#[source] Box<RepoError>),
    /// What was published before is encrypted with another key.
    #[error(
        "what was published before is encrypted, and not with this key; give its key with --key FILE, or add --fresh to store everything anew"
    )]
    WasPrivate,
    /// What was published before can be read by everybody.
    #[error(
        "what was published before can be read by everybody, and encryption would not change that; add --fresh to store everything anew and encrypted under this name, or choose another --name"
    )]
    WasPublic,
    /// What is to be rewritten cannot be read.
    #[error(transparent)]
    Remote(Box<RepoError>),
    /// What is to be laid out anew is not in our format.
    #[error(
        "it is not in the format of walgit-fs, so it cannot be laid out anew; publish --from rewrites it"
    )]
    NotOurs,
    /// What is to be laid out anew holds something that this version does not
    /// know, and would lose.
    #[error(
        "its head holds something that this version of walgit-fs does not know (attachment {0}); update it"
    )]
    Unknown(u64),
    /// Laying a head out anew would write more than was planned.
    #[error(
        "it takes more than the {0} bytes that were planned for it, and may cost more; nothing was moved"
    )]
    OverPlan(u64),
    /// What was stored reads otherwise.
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
    /// Something that is to be published cannot be expressed in the format.
    #[error("{what} cannot be written: {why}")]
    Encode {
        /// What it is.
        what: &'static str,
        /// Why not.
        why: EncodeError,
    },
    /// The upload of what was packed ended early: its own error says why.
    #[error("publishing was interrupted; run it again to continue")]
    Interrupted,
    /// A state that should be impossible. Running it again does not help.
    #[error("internal error: {0}; please report this as a bug of walgit-fs")]
    Internal(&'static str),
}

/// What to say of a blob that cannot be stored.
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

/// What to say of a head that cannot be read.
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
    /// The same, of a path in the tree of a commit.
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

    /// What could not be written.
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
