//! Mount a WalGit repository, stored on Walrus, as a folder.
//!
//! This package contains command line, daemon, FUSE driver, cache, publishing and
//! maintenance. Reusable parts are separate crates, so Cargo enforces that dependencies
//! point downward:
//!
//! | crate | contents | may depend on |
//! |---|---|---|
//! | `walgit-fs` (this one) | the program | all below |
//! | [`walrus_devnet`] | embedded Walrus server with fault injection, OAuth issuer | `walrus_client`, `walrus_encoding`, `walgit_format`, `walgit_durable` |
//! | [`walrus_client`] | stores, resilient HTTP, credentials | `walrus_encoding`, `walgit_format`, `walgit_durable` |
//! | [`walrus_encoding`] | blob IDs, quilts, billed sizes; pure | `walgit_format` |
//! | [`walgit_prefetch`] | prediction of file opens, scheduling of prefetches; pure | `walgit_format` |
//! | [`walgit_format`] | the storage format: encode, decode, verify; pure | – |
//! | [`walgit_durable`] | files and logs that survive power loss, locks, fault points | – |
//!
//! Modules of this package; each one imports only from those below it, and the end of its
//! documentation repeats the last column:
//!
//! | module | contents | may depend on |
//! |---|---|---|
//! | [`cli`] | arguments, progress bars, tables, exit codes | all below |
//! | [`daemon`] | the background process of a user: owns the cache, serves all mounts | all below |
//! | [`maintenance`] | compaction, renewal, garbage collection | `fuse`, `publish`, `lifecycle`, `prefetch`, `repo`, `cache`, `leases`, `config` |
//! | [`fuse`] | requests of the kernel and their replies | `prefetch`, `repo`, `cache`, `offload` |
//! | [`publish`] | git repository or folder → plan → packs → upload | `repo`, `leases`, `config` |
//! | [`lifecycle`] | ledger, retention rules, fsck, export | `repo`, `cache`, `config`, `offload` |
//! | [`prefetch`] | fetches what the predictor schedules | `repo`, `cache` |
//! | [`repo`] | reads a repository: [`repo::Loader`], [`repo::Repository`], [`repo::Snapshot`] | `cache`, `chain`, `offload` |
//! | [`cache`] | memory → RocksDB → fetch | `config` |
//! | [`chain`] | the Sui chain: the current commit of a repository object | – |
//! | [`leases`] | files that protect blobs in use from garbage collection | `config` |
//! | [`config`] | settings with their defaults | – |
//! | `allocator` | settings of the system allocator | – |
//! | [`offload`] | CPU-heavy decoding on blocking threads | – |
//!
//! **A read** takes this path: `Driver::read` in [`fuse`] → [`repo::Snapshot::read`] →
//! [`cache::Cache::get`] → memory → RocksDB → [`walrus_client::BlobReader::read`] → verify →
//! store in the cache → reply. Modules above `cache` do not know whether bytes came from
//! memory, disk or the network; modules above `walrus_client` do not know HTTP.
//!
//! **The invariant**: content from a gateway or from disk is parsed, cached in memory or
//! served only after its hash was verified, usually by
//! [`walgit_format::chunk::ChunkRef::open`].

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
