//! What a user may rely on, one file a promise. Real parts throughout: kernel
//! mounts, HTTP to the embedded Walrus, RocksDB, git.
//!
//! One test program, so that everything is linked once.

mod cache;
mod cli;
mod corpora;
mod crash;
mod devnet;
mod format;
mod hostile;
mod integrity;
mod model;
mod mount;
mod offline;
mod prefetch;
mod publish;
mod support;
