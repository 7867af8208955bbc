//! Life cycle of stored content: ledger, renewal, garbage collection.
//!
//! A blob on Walrus expires with its last paid epoch, without notification. Renewal and
//! deletion depend on a record of what was published, so every publish is written to a
//! [`Ledger`]. A [`survey`] compares the storage of a repository with alternatives.
//!
//! A [`walk`] finds everything that a head needs. [`fsck`] verifies it; [`gc`] deletes
//! blobs that no walk reaches, unless a mount or a publish needs them ([`leases`]) or a
//! rule ([`policy`]) retains them, which may depend on how active a repository is
//! ([`Activity`]).
//!
//! Heads that many pushes have scattered are rewritten if that pays off ([`compaction`]
//! selects them).
//!
//! Storage of needed blobs is extended before it expires by [`renew`].
//!
//! A history that was published is restored as a git repository by an [`export()`].
//!
//! May touch: `repo`, `cache`, `walrus`.

mod activity;
pub mod compaction;
mod export;
mod fresh;
pub mod fsck;
pub mod gc;
mod ledger;
pub mod policy;
pub mod renew;
mod survey;
pub mod walk;

pub use crate::leases::{self, Lease, LeaseError, Leases};
pub use activity::Activity;
pub use export::{
    Checkout, ExportError, ExportOptions, Exported, Limits as ExportLimits, export,
    fsck as git_fsck,
};
pub use fresh::FreshStore;
pub use ledger::{EntryKind, Extended, Ledger, LedgerBlob, LedgerEntry, LedgerError};
pub use survey::{Survey, survey};
