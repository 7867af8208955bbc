//! Errors of an export.

use std::path::{Path, PathBuf};

use crate::repo::RepoError;

/// Reason why an export failed. No partial output remains.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The repository cannot be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The repository was not published from a git repository.
    #[error(
        "the repository was not published from git, so it cannot be exported to git; copy its \
         files out of a mount"
    )]
    NotGit,
    /// The history was not published.
    #[error(
        "the repository has no history to export: it was published with --history none, or by an older \
         walgit-fs; publish the git repository again with --history all"
    )]
    NoHistory,
    /// The destination exists and is not an empty folder.
    #[error("{} exists and is not an empty folder; choose another", .0.display())]
    Exists(PathBuf),
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A stored tree differs from the one that its commit names.
    #[error(
        "commit {commit} names the tree {expected}, but the stored tree is {found}; the history is \
         damaged: publish the repository under a new --name"
    )]
    Altered {
        /// The commit.
        commit: String,
        /// The tree ID in the commit.
        expected: String,
        /// The ID of the stored tree.
        found: String,
    },
    /// An object refers to one that does not exist.
    #[error("{from} refers to {to}, which is not in the history; publish the repository again")]
    Missing {
        /// The referring object.
        from: String,
        /// The missing object.
        to: String,
    },
    /// Git does not allow the name of a ref.
    #[error("the history has a ref called `{name}`, which git does not allow: {why}")]
    RefName {
        /// The name.
        name: String,
        /// The reason.
        why: String,
    },
    /// A checkout would exceed a limit.
    #[error(
        "the newest commit has {found} {unit}, and the limit of a checkout is {limit}; raise it \
         with {option}, or export with --bare"
    )]
    CheckoutLimit {
        /// Number found.
        found: u64,
        /// Files and directories, or bytes.
        unit: &'static str,
        /// The limit.
        limit: u64,
        /// Command-line option that sets the limit.
        option: &'static str,
    },
    /// The history has more files than the head declares.
    #[error(
        "the history has {found} files and directories for a commit for which the head declares \
         {limit}; the publisher falsified it"
    )]
    Undeclared {
        /// Number found, without the root.
        found: u64,
        /// Number declared in the head, with the root.
        limit: u64,
    },
    /// The disk has too little free space.
    #[error(
        "a checkout of {entries} files and directories takes about {needed} bytes, and {} has \
         {free} free; free some space, or export with --bare",
        dir.display()
    )]
    NoSpace {
        /// The folder.
        dir: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// Files and directories.
        entries: u64,
    },
    /// The history has more objects than a pack can hold.
    #[error(
        "the repository has more objects than a git pack can hold ({})",
        u32::MAX
    )]
    TooMany,
    /// An object cannot be hashed, read or compressed.
    #[error("{what}: {why}")]
    Object {
        /// The object.
        what: String,
        /// The reason.
        why: String,
    },
    /// The export was interrupted.
    #[error("the export was interrupted")]
    Interrupted,
}

impl ExportError {
    /// Wraps an I/O error of a file.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| ExportError::Io { path, source }
    }

    /// Wraps an error about an object that violates the rules of git.
    pub(super) fn object(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        ExportError::Object {
            what: what.to_string(),
            why: why.to_string(),
        }
    }
}
