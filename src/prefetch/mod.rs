//! What is fetched before it is asked for.
//!
//! [`Ahead`] is told every read of a mount. Within a file, [`Readahead`] watches
//! the reads and says how far ahead of them to be. Who walks the tree is
//! recognised by [`Sweeps`], and what comes next is streamed in the order in
//! which it is stored (`stream`). Everybody else is watched by a [`Guide`].
//!
//! Across files there is more to know, and it takes three to know it. The
//! [`model`] has learned in which order files are opened and foretells the next
//! ones; what it knows outlives a session as a [`Profile`]. Where nothing is
//! learned, `kinship` tells from the [`Catalogue`], the files there are and
//! where they lie, which of them belong together. The [`scheduler`] weighs what
//! both say against what it costs, and decides which requests to make, with
//! demand always first. The guide does what it decides. [`replay`] plays recorded
//! sessions through all three and measures the time that is saved and the bytes
//! that are wasted. All but the guide is pure: no clock, no thread, no network,
//! so the very code that serves a mount is measured and tested.
//!
//! A repository may bring a beginning along (`hints`): which files changed
//! together in its history, and what somebody else learned about it.
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
