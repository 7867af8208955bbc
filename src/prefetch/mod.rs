//! What is fetched before it is asked for.
//!
//! So far within a file: [`Readahead`] watches the reads of one file and says
//! how far ahead of them to be. Across files the neighbours that a fetched
//! chunk brings along (`cache`) do the work; a Markov model over the order in
//! which files are opened, its store, and the scheduler that weighs a
//! prediction's benefit against its cost come beside this.
//!
//! May touch: `repo`, `cache`.

mod readahead;

pub use readahead::Readahead;
