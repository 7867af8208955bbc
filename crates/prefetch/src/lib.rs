//! Prediction of file opens, and selection of what to prefetch.
//!
//! - A [`model`] learns the order in which files are opened and predicts the next
//!   ones; a [`Profile`] stores it.
//! - Without learned data, `kinship` derives related files from the [`Catalogue`],
//!   which lists files and their positions.
//! - The [`scheduler`] weighs both against the cost of a request and decides which
//!   requests to make; demand reads take precedence.
//! - [`Readahead`] and [`Sweeps`] recognize sequential reads of a file and of a
//!   tree.
//! - [`replay`] runs recorded sessions through all of this and measures the time
//!   saved and the bytes wasted.
//!
//! The crate is pure: no clock, no threads, no network. The same code serves
//! mounts, tests and measurements.
//!
//! ```
//! use walgit_prefetch::Sweeps;
//!
//! let mut sweeps = Sweeps::default();
//! let _ = &mut sweeps;
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod catalogue;
mod codec;
mod kinship;
pub mod model;
mod part;
mod profile;
mod rates;
mod readahead;
pub mod replay;
pub mod scheduler;
mod sweep;
mod together;

pub use catalogue::Catalogue;
pub use codec::MalformedProfile;
pub use profile::{MAX_LEN as MAX_PROFILE, Profile};
pub use rates::Rates;
pub use readahead::{Next, Readahead};
pub use sweep::Sweeps;
