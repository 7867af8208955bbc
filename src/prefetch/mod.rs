//! What is fetched before it is asked for.
//!
//! Within a file, [`Readahead`] watches the reads and says how far ahead of
//! them to be. Across files, the neighbours that a fetched chunk brings along
//! (`cache`) do the work where content is packed; where each file is a blob of
//! its own, [`Sweeps`] recognises who walks a tree and how far ahead to fetch.
//!
//! Across files there is more to know, and it takes three to know it. The
//! [`model`] has learned in which order files are opened and foretells the next
//! ones; what it knows outlives a session as a [`Profile`]. Where nothing is
//! learned, `kinship` tells from the [`Catalogue`], the files there are and
//! where they lie, which of them belong together. The [`scheduler`] weighs what
//! both say against what it costs, and decides which requests to make, with
//! demand always first. [`replay`] plays recorded sessions through all three and
//! measures the time that is saved and the bytes that are wasted. All of it is
//! pure: no clock, no thread, no network, so the very code that serves a mount
//! is measured and tested.
//!
//! May touch: `repo`, `cache`; the across-files part touches nothing.

pub mod catalogue;
mod codec;
mod kinship;
pub mod model;
mod profile;
mod rates;
mod readahead;
pub mod replay;
pub mod scheduler;
mod sweep;

pub use catalogue::Catalogue;
pub use codec::MalformedProfile;
pub use profile::Profile;
pub use rates::Rates;
pub use readahead::Readahead;
pub use sweep::Sweeps;
