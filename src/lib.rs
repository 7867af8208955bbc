//! Mount a WalGit repository, stored on Walrus, as a folder.
//!
//! This package is the product: command line, daemon, FUSE driver, cache, publishing and
//! maintenance. Reusable parts are crates of their own, so Cargo enforces that dependencies
//! point downward:
//!
//! | crate | contents | depends on |
//! |---|---|---|
//! | `walgit-fs` (this one) | the product | all below |
//! | [`walrus_devnet`] | embedded Walrus server with fault injection, OAuth issuer | `walrus_client` |
//! | [`walrus_client`] | stores, resilient HTTP, credentials | `walrus_encoding`, `walgit_durable` |
//! | [`walrus_encoding`] | blob IDs, quilts, billed sizes; pure | `walgit_format` |
//! | [`walgit_prefetch`] | prediction of file opens, scheduling of prefetches; pure | `walgit_format` |
//! | [`walgit_format`] | the storage format: encode, decode, verify; pure | – |
//! | [`walgit_durable`] | files and logs that survive power loss, locks, fault points | – |
//!
//! Modules of this package; each one imports only from those below it:
//!
//! | module | contents | imports |
//! |---|---|---|
//! | [`cli`] | arguments, progress bars, tables, exit codes | all below |
//! | [`daemon`] | the background process of a user: owns the cache, serves all mounts | all below |
//! | [`maintenance`] | compaction, renewal, garbage collection | `publish`, `lifecycle`, `fuse`, `prefetch`, `repo`, `cache` |
//! | [`fuse`] | requests of the kernel and their replies | `repo`, `prefetch`, `cache` |
//! | [`publish`] | git repository or folder → plan → packs → upload | `repo`, `leases` |
//! | [`lifecycle`] | ledger, retention rules, fsck, export | `repo`, `cache`, `leases` |
//! | [`prefetch`] | fetches what the predictor schedules | `repo`, `cache` |
//! | [`repo`] | reads a repository: [`repo::Loader`], [`repo::Repository`], [`repo::Snapshot`] | `cache`, `chain` |
//! | [`cache`] | memory → RocksDB → fetch | – |
//! | [`chain`] | the Sui chain: the current commit of a repository object | – |
//! | [`leases`] | files that protect blobs in use from garbage collection | `config` |
//! | [`config`] | settings with their defaults | – |
//! | `allocator` | settings of the system allocator | – |
//! | [`offload`] | CPU-heavy decoding on blocking threads | – |
//!
//! **A read** takes this path: `fuse::Driver::read` → [`repo::Snapshot::read`] →
//! [`cache::Cache::get`] → memory → RocksDB → [`walrus_client::BlobStore::read`] → verify →
//! store in the cache → reply. Modules above `cache` do not know whether bytes came from
//! memory, disk or the network; modules above `walrus_client` do not know HTTP.
//!
//! **The invariant**: bytes from outside are parsed, cached or served only after
//! [`walgit_format::chunk::ChunkRef::open`] has verified their hash.

#![forbid(unsafe_code)]
// All output passes through `cli::output`, which escapes it.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod allocator;
pub mod cache;
pub mod chain;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod fuse;
pub mod leases;
pub mod lifecycle;
pub mod maintenance;
pub mod offload;
pub mod prefetch;
pub mod publish;
pub mod repo;
