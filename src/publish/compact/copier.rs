//! Copies chunks between blobs in stored form: reads long ranges, decodes the chunks
//! to verify them, and writes them in tree order.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;

use crate::publish::error::PublishError;
use crate::publish::packs::Packs;
use crate::publish::pending_chunk::{PendingChunk, stored};
use crate::repo::{RepoError, Repository};
use walgit_format::chunk::{
    Bases, BlobId, ByteRange, ChunkHash, ChunkRef, Codec, EncodedChunk, encode_chunk,
};
use walrus_client::{ReadRange, Rejected};

/// Maximum stored bytes in memory, and maximum plain bytes including bases.
const MAX_BATCH_BYTES: u64 = 16 << 20;
const MAX_BATCH_PLAIN_BYTES: u64 = 48 << 20;
/// Maximum bytes per request, and maximum gap between two chunks of a request.
const MAX_REQUEST_BYTES: u64 = 4 << 20;
const MAX_GAP_BYTES: u64 = 64 << 10;
/// zstd level for patches that are converted to standalone chunks.
const STANDALONE_LEVEL: i32 = 9;
/// Maximum concurrent requests.
const FETCH_CONCURRENCY: usize = 8;

/// Location and hash of a chunk: a reference is only a claim, and two may claim different
/// chunks at one location.
type StoredAt = (BlobId, u64, ChunkHash);

fn stored_at(chunk: &ChunkRef) -> StoredAt {
    (chunk.location.blob, chunk.location.offset, chunk.hash)
}

/// Number of leading items that form a batch; at least one, if there is any.
pub(super) fn batch_len<'c>(items: impl Iterator<Item = &'c [ChunkRef]>) -> usize {
    let (mut stored, mut plain) = (0, 0);
    let fits = items.take_while(|chunks| {
        let first = stored == 0;
        for chunk in *chunks {
            let bases = chunk.bases.iter().map(|base| u64::from(base.raw_len));
            stored += u64::from(chunk.stored_len);
            plain += u64::from(chunk.raw_len) + bases.sum::<u64>();
        }
        stored += 1;
        first || (stored <= MAX_BATCH_BYTES && plain <= MAX_BATCH_PLAIN_BYTES)
    });
    fits.count()
}

/// Copies the chunks of one head.
pub(super) struct ChunkCopier<'a> {
    pub(super) repository: &'a Repository,
    vacate: &'a HashSet<BlobId>,
    pub(super) packs: &'a mut Packs,
    /// Stored chunks, in any form.
    stored_chunks: HashMap<ChunkHash, PendingChunk>,
    /// Stored chunks that can serve as bases: not patches.
    standalone_chunks: HashMap<ChunkHash, PendingChunk>,
    /// Blobs that are still referred to.
    pub(super) referenced: BTreeSet<BlobId>,
    /// Content of the trees, which readers fetch in any case, so bases should come from it.
    pub(super) tree_chunks: HashSet<ChunkHash>,
    /// Chunks to store standalone, recompressed.
    standalone: HashMap<ChunkHash, EncodedChunk>,
    /// Bytes written, and their limit.
    written: u64,
    max_bytes: Option<u64>,
}

impl<'a> ChunkCopier<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        vacate: &'a HashSet<BlobId>,
        packs: &'a mut Packs,
        max_bytes: Option<u64>,
    ) -> Self {
        ChunkCopier {
            repository,
            vacate,
            packs,
            stored_chunks: HashMap::new(),
            standalone_chunks: HashMap::new(),
            referenced: BTreeSet::new(),
            tree_chunks: HashSet::new(),
            standalone: HashMap::new(),
            written: 0,
            max_bytes,
        }
    }

    /// Whether a chunk of a file is better stored standalone: its base would have to be copied
    /// only for this chunk, and readers of the file would fetch both. If the base stays
    /// in its blob, the patch stays a patch, so that the bytes written are proportional
    /// to those vacated.
    fn is_better_standalone(&self, chunk: &ChunkRef) -> bool {
        let lost = |base: &ChunkRef| {
            self.vacate.contains(&base.location.blob) && !self.tree_chunks.contains(&base.hash)
        };
        chunk.codec == Codec::Patch && chunk.bases.iter().any(lost)
    }

    /// Stores a chunk, within the limit of bytes.
    fn add(
        &mut self,
        chunk: &ChunkRef,
        sealed: &EncodedChunk,
        bases: Bases<PendingChunk>,
    ) -> Result<PendingChunk, PublishError> {
        self.spend(sealed.bytes.len() as u64)?;
        (self.packs).add(chunk.hash, chunk.raw_len, sealed, bases)
    }

    /// Accounts for bytes that are about to be written.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), PublishError> {
        self.written += bytes;
        match self.max_bytes {
            Some(max) if self.written > max => Err(PublishError::OverPlan(max)),
            _ => Ok(()),
        }
    }

    /// Re-encodes chunks of files that are better stored standalone; they are stored later.
    pub(super) fn encode_standalone(&mut self, chunks: &[ChunkRef]) -> Result<(), PublishError> {
        let mut chunks: Vec<ChunkRef> = (chunks.iter())
            .filter(|chunk| self.find(chunk, false).is_none() && self.is_better_standalone(chunk))
            .cloned()
            .collect();
        chunks.sort_unstable_by_key(|chunk| (chunk.location.blob, chunk.location.offset));
        let cache = self.repository.loader().cache();
        let store = self.repository.store();
        let reads = (0..chunks.len()).map(|at| cache.get(store, &chunks, at, MAX_REQUEST_BYTES));
        let reads = futures_util::stream::iter(reads).buffered(FETCH_CONCURRENCY);
        let read: Vec<Bytes> = Handle::current()
            .block_on(reads.try_collect())
            .map_err(RepoError::from)?;
        let chunks = chunks.iter().zip(read);
        self.standalone = chunks
            .map(|(chunk, raw)| (chunk.hash, encode_chunk(&raw, STANDALONE_LEVEL)))
            .collect();
        Ok(())
    }

    /// Stores chunks in the given order, each base right before its first patch; returns
    /// their locations.
    pub(super) fn store(&mut self, chunks: &[ChunkRef]) -> Result<Vec<PendingChunk>, PublishError> {
        let mut wanted: HashMap<StoredAt, &ChunkRef> = HashMap::new();
        for chunk in chunks {
            self.collect_reads(chunk, false, &mut wanted);
        }
        let bytes = self.fetch(wanted.into_values().collect())?;
        let chunks = chunks.iter();
        chunks
            .map(|chunk| self.store_chunk(chunk, false, &bytes))
            .collect()
    }

    fn find(&self, chunk: &ChunkRef, as_base: bool) -> Option<&PendingChunk> {
        let chunks = if as_base {
            &self.standalone_chunks
        } else {
            &self.stored_chunks
        };
        chunks.get(&chunk.hash)
    }

    /// Collects the reads that a chunk needs.
    fn collect_reads<'c>(
        &self,
        chunk: &'c ChunkRef,
        as_base: bool,
        wanted: &mut HashMap<StoredAt, &'c ChunkRef>,
    ) {
        let standalone = !as_base && self.standalone.contains_key(&chunk.hash);
        if standalone || self.find(chunk, as_base).is_some() {
            return;
        }
        for base in chunk.bases.iter() {
            self.collect_reads(base, true, wanted);
        }
        if self.vacate.contains(&chunk.location.blob) {
            wanted.insert(stored_at(chunk), chunk);
        }
    }

    fn store_chunk(
        &mut self,
        chunk: &ChunkRef,
        as_base: bool,
        bytes: &HashMap<StoredAt, Bytes>,
    ) -> Result<PendingChunk, PublishError> {
        if let Some(stored_chunks) = self.find(chunk, as_base) {
            return Ok(stored_chunks.clone());
        }
        if !as_base && let Some(sealed) = self.standalone.remove(&chunk.hash) {
            let copy = self.add(chunk, &sealed, Bases::NONE)?;
            return Ok(self.record(copy));
        }
        let bases = (chunk.bases.iter()).map(|base| self.store_chunk(base, true, bytes));
        let bases: Bases<PendingChunk> = bases.collect::<Result<_, _>>()?;
        let copy = if self.vacate.contains(&chunk.location.blob) {
            let bytes = bytes.get(&stored_at(chunk));
            let missing = PublishError::Internal("a chunk to be copied was not read");
            let sealed = EncodedChunk {
                codec: chunk.codec,
                bytes: bytes.ok_or(missing)?.to_vec(),
            };
            self.add(chunk, &sealed, bases)?
        } else {
            self.referenced.insert(chunk.location.blob);
            PendingChunk {
                bases,
                ..stored(chunk)
            }
        };
        Ok(self.record(copy))
    }

    /// Records the location of a chunk.
    pub(super) fn record(&mut self, chunk: PendingChunk) -> PendingChunk {
        if chunk.codec != Codec::Patch {
            self.standalone_chunks.insert(chunk.hash, chunk.clone());
        }
        self.stored_chunks.insert(chunk.hash, chunk.clone());
        chunk
    }

    /// Returns the verified stored bytes of chunks, by location.
    fn fetch(&self, mut wanted: Vec<&ChunkRef>) -> Result<HashMap<StoredAt, Bytes>, PublishError> {
        wanted.sort_unstable_by_key(|chunk| (chunk.location.blob, chunk.location.offset));
        let mut requests: Vec<&[&ChunkRef]> = Vec::new();
        let mut rest = &wanted[..];
        while let Some(first) = rest.first() {
            let mut end = first.range().end();
            let near = rest.iter().take_while(|chunk| {
                let range = chunk.range();
                let fits = chunk.location.blob == first.location.blob
                    && range.start() <= end.saturating_add(MAX_GAP_BYTES)
                    && range.end().saturating_sub(first.location.offset) <= MAX_REQUEST_BYTES;
                let only = std::ptr::eq(**chunk, *first);
                if fits || only {
                    end = end.max(range.end());
                }
                fits || only
            });
            let (request, later) = rest.split_at(near.count());
            requests.push(request);
            rest = later;
        }
        let reads = requests.into_iter().map(|chunks| self.fetch_range(chunks));
        let reads = futures_util::stream::iter(reads).buffered(FETCH_CONCURRENCY);
        let read: Vec<Vec<(StoredAt, Bytes)>> = Handle::current().block_on(reads.try_collect())?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Fetches and verifies chunks with one request.
    async fn fetch_range(
        &self,
        chunks: &[&ChunkRef],
    ) -> Result<Vec<(StoredAt, Bytes)>, PublishError> {
        let mut bases: HashMap<ChunkHash, Bytes> = HashMap::new();
        let cache = self.repository.loader().cache();
        let store = self.repository.store();
        for base in chunks.iter().flat_map(|chunk| chunk.bases.iter()) {
            if let Entry::Vacant(free) = bases.entry(base.hash) {
                let table = std::slice::from_ref(base);
                let raw = cache.get(store, table, 0, 0).await;
                free.insert(raw.map_err(RepoError::from)?);
            }
        }
        let (Some(first), Some(end)) = (
            chunks.first(),
            chunks.iter().map(|chunk| chunk.range().end()).max(),
        ) else {
            return Ok(Vec::new());
        };
        let start = first.location.offset;
        let mut verified = Vec::with_capacity(chunks.len());
        let range = ReadRange::Part(ByteRange::new(start, end - start));
        let mut accept = |bytes: Bytes| {
            verified.clear();
            for chunk in chunks {
                let from = (chunk.location.offset - start) as usize;
                let stored = bytes.slice(from..from + chunk.stored_len as usize);
                let raw: Vec<Bytes> = (chunk.bases.iter())
                    .filter_map(|base| bases.get(&base.hash).cloned())
                    .collect();
                chunk
                    .open(stored.clone(), &raw)
                    .map_err(Rejected::because)?;
                verified.push((stored_at(chunk), stored));
            }
            Ok(())
        };
        store.read(first.location.blob, range, &mut accept).await?;
        Ok(verified)
    }
}
