//! What is kept, renewed and collected.
//!
//! A blob on Walrus dies when its last epoch ends, and nobody tells. Whoever
//! wants to renew or delete has to know what was published, so every publish
//! is written to a [`Ledger`]. A [`survey`] tells what a repository is stored in,
//! and what that would be otherwise.
//!
//! Everything that a head needs is found in one way, by a [`walk`]. [`fsck`]
//! checks it; [`gc`] deletes what no walk came to, unless a mount or a publish needs
//! it ([`leases`]) or a rule ([`policy`]) keeps it for a while, which may depend
//! on how active a repository is ([`Activity`]).
//!
//! A head that many pushes have scattered is laid out anew where that pays
//! ([`compaction`] says where).
//!
//! What is needed is paid for longer before it ends by [`renew`].
//!
//! What was published with its history is given back as the git repository it
//! was by an [`export()`].
//!
//! May touch: `repo`, `cache`, `walrus`.

mod activity;
pub mod compaction;
mod export;
mod fresh;
pub mod fsck;
pub mod gc;
pub mod leases;
mod ledger;
pub mod policy;
pub mod renew;
mod survey;
pub mod walk;

pub use activity::Activity;
pub use export::{
    Checkout, ExportError, ExportOptions, Exported, Limits as ExportLimits, export,
    fsck as git_fsck,
};
pub use fresh::FreshStore;
pub use leases::{Lease, LeaseError, Leases};
pub use ledger::{EntryKind, Extended, Ledger, LedgerBlob, LedgerEntry, LedgerError};
pub use survey::{Survey, survey};
