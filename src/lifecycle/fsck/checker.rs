//! Visits everything that a head needs.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt as _;

use super::fault::{FaultKind, FaultTable, stored_end};
use super::options::{FsckOptions, FsckProgress, HistoryCheck, ReadScope};
use super::report::{FsckReport, PaidUntil};
use super::sample::ReservoirSample;
use crate::lifecycle::walk::{
    ChunkRole, Dependency, ItemPath, Walk, WalkItem, fingerprint, with_bases,
};
use crate::repo::{RepoError, Repository, Snapshot};
use walgit_format::chunk::{BlobId, ByteRange, ChunkRef, WholeBlob};
use walgit_format::head::AttachmentKind;

/// Concurrent blob length requests.
const CONCURRENCY: usize = 16;

/// An item to read.
#[derive(Clone, Debug)]
pub(super) enum CheckedItem {
    Chunk(ChunkRef, ChunkRole),
    Whole(WholeBlob),
}

impl CheckedItem {
    fn bytes(&self) -> u64 {
        match self {
            CheckedItem::Chunk(chunk, _) => u64::from(chunk.stored_len),
            CheckedItem::Whole(whole) => whole.size,
        }
    }

    fn blob(&self) -> BlobId {
        match self {
            CheckedItem::Chunk(chunk, _) => chunk.location.blob,
            CheckedItem::Whole(whole) => whole.blob,
        }
    }
}

/// Requirements for a blob.
#[derive(Clone, Copy, Debug, Default)]
struct BlobNeed {
    /// Minimum length as stored.
    len: u64,
    /// Whether a part is not read: then the blob's existence is checked instead.
    unread: bool,
}

pub(super) struct Checker<'a> {
    pub(super) repository: &'a Repository,
    pub(super) snapshot: Snapshot,
    pub(super) options: &'a FsckOptions,
    pub(super) progress: &'a dyn FsckProgress,
    pub(super) report: FsckReport,
    seen: HashSet<[u8; 16]>,
    blobs: HashMap<BlobId, BlobNeed>,
    pub(super) faults: FaultTable,
    sample: ReservoirSample<CheckedItem>,
    /// Whether all content of the history has been read.
    pub(super) content_read: bool,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        options: &'a FsckOptions,
        progress: &'a dyn FsckProgress,
    ) -> Result<Self, RepoError> {
        Ok(Checker {
            snapshot: repository.snapshot(0)?,
            repository,
            options,
            progress,
            report: FsckReport::default(),
            seen: HashSet::new(),
            blobs: HashMap::new(),
            faults: FaultTable::default(),
            sample: ReservoirSample::new(options.read.sample_size(), options.seed),
            content_read: false,
        })
    }

    /// Visits everything that is needed, and reads as much as requested.
    pub(super) async fn walk(&mut self) -> Result<(), RepoError> {
        let mut walk = Walk::of(self.repository);
        while let Some(found) = walk.next().await {
            let mut batch = Vec::new();
            for found in found {
                self.found(found, &mut batch)?;
            }
            self.read(batch).await?;
        }
        let sample = std::mem::take(&mut self.sample.picked);
        self.read(sample).await
    }

    fn found(&mut self, found: WalkItem, batch: &mut Vec<CheckedItem>) -> Result<(), RepoError> {
        match found.dependency {
            Dependency::Unreadable(why) => {
                let kind = FaultKind::from_error(&why)?;
                self.faults.node(&found.path, kind, &why);
            }
            Dependency::Opened(blob) => {
                let needed = self.blob(blob);
                needed.len = needed.len.max(1);
                needed.unread = true;
            }
            Dependency::Perhaps(_) => {}
            Dependency::Whole(whole) => {
                let mut name = [0; 16];
                name.copy_from_slice(&whole.name().as_bytes()[..16]);
                if self.seen.insert(name) {
                    let needed = self.blob(whole.blob);
                    needed.len = needed.len.max(whole.size);
                    self.report.chunks += 1;
                    self.report.bytes += whole.size;
                    self.whole(whole, batch);
                }
            }
            Dependency::Chunk(chunk, role) => {
                let archived = matches!(
                    *found.path,
                    ItemPath::Attachment(AttachmentKind::Archive | AttachmentKind::GitCommits)
                );
                let read = archived && self.content_read;
                for (chunk, role) in with_bases(&chunk, role) {
                    if self.seen.insert(fingerprint(chunk)) {
                        self.chunk(chunk, role, read, batch);
                    }
                }
            }
        }
        Ok(())
    }

    fn blob(&mut self, blob: BlobId) -> &mut BlobNeed {
        self.blobs.entry(blob).or_default()
    }

    fn chunk(
        &mut self,
        chunk: &ChunkRef,
        role: ChunkRole,
        read: bool,
        batch: &mut Vec<CheckedItem>,
    ) {
        let stored_end = stored_end(self.repository, chunk);
        let needed = self.blob(chunk.location.blob);
        needed.len = needed.len.max(stored_end);
        let decoded = role == ChunkRole::Objects && self.options.history != HistoryCheck::Stored;
        let is_node = role.is_node() || decoded;
        if is_node {
            self.report.nodes += 1;
        } else {
            self.report.chunks += 1;
            self.report.bytes += u64::from(chunk.stored_len);
        }
        let item = || CheckedItem::Chunk(chunk.clone(), role);
        if let Some(only) = &self.options.only {
            return if only.contains(&chunk.location.blob) {
                batch.push(item());
            } else {
                self.leave(chunk.location.blob, !is_node);
            };
        }
        if is_node || read {
            // The walk and the decoders read these, perhaps from the cache.
            self.report.sound += u64::from(!is_node);
            return self.queue_blob(chunk.location.blob);
        }
        let cache = self.repository.loader().cache();
        let cache = cache.view(self.repository.store().at_rest());
        if cache.contains(&chunk.hash) && cache.get_cached(chunk).is_some() {
            self.report.sound += 1;
            return self.queue_blob(chunk.location.blob);
        }
        match self.options.read {
            ReadScope::Bases if role == ChunkRole::Base => batch.push(item()),
            _ => self.read_or_leave(item(), batch),
        }
    }

    fn whole(&mut self, whole: WholeBlob, batch: &mut Vec<CheckedItem>) {
        if self.options.only.is_some() {
            return self.leave(whole.blob, true);
        }
        let is_cached = self.snapshot.cache_of(&whole).is_some_and(|cache| {
            let pieces = cache.raw_file(&whole);
            pieces.is_some_and(|it| it.iter().all(|piece| cache.get_cached(piece).is_some()))
        });
        if is_cached {
            self.report.sound += 1;
            return self.queue_blob(whole.blob);
        }
        self.read_or_leave(CheckedItem::Whole(whole), batch);
    }

    /// Reads an item that is not cached, as far as requested.
    fn read_or_leave(&mut self, item: CheckedItem, batch: &mut Vec<CheckedItem>) {
        match self.options.read {
            ReadScope::Everything => batch.push(item),
            ReadScope::Bases | ReadScope::Nothing => self.leave(item.blob(), true),
            ReadScope::Sample(_) => {
                self.queue_blob(item.blob());
                self.report.unread += u64::from(self.sample.offer(item));
            }
        }
    }

    /// Marks a part of a blob as not read.
    fn leave(&mut self, blob: BlobId, counts: bool) {
        self.report.unread += u64::from(counts);
        self.queue_blob(blob);
    }

    fn queue_blob(&mut self, blob: BlobId) {
        self.blob(blob).unread = true;
    }

    /// Reads a batch.
    async fn read(&mut self, batch: Vec<CheckedItem>) -> Result<(), RepoError> {
        self.progress
            .wanted(batch.iter().map(CheckedItem::bytes).sum());
        let (mut chunks, mut wholes) = (Vec::new(), Vec::new());
        for item in batch {
            match item {
                CheckedItem::Chunk(chunk, role) => chunks.push((chunk, role)),
                CheckedItem::Whole(whole) => wholes.push(whole),
            }
        }
        self.read_chunks(chunks).await?;
        for whole in wholes {
            // Verification reads the whole blob, whatever the range.
            let nothing = ByteRange::new(0, 0);
            match self.snapshot.read_whole(&whole, nothing, 0).await {
                Ok(_) => self.report.sound += 1,
                Err(RepoError::Sealed { .. }) => self.leave(whole.blob, true),
                Err(why) => self
                    .faults
                    .whole(&whole, FaultKind::from_error(&why)?, &why),
            }
            self.progress.read(whole.size);
        }
        Ok(())
    }

    /// Queries until when the existing blobs are paid for.
    pub(super) async fn check_lifetimes(&mut self) -> Result<(), RepoError> {
        let store = self.repository.store();
        let Some(epoch) = store.epoch().await? else {
            return Ok(());
        };
        let blobs: Vec<BlobId> = self.blobs.keys().copied().collect();
        let queries = blobs.into_iter().map(|blob| store.lifetime(blob));
        let mut lifetimes = futures_util::stream::iter(queries).buffer_unordered(CONCURRENCY);
        let mut paid: Option<PaidUntil> = None;
        // A missing blob is reported elsewhere.
        while let Some(lifetime) = lifetimes.next().await {
            let Some(lifetime) = lifetime? else { continue };
            let end = lifetime.end_epoch;
            let paid = paid.get_or_insert(PaidUntil {
                epoch,
                until: end,
                ending: 0,
            });
            paid.until = paid.until.min(end);
            paid.ending += u64::from(end <= epoch.saturating_add(self.options.margin));
        }
        self.report.paid = paid;
        Ok(())
    }

    /// Checks the existence of the blobs that are not read.
    pub(super) async fn check_existence(&mut self) -> Result<(), RepoError> {
        self.report.blobs = self.blobs.len() as u64;
        let store = self.repository.store();
        let unread: Vec<(BlobId, BlobNeed)> = (self.blobs.iter())
            .filter(|(blob, needed)| needed.unread && !self.faults.is_lost(blob))
            .map(|(blob, needed)| (*blob, *needed))
            .collect();
        let queries = (unread.into_iter())
            .map(|(blob, needed)| async move { (blob, needed, store.len(blob).await) });
        let mut lens = futures_util::stream::iter(queries).buffer_unordered(CONCURRENCY);
        while let Some((blob, needed, len)) = lens.next().await {
            match len? {
                None => self.faults.blob(blob, FaultKind::Missing, None),
                Some(len) if len < needed.len => {
                    self.faults.blob(blob, FaultKind::Short, Some(len));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
