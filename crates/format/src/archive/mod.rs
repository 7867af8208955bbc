//! The complete history of a git repository, beside the trees that are shown.
//!
//! An **archive** is a sequence of *segments*, one for each publish with new objects. A
//! segment stores trees, contents and tags in solid *groups*, in which versions of a path
//! are adjacent; commits are stored in
//! [`AttachmentKind::GitCommits`](super::head::AttachmentKind). Content of a published
//! tree is not stored again: a segment refers to its chunks.
//!
//! Objects are numbered across all segments: first a segment's trees, each after the
//! objects that it contains, then contents in groups, then contents that are chunks.
//! Stored trees use these numbers in place of git IDs. This makes history small: an ID is
//! 20 incompressible bytes, and all IDs can be recomputed from the stored data.

mod group;
mod segment;
mod tree;

pub use group::{Objects, decode_group, encode_group};
pub use segment::{
    ArchivedRef, ChunkRun, CommitMark, ContentGroup, Group, PlannedSegment, Segment,
};
pub use tree::{RawEntry, StoredEntry, TreeTarget, decode_tree, encode_tree, parse_tree, raw_tree};
