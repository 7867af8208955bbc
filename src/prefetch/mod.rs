//! What is fetched before it is asked for.
//!
//! Within a file, [`Readahead`] watches the reads and says how far ahead of
//! them to be. Across files, the neighbours that a fetched chunk brings along
//! (`cache`) do the work where content is packed; where each file is a blob of
//! its own, [`Sweeps`] recognises who walks a tree and how far ahead to fetch.
//! A Markov model over the order in which files are opened, its store, and the
//! scheduler that weighs a prediction's benefit against its cost come beside
//! this.
//!
//! May touch: `repo`, `cache`.

mod readahead;
mod sweep;

pub use readahead::Readahead;
pub use sweep::Sweeps;
