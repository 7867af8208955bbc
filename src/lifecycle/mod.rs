//! What is kept, renewed and collected.
//!
//! A blob on Walrus dies when its last epoch ends, and nobody tells. Whoever
//! wants to renew or delete has to know what was published, so every publish
//! is written to a [`Ledger`]. Retention rules, renewal, migration between
//! tiers and garbage collection will read it; they have rooms of their own
//! here when they come. A [`survey`] tells what a repository is stored in, and
//! what that would be otherwise. What was published with its history is given
//! back as the git repository it was by an [`export()`].
//!
//! May touch: `repo`, `cache`, `walrus`.

mod export;
mod ledger;
mod survey;

pub use export::{Checkout, ExportError, ExportOptions, Exported, export, fsck};
pub use ledger::{Ledger, LedgerEntry, LedgerError};
pub use survey::{Survey, survey};
