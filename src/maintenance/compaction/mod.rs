//! Compaction: rewrites heads that many publishes have scattered over many blobs.
//!
//! [`Compactor::candidates`] measures the heads of names from their nodes ([`layout`]): the
//! blobs that a head needs, the needed bytes of each, and the requests of a walk over its
//! trees. [`plan`] predicts the layout after a compaction and its cost; a head whose score
//! improves by more than a threshold is compacted. Compactions are recorded ([`log`]),
//! which enforces a cooldown per name and a spending limit.
//!
//! [`Compactor::compact`] rewrites one head: the new head is stored, read back and compared
//! with the old one, and only then the name moves, unless it was moved concurrently. The
//! old head remains unchanged; blobs that become unneeded are collected later. An
//! interruption loses nothing, and the next run reuses the stored blobs.

mod compactor;
mod layout;
mod log;
mod plan;

pub use compactor::{
    CandidateSelection, Compacted, CompactionCandidate, CompactionError, CompactionSkipReason,
    Compactor,
};
pub use plan::{CompactionPlan, LayoutFigures, LayoutScore};
