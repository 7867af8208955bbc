//! Why a repository cannot be exported.

use std::path::{Path, PathBuf};

use crate::repo::RepoError;

/// Why an export failed. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// It never was a git repository.
    #[error(
        "it was not published from a git repository, so there is none to give back; mount it, or \
         copy its files out of a mount"
    )]
    NotGit,
    /// Its history was not published.
    #[error(
        "it carries no history to export: it was published with --history none, or by an older \
         walgit-fs; whoever has the git repository can publish it again with --history all"
    )]
    NoHistory,
    /// Something is there already.
    #[error("{} is there already and is not an empty folder; choose another", .0.display())]
    Exists(PathBuf),
    /// The disk failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// What cannot be written or read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The trees are not those that a commit was made of.
    #[error(
        "commit {commit} has the tree {expected}, and what is stored for it makes {found}; the \
         history is damaged; publish it anew, under a new --name"
    )]
    Altered {
        /// The commit.
        commit: String,
        /// The ID of its tree as it says.
        expected: String,
        /// The ID of the tree that is stored for it.
        found: String,
    },
    /// Something leads to what is not there.
    #[error("{from} leads to {to}, which the history does not hold; publish it again")]
    Missing {
        /// What leads there.
        from: String,
        /// What is missing.
        to: String,
    },
    /// A name that git would refuse.
    #[error("the history has a ref called `{name}`, which git does not allow: {why}")]
    RefName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// More files than may be checked out.
    #[error(
        "its newest commit has {found} files and directories, more than the {most} that are \
         checked out; allow more with --max-files, or export it with --bare"
    )]
    TooManyFiles {
        /// How many.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// More content than may be checked out.
    #[error(
        "its newest commit has {found} bytes of content, more than the {most} that are checked \
         out; allow more with --max-size, or export it with --bare"
    )]
    TooLarge {
        /// Bytes.
        found: u64,
        /// The limit, in bytes.
        most: u64,
    },
    /// More files than the head says.
    #[error(
        "its history has {found} files and directories for a commit of which the repository says \
         that it has {most}; it was not made by an honest publisher"
    )]
    Undeclared {
        /// How many, without the root.
        found: u64,
        /// As the head says, with the root.
        most: u64,
    },
    /// The disk is too small.
    #[error(
        "a checkout of {entries} files and directories takes about {needed} bytes, and {} has \
         {free} free; make room, or export it with --bare",
        dir.display()
    )]
    NoRoom {
        /// The folder.
        dir: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
        /// Files and directories.
        entries: u64,
    },
    /// More objects than a pack can have.
    #[error("it has more objects than a git pack can hold ({})", u32::MAX)]
    TooMany,
    /// An object cannot be hashed, read or compressed.
    #[error("{what}: {why}")]
    Object {
        /// Which object.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A part of it was cut short.
    #[error("the export was interrupted")]
    Interrupted,
}

impl ExportError {
    /// What the system said about a file.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| ExportError::Io { path, source }
    }

    /// What git's own rules say about an object.
    pub(super) fn object(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        ExportError::Object {
            what: what.to_string(),
            why: why.to_string(),
        }
    }
}
