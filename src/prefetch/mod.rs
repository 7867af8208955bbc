//! What is fetched before it is asked for.
//!
//! Within a file, [`Readahead`] watches the reads and says how far ahead of
//! them to be. Across files, the neighbours that a fetched chunk brings along
//! (`cache`) do the work where content is packed; where each file is a blob of
//! its own, [`Sweeps`] recognises who walks a tree and how far ahead to fetch.
//!
//! Across files there is more to know. The [`model`] learns in which order files
//! are opened and foretells the next ones; what it knows outlives a session as a
//! [`Profile`]. It is pure: no clock, no thread, no network.
//!
//! May touch: `repo`, `cache`; the across-files part touches nothing.

pub mod catalogue;
mod codec;
pub mod model;
mod profile;
mod rates;
mod readahead;
mod sweep;

pub use catalogue::Catalogue;
pub use codec::MalformedProfile;
pub use profile::Profile;
pub use rates::Rates;
pub use readahead::Readahead;
pub use sweep::Sweeps;
