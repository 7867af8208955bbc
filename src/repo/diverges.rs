//! Reasons why a head does not continue another one.

/// Why a head does not continue another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Diverges {
    /// The heads are of different kinds.
    #[error("the name refers to {old}, and the new head is {new}")]
    Kind {
        /// Kind of the old head.
        old: &'static str,
        /// Kind of the new head.
        new: &'static str,
    },
    /// The heads are of different folders.
    #[error("the name refers to another folder ({old})")]
    Folder {
        /// Description of the old folder.
        old: String,
    },
    /// The new head is older.
    #[error("it is an older snapshot of the folder")]
    OlderFolder,
    /// The default branch would change.
    #[error("its default branch would be {new} instead of {old}")]
    DefaultBranch {
        /// The old branch.
        old: String,
        /// The new branch.
        new: String,
    },
    /// A branch would be dropped.
    #[error("it lacks the branch {0} (--branch {0} adds it)")]
    Dropped(String),
    /// A branch would move back.
    #[error("{branch} would go back from {old} to its ancestor {new}")]
    Older {
        /// The branch.
        branch: String,
        /// Its old commit.
        old: String,
        /// Its new commit.
        new: String,
    },
    /// A branch would move to an unrelated commit.
    #[error("{branch} at {new} does not descend from {old}")]
    Unrelated {
        /// The branch.
        branch: String,
        /// Its old commit.
        old: String,
        /// Its new commit.
        new: String,
    },
    /// The ancestry of a branch is unknown.
    #[error(
        "whether {branch} at {new} descends from {old} is unknown: the history is incomplete \
         (`git fetch --unshallow` completes that of a shallow clone)"
    )]
    Unknown {
        /// The branch.
        branch: String,
        /// Its old commit.
        old: String,
        /// Its new commit.
        new: String,
    },
    /// A tag would move.
    #[error("the tag {tag} would move from {old} to {new}")]
    Tag {
        /// The tag.
        tag: String,
        /// Its old target.
        old: String,
        /// Its new target.
        new: String,
    },
    /// Part of the history would be dropped.
    #[error(
        "it would carry {} instead of {}; --history all publishes the rest, and in a shallow \
         clone `git fetch --unshallow` fetches it first",
        history(Some(*new)),
        history(*old)
    )]
    History {
        /// Depth of the old history; `None` if complete.
        old: Option<u32>,
        /// Depth of the new history.
        new: u32,
    },
}

fn history(depth: Option<u32>) -> String {
    match depth {
        None => "all of its history".into(),
        Some(1) => "no history".into(),
        Some(depth) => format!("the last {depth} commits of its history"),
    }
}
