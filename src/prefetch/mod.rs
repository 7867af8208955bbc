//! Prefetching.
//!
//! [`Prefetcher`] receives every read of a mount. Within a file, [`Readahead`] detects
//! sequential reads and sets the read-ahead window. Across files,
//! [`SequentialScanDetector`] detects walks of the tree, and `walk_prefetcher` prefetches
//! the following files in storage order. All other reads go to a [`PrefetchDriver`].
//!
//! [`walgit_prefetch`] predicts opens across files and decides which requests to make;
//! the driver executes its decisions. All parts except the driver are pure: no clock, no
//! thread, no network, so the code that serves a mount is the code that is measured and
//! tested.
//!
//! A repository may carry initial data (`hints`): files that changed together in
//! its history, and a profile learned by others.
//!
//! May touch: `repo`, `cache`; the across-files part touches nothing.
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
