//! Why a head does not continue another one.

/// Why a head does not continue another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Diverges {
    /// They are of different kinds.
    #[error("the name stands for {old}, and this is {new}")]
    Kind {
        /// What the old head is.
        old: &'static str,
        /// What the new head is.
        new: &'static str,
    },
    /// They are of different folders.
    #[error("the name stands for another folder ({old})")]
    Folder {
        /// What is known of the old one.
        old: String,
    },
    /// The new head is older.
    #[error("it is an older snapshot of the folder")]
    OlderFolder,
    /// Readers would be shown another branch.
    #[error("its default branch would be {new} instead of {old}")]
    DefaultBranch {
        /// The old one.
        old: String,
        /// The new one.
        new: String,
    },
    /// A branch would be missing.
    #[error("it lacks the branch {0} (--branch {0} adds it)")]
    Dropped(String),
    /// A branch would go back.
    #[error("{branch} would go back from {old} to its ancestor {new}")]
    Older {
        /// The branch.
        branch: String,
        /// Where it was.
        old: String,
        /// Where it would be.
        new: String,
    },
    /// A branch would lead elsewhere.
    #[error("{branch} at {new} does not descend from {old}")]
    Unrelated {
        /// The branch.
        branch: String,
        /// Where it was.
        old: String,
        /// Where it would be.
        new: String,
    },
    /// Nobody knows.
    #[error(
        "whether {branch} at {new} descends from {old} is unknown: the history is incomplete \
         (`git fetch --unshallow` completes that of a shallow clone)"
    )]
    Unknown {
        /// The branch.
        branch: String,
        /// Where it was.
        old: String,
        /// Where it would be.
        new: String,
    },
    /// A tag would lead elsewhere.
    #[error("the tag {tag} would move from {old} to {new}")]
    Tag {
        /// The tag.
        tag: String,
        /// Where it was.
        old: String,
        /// Where it would be.
        new: String,
    },
    /// Part of the history would be missing.
    #[error(
        "it would carry {} instead of {}; --history all publishes the rest, and in a shallow \
         clone `git fetch --unshallow` fetches it first",
        history(Some(*new)),
        history(*old)
    )]
    History {
        /// How deep the old one is; `None` for all of it.
        old: Option<u32>,
        /// How deep the new one is.
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
