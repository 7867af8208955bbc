//! The complete history of a git repository: reads the objects of an
//! [archive](walgit_format::archive).

mod commit_index;
mod commit_tree;
mod commits;
mod reader;
mod segment_index;

pub(super) use commits::decode_commits_of;
pub(super) use reader::check_commits;
pub use reader::{Archive, ContentLocation};
