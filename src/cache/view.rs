//! The cache as one store sees it: with the key that encrypts its content on disk.

use bytes::Bytes;

use super::at_rest::AtRest;
use super::chunk_cache::Cache;
use super::delta_bases::{BaseBytes, recompress_standalone};
use super::error::CacheError;
use super::memory::detach;
use super::records::RecordNamespace;
use super::stats::CacheCounters;
use walgit_format::chunk::{ChunkError, ChunkHash, ChunkRef, SecretKey};

/// Location of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// Available immediately.
    Memory,
    /// Must be read, decoded and verified.
    Disk,
    /// Must be fetched.
    Network,
}

/// A cache with the key of a store ([`Cache::view`]). Never accesses the network.
#[derive(Clone, Copy, Debug)]
pub struct CacheView<'a> {
    pub(super) cache: &'a Cache,
    pub(super) at_rest: AtRest<'a>,
}

impl Cache {
    /// Returns the cache as a store sees it whose content is encrypted on disk with
    /// `key`, or in plain text without a key ([`walrus_client::BlobReader::at_rest`]).
    pub fn view<'a>(&'a self, key: Option<&'a SecretKey>) -> CacheView<'a> {
        CacheView {
            cache: self,
            at_rest: AtRest::new(key),
        }
    }
}

impl CacheView<'_> {
    /// Returns the plain bytes of a chunk if it is in memory or on disk.
    pub fn get_cached(self, chunk: &ChunkRef) -> Option<Bytes> {
        // The cached chunk may come from another reference to the same hash. A
        // reference with a different length is wrong, and its reader must not get
        // these bytes.
        let is_right = |raw: &Bytes| raw.len() as u64 == u64::from(chunk.raw_len);
        let cache = self.cache;
        if let Some(raw) = cache.memory.get(&chunk.hash) {
            CacheCounters::add(&cache.counters.memory_hits, 1);
            return Some(raw).filter(is_right);
        }
        let preloaded = cache.preloaded.take(&chunk.hash);
        let raw = preloaded.or_else(|| cache.disk.get(&chunk.hash, self.at_rest))?;
        if !is_right(&raw) {
            return None;
        }
        CacheCounters::add(&cache.counters.disk_hits, 1);
        cache.memory.insert(chunk.hash, raw.clone());
        Some(raw)
    }

    /// Loads a chunk from disk into memory before it is read. Reads and decodes on
    /// the calling thread.
    pub fn preload(self, chunk: &ChunkRef) {
        let preloaded = &self.cache.preloaded;
        if preloaded.accepts(u64::from(chunk.raw_len))
            && self.residency(&chunk.hash) == Residency::Disk
            && let Some(raw) = self.cache.disk.get(&chunk.hash, self.at_rest)
        {
            CacheCounters::add(&self.cache.counters.preloaded, 1);
            preloaded.insert(chunk.hash, raw);
        }
    }

    /// Returns whether [`CacheView::get_cached`] would probably find the chunk. Does
    /// not access the disk or count as a use.
    pub fn contains(self, hash: &ChunkHash) -> bool {
        self.residency(hash) != Residency::Network
    }

    /// Returns where [`Cache::get`] would probably find the chunk. Does not access
    /// the disk or count as a use.
    pub fn residency(self, hash: &ChunkHash) -> Residency {
        if self.cache.memory.contains(hash) || self.cache.preloaded.contains(hash) {
            Residency::Memory
        } else if self.contains_on_disk(hash) {
            Residency::Disk
        } else {
            Residency::Network
        }
    }

    /// Returns whether the chunk is on disk and so survives this session.
    pub fn contains_on_disk(self, hash: &ChunkHash) -> bool {
        self.cache.disk.contains(hash, self.at_rest)
    }

    /// Verifies and caches stored bytes that arrived with another object, and
    /// returns their plain bytes.
    ///
    /// # Errors
    /// If the bytes do not match the chunk, or a base is not cached.
    pub fn insert(self, chunk: &ChunkRef, stored: Bytes) -> Result<Bytes, ChunkError> {
        let bases = (chunk.bases.iter())
            .filter_map(|base| Some((base.hash, self.get_cached(base)?)))
            .collect::<BaseBytes>();
        let raw = detach(chunk, bases.open(chunk, stored.clone())?);
        self.cache.memory.insert(chunk.hash, raw.clone());
        // A failing disk reduces speed but never fails a read.
        let entry = recompress_standalone(chunk.clone(), stored, &raw);
        let _ = self.cache.disk.put(&[entry], self.at_rest);
        Ok(raw)
    }

    /// Returns the last value of a small durable record.
    pub fn record(self, space: RecordNamespace, key: &[u8]) -> Option<Vec<u8>> {
        self.cache.disk.record(space, key, self.at_rest)
    }

    /// Sets a small durable record.
    pub fn set_record(self, space: RecordNamespace, key: &[u8], value: &[u8]) {
        (self.cache.disk).set_record(space, key, value, self.at_rest);
    }

    /// Pins chunks, present or future, until `name` is unpinned. Replaces the
    /// previous set of the pin.
    ///
    /// # Errors
    /// [`CacheError::PinsTooLarge`] if the budget does not allow it, or an error of
    /// the disk.
    pub fn pin(self, name: &str, chunks: &[ChunkRef]) -> Result<(), CacheError> {
        let mut wanted: Vec<(ChunkHash, u32)> = (chunks.iter())
            .map(|chunk| (self.at_rest.page_name(&chunk.hash), chunk.stored_len))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        self.cache.disk.pin(name, &wanted)
    }
}
