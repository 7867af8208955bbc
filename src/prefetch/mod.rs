//! Prefetching: fetches content before a process waits for it.
//!
//! A [`Prefetcher`] receives every read of a mount. Within a file, [`Readahead`] detects
//! sequential reads and sets the read-ahead window. Across files,
//! [`SequentialScanDetector`] detects walks of the tree, and `walk_prefetcher` prefetches
//! the following files in storage order. The first read of any other file is passed to a
//! [`PrefetchDriver`].
//!
//! The crate [`walgit_prefetch`] predicts opens across files and decides which requests to
//! make; this module executes its decisions. The crate is pure (no clock, no threads, no
//! network), so tests and measurements run the same code as a mount.
//!
//! A repository may carry initial data (`hints`): files that changed together in
//! its history, and a profile learned by others. [`warm()`] fetches a file or a folder on
//! request.
//!
//! May depend on: `repo`, `cache`.
//!
//! [`Readahead`]: walgit_prefetch::Readahead
//! [`SequentialScanDetector`]: walgit_prefetch::SequentialScanDetector

mod driver;
mod hints;
mod prefetcher;
mod requests;
mod walk_prefetcher;
mod warm;

pub use driver::{Learning, PrefetchDriver, PrefetchStats};
pub use hints::{import_profile, initial_knowledge, load_profile};
pub use prefetcher::{FileRead, Prefetcher};
pub use warm::{WarmReport, warm};
