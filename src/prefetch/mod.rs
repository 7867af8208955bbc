//! Prefetching.
//!
//! [`Ahead`] receives every read of a mount. Within a file, [`Readahead`](walgit_prefetch::Readahead) detects
//! sequential reads and sets the read-ahead window. Across files, [`Sweeps`](walgit_prefetch::Sweeps)
//! detects walks of the tree, and `stream` prefetches the following files in
//! storage order. All other reads go to a [`Guide`].
//!
//! Prediction across files has three parts. The [`model`](walgit_prefetch::model) learns the order of file
//! opens and predicts the next ones; it outlives a session as a [`Profile`](walgit_prefetch::Profile).
//! Without learned data, `kinship` derives related files from the [`Catalogue`](walgit_prefetch::Catalogue),
//! which lists files and their locations. The [`scheduler`](walgit_prefetch::scheduler) weighs both predictions
//! against their cost and decides which requests to make; demand reads take
//! precedence. The guide executes its decisions. [`replay`](walgit_prefetch::replay) plays recorded sessions
//! through all three and measures time saved and bytes wasted. All parts except the
//! guide are pure: no clock, no thread, no network, so the code that serves a mount
//! is the code that is measured and tested.
//!
//! A repository may carry initial data (`hints`): files that changed together in
//! its history, and a profile learned by others.
//!
//! May touch: `repo`, `cache`; the across-files part touches nothing.

mod ahead;
mod guide;
mod hints;
mod requests;
mod stream;
mod warm;

pub use ahead::{Ahead, Reading};
pub use guide::{Guide, Learning, PrefetchStats};
pub use hints::{carried, import, learned};
pub use warm::{Warmed, warm};
