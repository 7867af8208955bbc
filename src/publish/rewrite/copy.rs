//! Copying of chunks between blobs in stored form: reads long ranges, decodes the chunks
//! to verify them, and writes them in tree order.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;

use super::super::PublishError;
use super::super::packs::Packs;
use super::super::placed::{self, Placed};
use crate::repo::{RepoError, Repository};
use walgit_format::chunk::{Bases, BlobId, ByteRange, ChunkHash, ChunkRef, Codec, Sealed, seal};
use walrus_client::{Extent, Rejected};

/// Maximum stored bytes in memory, and maximum plain bytes including bases.
const BATCH: u64 = 16 << 20;
const PLAIN: u64 = 48 << 20;
/// Maximum bytes per request, and maximum gap between two chunks of a request.
const STRETCH: u64 = 4 << 20;
const GAP: u64 = 64 << 10;
/// zstd level for patches that are converted to whole chunks.
const WHOLE_LEVEL: i32 = 9;
/// Maximum concurrent requests.
const AT_ONCE: usize = 8;

/// Location and hash of a chunk: a reference is only a claim, and two may claim different
/// chunks at one location.
type At = (BlobId, u64, ChunkHash);

fn at(chunk: &ChunkRef) -> At {
    (chunk.location.blob, chunk.location.offset, chunk.hash)
}

/// Number of leading items that form a batch; at least one, if there is any.
pub(super) fn batch<'c>(items: impl Iterator<Item = &'c [ChunkRef]>) -> usize {
    let (mut stored, mut plain) = (0, 0);
    let fits = items.take_while(|chunks| {
        let first = stored == 0;
        for chunk in *chunks {
            let bases = chunk.bases.iter().map(|base| u64::from(base.raw_len));
            stored += u64::from(chunk.stored_len);
            plain += u64::from(chunk.raw_len) + bases.sum::<u64>();
        }
        stored += 1;
        first || (stored <= BATCH && plain <= PLAIN)
    });
    fits.count()
}

/// Copies the chunks of one head.
pub(super) struct Copying<'a> {
    pub(super) repository: &'a Repository,
    leave: &'a HashSet<BlobId>,
    pub(super) packs: &'a mut Packs,
    /// Placed chunks, in any form.
    placed: HashMap<ChunkHash, Placed>,
    /// Placed chunks that can serve as bases: not patches.
    whole: HashMap<ChunkHash, Placed>,
    kept: BTreeSet<BlobId>,
    /// Content of the trees, which bases should come from.
    in_trees: HashSet<ChunkHash>,
    /// Chunks to place whole, recompressed.
    made_whole: HashMap<ChunkHash, Sealed>,
    /// Bytes written, and their limit.
    written: u64,
    most: Option<u64>,
}

impl<'a> Copying<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        leave: &'a HashSet<BlobId>,
        packs: &'a mut Packs,
        most: Option<u64>,
    ) -> Self {
        Copying {
            repository,
            leave,
            packs,
            placed: HashMap::new(),
            whole: HashMap::new(),
            kept: BTreeSet::new(),
            in_trees: HashSet::new(),
            made_whole: HashMap::new(),
            written: 0,
            most,
        }
    }

    /// Sets the content of the trees, which readers fetch in any case.
    pub(super) fn set_in_trees(&mut self, hashes: HashSet<ChunkHash>) {
        self.in_trees = hashes;
    }

    /// Whether a chunk of a file is better stored whole: its base would have to be copied
    /// only for this chunk, and readers of the file would fetch both. If the base stays
    /// in its blob, the patch stays a patch, so that the bytes written are proportional
    /// to those vacated.
    fn is_better_whole(&self, chunk: &ChunkRef) -> bool {
        let lost = |base: &ChunkRef| {
            self.leave.contains(&base.location.blob) && !self.in_trees.contains(&base.hash)
        };
        chunk.codec == Codec::Patch && chunk.bases.iter().any(lost)
    }

    /// Stores a chunk, within the limit of bytes.
    fn add(
        &mut self,
        chunk: &ChunkRef,
        sealed: &Sealed,
        bases: Bases<Placed>,
    ) -> Result<Placed, PublishError> {
        self.spend(sealed.bytes.len() as u64)?;
        (self.packs).add(chunk.hash, chunk.raw_len, sealed, bases)
    }

    /// Accounts for bytes that are about to be written.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), PublishError> {
        self.written += bytes;
        match self.most.filter(|most| self.written > *most) {
            Some(most) => Err(PublishError::OverPlan(most)),
            None => Ok(()),
        }
    }

    /// Re-encodes chunks of files that are better stored whole; they are placed later.
    pub(super) fn make_whole(&mut self, chunks: &[ChunkRef]) -> Result<(), PublishError> {
        let mut chunks: Vec<ChunkRef> = (chunks.iter())
            .filter(|chunk| self.find(chunk, false).is_none() && self.is_better_whole(chunk))
            .cloned()
            .collect();
        chunks.sort_unstable_by_key(|chunk| (chunk.location.blob, chunk.location.offset));
        let cache = self.repository.loader().cache();
        let store = self.repository.store();
        let reads = (0..chunks.len()).map(|at| cache.get(store, &chunks, at, STRETCH));
        let reads = futures_util::stream::iter(reads).buffered(AT_ONCE);
        let read: Vec<Bytes> = Handle::current()
            .block_on(reads.try_collect())
            .map_err(RepoError::from)?;
        let made = chunks.iter().zip(read);
        self.made_whole = made
            .map(|(chunk, raw)| (chunk.hash, seal(&raw, WHOLE_LEVEL)))
            .collect();
        Ok(())
    }

    /// Maximum blob size, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.packs.limit()
    }

    /// Blobs that are still referred to.
    pub(super) fn kept(&self) -> Vec<BlobId> {
        self.kept.iter().copied().collect()
    }

    /// Places chunks in the given order, each base right before its first patch; returns
    /// their locations.
    pub(super) fn place(&mut self, chunks: &[ChunkRef]) -> Result<Vec<Placed>, PublishError> {
        let mut wanted: HashMap<At, &ChunkRef> = HashMap::new();
        for chunk in chunks {
            self.want(chunk, false, &mut wanted);
        }
        let stored = self.fetch(wanted.into_values().collect())?;
        chunks
            .iter()
            .map(|chunk| self.put(chunk, false, &stored))
            .collect()
    }

    fn find(&self, chunk: &ChunkRef, as_base: bool) -> Option<&Placed> {
        match as_base {
            true => self.whole.get(&chunk.hash),
            false => self.placed.get(&chunk.hash),
        }
    }

    /// Collects the reads that a chunk needs.
    fn want<'c>(&self, chunk: &'c ChunkRef, as_base: bool, wanted: &mut HashMap<At, &'c ChunkRef>) {
        let whole = !as_base && self.made_whole.contains_key(&chunk.hash);
        if whole || self.find(chunk, as_base).is_some() {
            return;
        }
        for base in chunk.bases.iter() {
            self.want(base, true, wanted);
        }
        if self.leave.contains(&chunk.location.blob) {
            wanted.insert(at(chunk), chunk);
        }
    }

    fn put(
        &mut self,
        chunk: &ChunkRef,
        as_base: bool,
        stored: &HashMap<At, Bytes>,
    ) -> Result<Placed, PublishError> {
        if let Some(placed) = self.find(chunk, as_base) {
            return Ok(placed.clone());
        }
        if !as_base && let Some(sealed) = self.made_whole.remove(&chunk.hash) {
            let placed = self.add(chunk, &sealed, Bases::NONE)?;
            return Ok(self.note(placed));
        }
        let bases = (chunk.bases.iter()).map(|base| self.put(base, true, stored));
        let bases: Bases<Placed> = bases.collect::<Result<Vec<_>, _>>()?.into();
        let placed = match self.leave.contains(&chunk.location.blob) {
            true => {
                let bytes = stored.get(&at(chunk));
                let no = PublishError::Internal("a chunk to be copied was not read");
                let sealed = Sealed {
                    codec: chunk.codec,
                    bytes: bytes.ok_or(no)?.to_vec(),
                };
                self.add(chunk, &sealed, bases)?
            }
            false => {
                self.kept.insert(chunk.location.blob);
                Placed {
                    bases,
                    ..placed::known(chunk)
                }
            }
        };
        Ok(self.note(placed))
    }

    /// Records the location of a chunk.
    pub(super) fn note(&mut self, placed: Placed) -> Placed {
        if placed.codec != Codec::Patch {
            self.whole.insert(placed.hash, placed.clone());
        }
        self.placed.insert(placed.hash, placed.clone());
        placed
    }

    /// Returns the verified stored bytes of chunks, by location.
    fn fetch(&self, mut wanted: Vec<&ChunkRef>) -> Result<HashMap<At, Bytes>, PublishError> {
        wanted.sort_unstable_by_key(|chunk| (chunk.location.blob, chunk.location.offset));
        let mut stretches: Vec<&[&ChunkRef]> = Vec::new();
        let mut rest = &wanted[..];
        while let Some(first) = rest.first() {
            let mut end = first.range().end();
            let near = rest.iter().take_while(|chunk| {
                let range = chunk.range();
                let fits = chunk.location.blob == first.location.blob
                    && range.start() <= end.saturating_add(GAP)
                    && range.end().saturating_sub(first.location.offset) <= STRETCH;
                let only = std::ptr::eq(**chunk, *first);
                if fits || only {
                    end = end.max(range.end());
                }
                fits || only
            });
            let (stretch, later) = rest.split_at(near.count());
            stretches.push(stretch);
            rest = later;
        }
        let reads = stretches.into_iter().map(|stretch| self.stretch(stretch));
        let reads = futures_util::stream::iter(reads).buffered(AT_ONCE);
        let read: Vec<Vec<(At, Bytes)>> = Handle::current().block_on(reads.try_collect())?;
        Ok(read.into_iter().flatten().collect())
    }

    async fn stretch(&self, chunks: &[&ChunkRef]) -> Result<Vec<(At, Bytes)>, PublishError> {
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
        let mut proven = Vec::with_capacity(chunks.len());
        let range = Extent::Part(ByteRange::new(start, end - start));
        let mut accept = |bytes: Bytes| {
            proven.clear();
            for chunk in chunks {
                let from = (chunk.location.offset - start) as usize;
                let stored = bytes.slice(from..from + chunk.stored_len as usize);
                let raw: Vec<Bytes> = (chunk.bases.iter())
                    .filter_map(|base| bases.get(&base.hash).cloned())
                    .collect();
                chunk
                    .open(stored.clone(), &raw)
                    .map_err(Rejected::because)?;
                proven.push((at(chunk), stored));
            }
            Ok(())
        };
        store.read(first.location.blob, range, &mut accept).await?;
        Ok(proven)
    }
}
