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
        "it was not published from a git repository, so there is none to give back; mount it, or \
         copy its files out of a mount"
    )]
    NotGit,
    /// The history was not published.
    #[error(
        "it carries no history to export: it was published with --history none, or by an older \
         walgit-fs; whoever has the git repository can publish it again with --history all"
    )]
    NoHistory,
    /// The destination exists and is not an empty folder.
    #[error("{} is there already and is not an empty folder; choose another", .0.display())]
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
        "commit {commit} has the tree {expected}, and what is stored for it makes {found}; the \
         history is damaged; publish it anew, under a new --name"
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
    #[error("{from} leads to {to}, which the history does not hold; publish it again")]
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
    /// A checkout would exceed the file limit.
    #[error(
        "its newest commit has {found} files and directories, more than the {most} that are \
         checked out; allow more with --max-files, or export it with --bare"
    )]
    TooManyFiles {
        /// Number of files and directories.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// A checkout would exceed the size limit.
    #[error(
        "its newest commit has {found} bytes of content, more than the {most} that are checked \
         out; allow more with --max-size, or export it with --bare"
    )]
    TooLarge {
        /// Bytes of content.
        found: u64,
        /// The limit, in bytes.
        most: u64,
    },
    /// The history has more files than the head declares.
    #[error(
        "its history has {found} files and directories for a commit of which the repository says \
         that it has {most}; it was not made by an honest publisher"
    )]
    Undeclared {
        /// Number found, without the root.
        found: u64,
        /// Number declared in the head, with the root.
        most: u64,
    },
    /// The disk has too little free space.
    #[error(
        "a checkout of {entries} files and directories takes about {needed} bytes, and {} has \
         {free} free; make room, or export it with --bare",
        dir.display()
    )]
    NoRoom {
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
    #[error("it has more objects than a git pack can hold ({})", u32::MAX)]
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
