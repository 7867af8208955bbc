//! What is fetched before it is asked for.
//!
//! [`Ahead`] is told every read of a mount. Within a file, [`Readahead`] watches
//! the reads and says how far ahead of them to be. Across files, the neighbours
//! that a fetched chunk brings along (`cache`) help whoever reads here and
//! there; who walks the tree is recognised by [`Sweeps`], and what comes next is
//! streamed in the order in which it is stored.
//!
//! A Markov model over the order in which files are opened, its store, and the
//! scheduler that weighs a prediction's benefit against its cost come beside
//! this.
//!
//! May touch: `repo`, `cache`.

mod ahead;
mod readahead;
mod sweep;

pub use ahead::Ahead;
pub use readahead::Readahead;
pub use sweep::Sweeps;
