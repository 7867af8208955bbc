//! A directory node: names, kinds, sizes, and content references.
//!
//! Entries are sorted by name, and each records the number of nodes in its subtree. This
//! numbers every file of a snapshot without a table: a file's number is its position in a
//! preorder walk (a directory, then its entries in order). [`Entry::offset`] is that
//! position relative to the directory.

mod decode;
mod encode;
mod types;

pub use super::names::{MAX_NAME_BYTES, check_name};
pub use decode::check_count;
pub(crate) use decode::read_node_count;
pub use encode::{encode, encode_unchecked};
pub use types::{
    Content, Directory, Entry, Kind, MAX_ENTRIES, MAX_INLINE_BYTES, MAX_NODES, MAX_SYMLINK_BYTES,
    PlannedContent, PlannedEntry,
};
