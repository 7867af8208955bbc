//! Mount a WalGit repository, stored on Walrus, as a folder.
//!
//! This page is the map of the house. Rooms stand above each other; a room
//! imports from those below it, never from those above.
//!
//! | room | what lives there | what it may touch |
//! |---|---|---|
//! | [`cli`] | arguments, progress bars, tables, exit codes | everything below |
//! | [`daemon`] | the background process of a user: owns the cache, serves all mounts | everything below |
//! | [`fuse`] | the kernel's requests in, replies out | `repo`, `prefetch`, `cache` |
//! | [`publish`] | git repository or folder → plan → packs → upload | `repo`, `walrus` |
//! | [`lifecycle`] | what was published; checks of it, retention rules, renewal, collection | `repo`, `cache`, `walrus` |
//! | [`prefetch`] | what is fetched before it is asked for | `repo`, `cache` |
//! | [`repo`] | a repository as data: our format, WalGit's manifests; `Snapshot` | `cache`, `walrus`, `chain` |
//! | [`cache`] | memory → RocksDB → fetch | `walrus` |
//! | [`chain`] | the Sui chain: which commit a repository object is at | `net` |
//! | [`walrus`] | stores of blobs; blob IDs; cost; the embedded network | `net`, `auth` |
//! | [`net`] | retry, breakers, ranking, hedging, conditions, the failure log | – |
//! | [`auth`] | who we are to a publisher; secrets put away | `net` |
//! | [`chunk`] | what a stored piece is; bounded decoding and verification | – |
//! | [`config`] | settings with their defaults | – |
//! | [`clock`] | the time, for records | – |
//! | [`durable`] | files that survive crashes and power loss; locks between processes | `fault_point` |
//! | [`text`] | untrusted text, made safe to display | – |
//! | [`offload`] | CPU-heavy work, off the threads that serve | `chunk` |
//! | [`fault_point`] | named steps where a test stops, kills or fails the process | – |
//!
//! `chunk`, `config`, `clock`, `durable` and `text` are the ground floor: every room may stand on
//! them.
//!
//! **The way of a read** is one line: `fuse::Driver::read` →
//! [`repo::Snapshot::read`] → [`cache::Cache::get`] → memory → RocksDB →
//! [`walrus::BlobStore::read`] → verify → keep → reply. Nothing above `cache`
//! knows whether bytes came from memory, disk or the network; nothing above
//! `walrus` knows HTTP.
//!
//! **The one rule**: bytes from outside are parsed, kept or served only after
//! [`chunk::ChunkRef::open`] has checked their hash.

#![forbid(unsafe_code)]
// What is printed passes through `cli::output`, which escapes it.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod auth;
pub mod cache;
pub mod chain;
pub mod chunk;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod durable;
pub mod fault_point;
pub mod fuse;
pub mod lifecycle;
pub mod net;
pub mod offload;
pub mod prefetch;
pub mod publish;
pub mod repo;
pub mod text;
pub mod walrus;
