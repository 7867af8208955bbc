//! Which heads would be better off laid out anew.
//!
//! How a head lies is measured from its nodes ([`Layout`]): the blobs it needs,
//! how much of each, and the requests a walk over its trees takes. [`plan`] says
//! what it would be like afterwards and what getting there costs; a head whose
//! score is better by more than a threshold is a candidate. What was done is
//! recorded ([`Records`]), so that a name is left alone for a while and no more is
//! spent than may be.

mod layout;
mod plan;
mod records;

pub use layout::{FileFound, Held, Layout, measure};
pub use plan::{Plan, Score, Terms, plan};
pub use records::{Record, Records, RecordsError};
