//! Verification that everything a head needs exists and is intact.
//!
//! A check walks over everything the head needs ([`super::walk`]), which reads, and so
//! verifies, every node. Other data is read as far as requested ([`ReadScope`]), in large
//! ranges ([`reading`]); for blobs that are not read, only existence and length are
//! checked. Each problem is a [`Fault`] of a blob, a chunk or a node. Only if there are
//! faults, a second walk over the same nodes names the affected files ([`affected`]); so
//! a check of a sound repository stores no paths.
//!
//! The history is decoded as well: its commits, trees and tags, and everything they refer
//! to ([`history`]). On request, all objects are built as in an export and must match the
//! IDs that name them, and so must the trees of mounts ([`shown`]).
//!
//! An error that says nothing about the repository, such as a network outage, is not a
//! fault but ends the check.

mod affected;
mod fault;
mod history;
mod reading;
mod sample;
mod shown;

pub use affected::{Affected, MAX_REPORTED};
pub use fault::{Fault, FaultKind};
pub use history::HistorySummary;

use std::collections::{HashMap, HashSet};

use futures_util::{FutureExt as _, StreamExt as _};
use serde::Serialize;

use super::walk::{ChunkRole, Dependency, ItemPath, Walk, WalkItem, fingerprint, with_bases};
use crate::repo::{RepoError, Repository, Snapshot};
use fault::Faults;
use sample::Sample;
use walgit_format::chunk::{BlobId, ByteRange, ChunkRef, WholeBlob, private_len};
use walgit_format::head::AttachmentKind;

/// Concurrent blob length requests.
const CONCURRENCY: usize = 16;

/// Data to read besides the nodes. Chunks in the cache are verified in the cache in any
/// case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadScope {
    /// Nothing else.
    Nothing,
    /// Chunks that others are decoded with.
    Bases,
    /// This number of randomly selected chunks and files.
    Sample(usize),
    /// Everything.
    Everything,
}

/// How far a history is checked as git objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryCheck {
    /// Not at all.
    Stored,
    /// Commits, trees and tags are decoded.
    Decoded,
    /// Everything is read, and every object must match the ID that names it.
    Hashed,
}

/// Options of a check.
#[derive(Clone, Debug)]
pub struct FsckOptions {
    /// The data to read.
    pub read: ReadScope,
    /// How far the history is checked.
    pub history: HistoryCheck,
    /// If set, exactly the data in these blobs, including nodes, is read from the store
    /// even if it is cached.
    pub only: Option<HashSet<BlobId>>,
    /// Random seed: the same seed selects the same sample.
    pub seed: u64,
    /// Blobs that end within this many epochs are reported.
    pub margin: u32,
}

impl FsckOptions {
    /// Options to read this much.
    pub fn reading(read: ReadScope) -> Self {
        FsckOptions {
            read,
            history: HistoryCheck::Decoded,
            only: None,
            seed: 0,
            margin: 0,
        }
    }

    /// Options to read everything in these blobs.
    pub fn of_blobs(blobs: impl IntoIterator<Item = BlobId>) -> Self {
        FsckOptions {
            history: HistoryCheck::Stored,
            only: Some(blobs.into_iter().collect()),
            ..FsckOptions::reading(ReadScope::Nothing)
        }
    }
}

/// Receives the progress of a check.
pub trait FsckProgress: Sync {
    /// This many more bytes are going to be read.
    fn wanted(&self, bytes: u64);
    /// This many bytes have been read.
    fn read(&self, bytes: u64);
}

/// Ignores progress.
impl FsckProgress for () {
    fn wanted(&self, _: u64) {}
    fn read(&self, _: u64) {}
}

/// Result of a check.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FsckReport {
    /// Distinct blobs that are needed.
    pub blobs: u64,
    /// Nodes: directories and lists, and commits, trees and tags of the history if that
    /// is decoded. All of them are read.
    pub nodes: u64,
    /// Distinct chunks other than nodes, and files that are blobs.
    pub chunks: u64,
    /// Stored bytes of these chunks.
    pub bytes: u64,
    /// Chunks that were read and have the right hash.
    pub sound: u64,
    /// Chunks for which only the existence of the blob was checked.
    pub unread: u64,
    /// The present epoch, and the first in which a needed blob may expire; `None` if the
    /// store does not report epochs.
    pub paid: Option<PaidUntil>,
    /// Summary of the history; `None` if there is none, or it was not decoded.
    pub objects: Option<HistorySummary>,
    /// Requests to the store.
    pub requests: u64,
    /// The faults.
    pub faults: Vec<Fault>,
    /// Files, directories and other items that cannot be read because of the faults; at
    /// most [`MAX_REPORTED`].
    pub affected: Vec<Affected>,
    /// Total number of affected items.
    pub affected_count: u64,
}

/// Until when everything that is needed is paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PaidUntil {
    /// The present epoch.
    pub epoch: u32,
    /// The first epoch in which a blob may expire.
    pub until: u32,
    /// Blobs that may expire within the margin.
    pub ending: u64,
}

impl FsckReport {
    /// Whether there are no faults.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Checks everything that a head needs.
///
/// # Errors
/// When the check cannot be completed, for example because a store does not answer.
/// Faults of the repository are part of the report.
pub async fn check(
    repository: &Repository,
    options: &FsckOptions,
    progress: &dyn FsckProgress,
) -> Result<FsckReport, RepoError> {
    let before = repository.store().health().requests;
    let mut check = Checker::new(repository, options, progress)?;
    // Boxed: the compiler cannot prove that the whole future is `Send`.
    check.history().boxed().await?;
    check.walk().await?;
    check.check_existence().await?;
    check.check_lifetimes().await?;
    let Checker {
        mut report, faults, ..
    } = check;
    if !faults.is_empty() {
        (report.affected, report.affected_count) = affected::affected(repository, &faults).await;
        report.faults = faults.into_report();
    }
    report.requests = (repository.store().health().requests).saturating_sub(before);
    Ok(report)
}

/// An item to read.
#[derive(Clone, Debug)]
enum Item {
    Chunk(ChunkRef, ChunkRole),
    Whole(WholeBlob),
}

impl Item {
    fn bytes(&self) -> u64 {
        match self {
            Item::Chunk(chunk, _) => u64::from(chunk.stored_len),
            Item::Whole(whole) => whole.size,
        }
    }

    fn blob(&self) -> BlobId {
        match self {
            Item::Chunk(chunk, _) => chunk.location.blob,
            Item::Whole(whole) => whole.blob,
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

struct Checker<'a> {
    repository: &'a Repository,
    snapshot: Snapshot,
    options: &'a FsckOptions,
    progress: &'a dyn FsckProgress,
    report: FsckReport,
    seen: HashSet<[u8; 16]>,
    blobs: HashMap<BlobId, BlobNeed>,
    faults: Faults,
    sample: Sample,
    /// Whether all content of the history has been read.
    content_read: bool,
}

impl<'a> Checker<'a> {
    fn new(
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
            faults: Faults::default(),
            sample: Sample::new(options),
            content_read: false,
        })
    }

    /// Visits everything that is needed, and reads as much as requested.
    async fn walk(&mut self) -> Result<(), RepoError> {
        let mut walk = Walk::of(self.repository);
        while let Some(stretch) = walk.next().await {
            let mut batch = Vec::new();
            for found in stretch {
                self.found(found, &mut batch)?;
            }
            self.read(batch).await?;
        }
        let sample = std::mem::take(&mut self.sample.picked);
        self.read(sample).await
    }

    fn found(&mut self, found: WalkItem, batch: &mut Vec<Item>) -> Result<(), RepoError> {
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

    fn chunk(&mut self, chunk: &ChunkRef, role: ChunkRole, read: bool, batch: &mut Vec<Item>) {
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
        let item = || Item::Chunk(chunk.clone(), role);
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
            return self.look_for(chunk.location.blob);
        }
        let cache = self.repository.loader().cache();
        let cache = cache.view(self.repository.store().at_rest());
        if cache.contains(&chunk.hash) && cache.get_cached(chunk).is_some() {
            self.report.sound += 1;
            return self.look_for(chunk.location.blob);
        }
        match self.options.read {
            ReadScope::Bases if role == ChunkRole::Base => batch.push(item()),
            _ => self.read_or_leave(item(), batch),
        }
    }

    fn whole(&mut self, whole: WholeBlob, batch: &mut Vec<Item>) {
        if self.options.only.is_some() {
            return self.leave(whole.blob, true);
        }
        let is_cached = self.snapshot.cache_of(&whole).is_some_and(|cache| {
            let pieces = cache.raw_file(&whole);
            pieces.is_some_and(|it| it.iter().all(|piece| cache.get_cached(piece).is_some()))
        });
        if is_cached {
            self.report.sound += 1;
            return self.look_for(whole.blob);
        }
        self.read_or_leave(Item::Whole(whole), batch);
    }

    /// Reads an item that is not cached, as far as requested.
    fn read_or_leave(&mut self, item: Item, batch: &mut Vec<Item>) {
        match self.options.read {
            ReadScope::Everything => batch.push(item),
            ReadScope::Bases | ReadScope::Nothing => self.leave(item.blob(), true),
            ReadScope::Sample(_) => {
                self.look_for(item.blob());
                self.report.unread += u64::from(self.sample.offer(item));
            }
        }
    }

    /// Marks a part of a blob as not read.
    fn leave(&mut self, blob: BlobId, counts: bool) {
        self.report.unread += u64::from(counts);
        self.look_for(blob);
    }

    fn look_for(&mut self, blob: BlobId) {
        self.blob(blob).unread = true;
    }

    /// Reads a batch.
    async fn read(&mut self, batch: Vec<Item>) -> Result<(), RepoError> {
        self.progress.wanted(batch.iter().map(Item::bytes).sum());
        let (mut chunks, mut wholes) = (Vec::new(), Vec::new());
        for item in batch {
            match item {
                Item::Chunk(chunk, role) => chunks.push((chunk, role)),
                Item::Whole(whole) => wholes.push(whole),
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
    async fn check_lifetimes(&mut self) -> Result<(), RepoError> {
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
    async fn check_existence(&mut self) -> Result<(), RepoError> {
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

/// Returns the end of a chunk in its blob as stored.
fn stored_end(repository: &Repository, chunk: &ChunkRef) -> u64 {
    let end = chunk.range().end();
    match repository.key() {
        Some(_) => private_len(end).unwrap_or(u64::MAX),
        None => end,
    }
}
