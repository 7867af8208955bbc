//! The complete history of a git repository, besides the trees that are shown.
//!
//! An **archive** is a list of *segments*, one for each publish that added objects. A
//! segment holds trees, contents and tags in solid *groups*, in which versions of the
//! same path are neighbours. Commits are in a separate attachment
//! ([`AttachmentKind::GitCommits`](walgit_format::head::AttachmentKind)). A segment
//! references content chunks that a published tree already contains instead of
//! storing them again.
//!
//! Objects are numbered across all segments. Within a segment, trees come first, each
//! after all objects that it contains, then grouped contents, then contents stored as
//! chunks. Stored trees contain these numbers instead of git IDs. This keeps the
//! history small: an ID takes 20 incompressible bytes, and every ID can be computed
//! from the stored objects.

mod commits;
mod past;
mod places;
mod reader;

pub(super) use reader::check_commits;
pub use reader::{Archive, Content};
