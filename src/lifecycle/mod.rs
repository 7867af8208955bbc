//! Life cycle of stored content: what is stored, what needs it, whether it is intact.
//!
//! A blob on Walrus expires with its last paid epoch, without notification, so every
//! publish is written to a [`Ledger`]. A [`walk`] finds everything that a head needs, and
//! [`fsck`] verifies it. [`crate::maintenance::gc`] deletes blobs that no walk reaches,
//! unless a mount or a publish needs them ([`crate::leases`]) or a rule retains them
//! ([`policy`]). Rules may depend on the activity of a repository ([`Activity`]).
//! [`usage`] compares the storage of a repository with alternatives, and [`export()`]
//! restores a published history as a git repository.
//!
//! May depend on: `repo`, `cache`, `config`, `offload`.

mod activity;
mod export;
mod fresh;
pub mod fsck;
mod ledger;
pub mod policy;
mod usage;
pub mod walk;

pub use activity::Activity;
pub use export::{
    CheckoutLimits, CheckoutOutcome, ExportError, ExportOptions, Exported, export, fsck as git_fsck,
};
pub use fresh::FreshStore;
pub use ledger::{EntryKind, Extended, Ledger, LedgerBlob, LedgerEntry, LogError};
pub use usage::{Usage, usage};
