//! Chunks go from blob to blob as they are stored: read in long stretches,
//! opened to prove that they are right, and laid down in the order of the tree.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;

use super::super::PublishError;
use super::super::packs::Packs;
use super::super::placed::Placed;
use crate::repo::{RepoError, Repository};
use walgit_format::chunk::{Bases, BlobId, ByteRange, ChunkHash, ChunkRef, Codec, Sealed, seal};
use walrus_client::{Extent, Rejected};

/// Stored bytes that are in memory at a time, and plain ones of what they become
/// and are decoded with.
const BATCH: u64 = 16 << 20;
const PLAIN: u64 = 48 << 20;
/// Stored bytes that one request asks for, and those between two chunks that are
/// asked for in vain rather than in another request.
const STRETCH: u64 = 4 << 20;
const GAP: u64 = 64 << 10;
/// The zstd level for what was a patch and is stored whole.
const WHOLE_LEVEL: i32 = 9;
/// Requests at once.
const AT_ONCE: usize = 8;

/// Where a chunk lies, and what it is: a reference is a claim, and two may claim
/// different things of one place.
type At = (BlobId, u64, ChunkHash);

fn at(chunk: &ChunkRef) -> At {
    (chunk.at.blob, chunk.at.offset, chunk.hash)
}

/// How many of these make a batch: at least one, if there is one.
pub(super) fn batch<'c>(items: impl Iterator<Item = &'c [ChunkRef]>) -> usize {
    let (mut stored, mut plain) = (0, 0);
    let fits = items.take_while(|chunks| {
        let first = stored == 0;
        for chunk in *chunks {
            let bases = chunk.bases.iter().map(|base| u64::from(base.raw_len));
            stored += u64::from(chunk.at.stored_len);
            plain += u64::from(chunk.raw_len) + bases.sum::<u64>();
        }
        stored += 1;
        first || (stored <= BATCH && plain <= PLAIN)
    });
    fits.count()
}

/// Copies chunks of one head.
pub(super) struct Copying<'a> {
    pub(super) repository: &'a Repository,
    leave: &'a HashSet<BlobId>,
    pub(super) packs: &'a mut Packs,
    /// What has its place, in whatever form.
    placed: HashMap<ChunkHash, Placed>,
    /// What may be a base: no patch.
    whole: HashMap<ChunkHash, Placed>,
    kept: BTreeSet<BlobId>,
    /// Content of the trees: what a patch may be against.
    in_trees: HashSet<ChunkHash>,
    /// What is to be placed whole, encoded anew.
    made_whole: HashMap<ChunkHash, Sealed>,
    /// Bytes that were written, and may be.
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

    /// Says what lies in the trees, so that it is read in any case.
    pub(super) fn set_in_trees(&mut self, hashes: HashSet<ChunkHash>) {
        self.in_trees = hashes;
    }

    /// Whether a chunk of a file is better off whole: what it is a patch against
    /// would have to be copied and is needed for nothing else, and who reads the
    /// file would fetch both. Where that stays in its blob, so does the patch a
    /// patch: what is written is to follow what is scattered.
    fn is_better_whole(&self, chunk: &ChunkRef) -> bool {
        let lost = |base: &ChunkRef| {
            self.leave.contains(&base.at.blob) && !self.in_trees.contains(&base.hash)
        };
        chunk.at.codec == Codec::Patch && chunk.bases.iter().any(lost)
    }

    /// Stores a chunk, if that is not more than may be written.
    fn add(
        &mut self,
        chunk: &ChunkRef,
        sealed: &Sealed,
        bases: Bases<Placed>,
    ) -> Result<Placed, PublishError> {
        self.spend(sealed.bytes.len() as u64)?;
        (self.packs).add(chunk.hash, chunk.raw_len, sealed, bases)
    }

    /// Counts bytes that are about to be written.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), PublishError> {
        self.written += bytes;
        match self.most.filter(|most| self.written > *most) {
            Some(most) => Err(PublishError::OverPlan(most)),
            None => Ok(()),
        }
    }

    /// Encodes chunks of files anew that are better off whole, to be placed at their
    /// turn.
    pub(super) fn make_whole(&mut self, chunks: &[ChunkRef]) -> Result<(), PublishError> {
        let mut chunks: Vec<ChunkRef> = (chunks.iter())
            .filter(|chunk| self.find(chunk, false).is_none() && self.is_better_whole(chunk))
            .cloned()
            .collect();
        chunks.sort_unstable_by_key(|chunk| (chunk.at.blob, chunk.at.offset));
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

    /// The longest blob, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.packs.limit()
    }

    /// Blobs that are referred to as before.
    pub(super) fn kept(&self) -> Vec<BlobId> {
        self.kept.iter().copied().collect()
    }

    /// Gives chunks their places, in this order, each base right before what
    /// needs it; those places.
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

    /// Notes what has to be read for a chunk.
    fn want<'c>(&self, chunk: &'c ChunkRef, as_base: bool, wanted: &mut HashMap<At, &'c ChunkRef>) {
        let whole = !as_base && self.made_whole.contains_key(&chunk.hash);
        if whole || self.find(chunk, as_base).is_some() {
            return;
        }
        for base in chunk.bases.iter() {
            self.want(base, true, wanted);
        }
        if self.leave.contains(&chunk.at.blob) {
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
        let placed = match self.leave.contains(&chunk.at.blob) {
            true => {
                let bytes = stored.get(&at(chunk));
                let no = PublishError::Internal("a chunk to be copied was not read");
                let sealed = Sealed {
                    codec: chunk.at.codec,
                    bytes: bytes.ok_or(no)?.to_vec(),
                };
                self.add(chunk, &sealed, bases)?
            }
            false => {
                self.kept.insert(chunk.at.blob);
                Placed {
                    bases,
                    ..Placed::known(chunk)
                }
            }
        };
        Ok(self.note(placed))
    }

    /// Remembers the place of a chunk.
    pub(super) fn note(&mut self, placed: Placed) -> Placed {
        if placed.codec != Codec::Patch {
            self.whole.insert(placed.hash, placed.clone());
        }
        self.placed.insert(placed.hash, placed.clone());
        placed
    }

    /// The stored bytes of chunks, proven to be theirs, by where they lie.
    fn fetch(&self, mut wanted: Vec<&ChunkRef>) -> Result<HashMap<At, Bytes>, PublishError> {
        wanted.sort_unstable_by_key(|chunk| (chunk.at.blob, chunk.at.offset));
        let mut stretches: Vec<&[&ChunkRef]> = Vec::new();
        let mut rest = &wanted[..];
        while let Some(first) = rest.first() {
            let mut end = first.at.range().end();
            let near = rest.iter().take_while(|chunk| {
                let range = chunk.at.range();
                let fits = chunk.at.blob == first.at.blob
                    && range.start() <= end.saturating_add(GAP)
                    && range.end().saturating_sub(first.at.offset) <= STRETCH;
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
            chunks.iter().map(|chunk| chunk.at.range().end()).max(),
        ) else {
            return Ok(Vec::new());
        };
        let start = first.at.offset;
        let mut proven = Vec::with_capacity(chunks.len());
        let range = Extent::Part(ByteRange::new(start, end - start));
        let mut accept = |bytes: Bytes| {
            proven.clear();
            for chunk in chunks {
                let from = (chunk.at.offset - start) as usize;
                let stored = bytes.slice(from..from + chunk.at.stored_len as usize);
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
        store.read(first.at.blob, range, &mut accept).await?;
        Ok(proven)
    }
}
