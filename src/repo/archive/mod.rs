//! All of a git repository's history, beside the trees that are shown.
//!
//! An **archive** is a row of *segments*, one for each publish that brought
//! something new. A segment holds trees, contents and tags in solid *groups*,
//! in which versions of a path are neighbours; commits are kept where they
//! always were ([`AttachmentKind::GitCommits`](super::head::AttachmentKind)).
//! What a published tree holds already is not stored again: a segment refers to
//! its chunks.
//!
//! Objects have numbers, counted through all segments: first a segment's trees,
//! a tree after all that it holds, then contents in groups, then contents that
//! are chunks. In a stored tree, numbers stand where git has IDs. They are what
//! makes history small: an ID is 20 bytes that nothing compresses, and all of
//! them can be computed from what is stored.

mod commits;
mod past;
mod places;
mod reader;

pub(super) use reader::check_commits;
pub use reader::{Archive, Content};
