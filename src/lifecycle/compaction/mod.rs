//! Selection of heads that benefit from compaction.
//!
//! The layout of a head is measured from its nodes ([`Layout`]): the blobs it needs, the
//! needed bytes of each, and the requests of a walk over its trees. [`plan`] predicts the
//! layout after a compaction and its cost; a head whose score improves by more than a
//! threshold is a candidate. Compactions are recorded ([`Records`]), which enforces a
//! cooldown per name and a spending limit.

mod layout;
mod plan;
mod records;

pub use layout::{FileFound, Held, Layout, measure};
pub use plan::{Plan, Score, Terms, plan};
pub use records::{Record, Records, RecordsError};
