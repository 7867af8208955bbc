//! Chunk cache: memory, then RocksDB, then the network.
//!
//! Chunks are keyed by hash, so one copy serves every commit, branch and
//! repository. [`Cache::get`] returns a chunk from the first of these that has it:
//!
//! 1. **memory** (`memory`): plain chunks within a byte budget, scan-resistant;
//! 2. **disk** (`disk`): chunks in their stored form, mostly compressed, in
//!    RocksDB; evicted by recency and frequency (`policy`); decoded and verified on
//!    every read, and dropped if verification fails;
//! 3. **store** (`fetch`, `single_flight`, `coalesce`): all readers of a chunk share one
//!    fetch. It includes adjacent chunks of the same blob, each verified by its own hash.
//!    Bases of patches, and dictionaries, are fetched first (`delta_bases`).
//!
//! Prefetches ([`Cache::prefetch`]) use the same path, but give way to demand reads
//! (`prefetch_budget`) and are cancelled when the last handle is dropped.
//! [`CacheView::preload`] decodes and verifies chunks on disk before they are read,
//! on an idle core; preloaded chunks have a separate budget until they are read, so
//! they evict nothing.
//!
//! If a file is a separate blob that is identified by a foreign hash, it is fetched and
//! verified once as a whole (`raw_file`), and then stored as ordinary chunks.
//! Content that must not be on disk in plain text ([`BlobStore::at_rest`]) is
//! encrypted there, including its names (`at_rest`); a [`CacheView`] carries the key.
//!
//! Hits in memory or on disk complete without yielding, so the driver replies on the
//! thread that received the request. A failing disk slows reads down but never fails them.
//! One process at a time owns RocksDB (`lock`): the user's daemon, or a command
//! that found no daemon and hands the database over on request. Only errors that
//! RocksDB reports as corruption count as damage (`failure`); data that cannot be
//! fetched again is then recovered (`salvage`, `pin_dir`).
//!
//! Functions that access the disk return its error.
//!
//! May depend on: `config`.
//!
//! [`BlobStore::at_rest`]: walrus_client::BlobReader::at_rest

mod at_rest;
mod chunk_cache;
mod coalesce;
mod database;
mod delta_bases;
mod disk;
mod error;
mod failure;
mod fetch;
mod limits;
mod lock;
mod maintenance;
mod memory;
mod pin_dir;
mod pins;
mod policy;
mod prefetch_budget;
mod raw_file;
mod records;
mod salvage;
mod schema;
mod single_flight;
mod stats;
mod view;

pub use chunk_cache::{Cache, CacheConfig};
pub use error::CacheError;
pub use fetch::PrefetchGoal;
pub use limits::MAX_GAP_BYTES;
pub use pins::Pin;
pub use prefetch_budget::request_bytes;
pub use records::{ClearScope, RecordNamespace};
pub use single_flight::PrefetchHandle;
pub use stats::{CacheStats, VerifyReport};
pub use view::{CacheView, Residency};
