//! Prediction of file opens, and selection of what to prefetch.
//!
//! - A [`model`] learns the order in which files are opened and predicts the next
//!   ones; a [`Profile`] stores it.
//! - Without learned data, `locality_predictor` and `co_change_predictor` predict files that
//!   are near opened ones in the [`FileIndex`], or that changed together with them.
//! - The [`scheduler`] compares these predictions with the cost of a request and decides
//!   which requests to make; demand reads take precedence.
//! - [`Readahead`] and [`SequentialScanDetector`] recognize sequential reads of a file and of a
//!   tree.
//! - [`replay`] runs recorded sessions through all of this and measures the time
//!   saved and the bytes wasted.
//!
//! The crate is pure: no clock, no threads, no network. The same code serves
//! mounts, tests and measurements.
//!
//! May depend on: `walgit_format`.
//!
//! ```
//! use walgit_prefetch::SequentialScanDetector;
//!
//! let mut detector = SequentialScanDetector::default();
//! let run_lengths = [10, 11, 12].map(|file| detector.record(file));
//! assert_eq!(run_lengths, [1, 2, 3]);
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod co_change_predictor;
mod codec;
mod decaying_ratio;
pub mod file_index;
mod folder_usage;
mod locality_predictor;
pub mod model;
mod profile;
mod rates;
mod readahead;
pub mod replay;
mod scan_detector;
pub mod scheduler;

pub use codec::MalformedProfile;
pub use file_index::FileIndex;
pub use profile::{MAX_PROFILE_BYTES, Profile};
pub use rates::Rates;
pub use readahead::{Readahead, ReadaheadAction};
pub use scan_detector::SequentialScanDetector;
