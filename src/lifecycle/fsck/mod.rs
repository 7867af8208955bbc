//! Verification that everything a head needs exists and is intact.
//!
//! A check walks over everything the head needs ([`super::walk`]), which reads, and so
//! verifies, every node. Other data is read as far as requested ([`Read`]), in large
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

pub use affected::{Affected, MOST_TOLD};
pub use fault::{Fault, FaultKind};
pub use history::Objects;

use std::collections::{HashMap, HashSet};

use futures_util::{FutureExt as _, StreamExt as _};
use serde::Serialize;

use super::walk::{Found, Need, Place, Role, Walk, fingerprint, with_bases};
use crate::repo::{RepoError, Repository, Snapshot};
use fault::Faults;
use sample::Sample;
use walgit_format::chunk::{BlobId, ByteRange, ChunkRef, WholeBlob, private_len};
use walgit_format::head::AttachmentKind;

/// Concurrent blob length requests.
const AT_ONCE: usize = 16;

/// Data to read besides the nodes. Chunks in the cache are verified in the cache in any
/// case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
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
pub enum Depth {
    /// Not at all.
    Stored,
    /// Commits, trees and tags are decoded.
    Decoded,
    /// Everything is read, and every object must match the ID that names it.
    Hashed,
}

/// Options of a check.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data to read.
    pub read: Read,
    /// How far the history is checked.
    pub history: Depth,
    /// If set, exactly the data in these blobs, including nodes, is read from the store
    /// even if it is cached.
    pub only: Option<HashSet<BlobId>>,
    /// Random seed: the same seed selects the same sample.
    pub seed: u64,
    /// Blobs that end within this many epochs are reported.
    pub margin: u32,
}

impl Options {
    /// Options to read this much.
    pub fn reading(read: Read) -> Self {
        Options {
            read,
            history: Depth::Decoded,
            only: None,
            seed: 0,
            margin: 0,
        }
    }

    /// Options to read everything in these blobs.
    pub fn of_blobs(blobs: impl IntoIterator<Item = BlobId>) -> Self {
        Options {
            history: Depth::Stored,
            only: Some(blobs.into_iter().collect()),
            ..Options::reading(Read::Nothing)
        }
    }
}

/// Receives the progress of a check.
pub trait Watch: Sync {
    /// This many more bytes are going to be read.
    fn wanted(&self, bytes: u64);
    /// This many bytes have been read.
    fn read(&self, bytes: u64);
}

/// Ignores progress.
impl Watch for () {
    fn wanted(&self, _: u64) {}
    fn read(&self, _: u64) {}
}

/// Result of a check.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
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
    pub paid: Option<Paid>,
    /// Summary of the history; `None` if there is none, or it was not decoded.
    pub objects: Option<Objects>,
    /// Requests to the store.
    pub requests: u64,
    /// The faults.
    pub faults: Vec<Fault>,
    /// Files, directories and other items that cannot be read because of the faults; at
    /// most [`MOST_TOLD`].
    pub affected: Vec<Affected>,
    /// Total number of affected items.
    pub affected_count: u64,
}

/// Until when everything that is needed is paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Paid {
    /// The present epoch.
    pub epoch: u32,
    /// The first epoch in which a blob may expire.
    pub until: u32,
    /// Blobs that may expire within the margin.
    pub ending: u64,
}

impl Report {
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
    options: &Options,
    watch: &dyn Watch,
) -> Result<Report, RepoError> {
    let before = repository.store().health().requests;
    let mut check = Check::new(repository, options, watch)?;
    // Boxed: the compiler cannot prove that the whole future is `Send`.
    check.history().boxed().await?;
    check.walk().await?;
    check.look_for_blobs().await?;
    check.look_until_when().await?;
    let Check {
        mut report, faults, ..
    } = check;
    if !faults.is_empty() {
        (report.affected, report.affected_count) = affected::affected(repository, &faults).await;
        report.faults = faults.told();
    }
    report.requests = (repository.store().health().requests).saturating_sub(before);
    Ok(report)
}

/// An item to read.
#[derive(Clone, Debug)]
enum Item {
    Chunk(ChunkRef, Role),
    Whole(WholeBlob),
}

/// Items that are read together.
#[derive(Debug, Default)]
struct Batch {
    chunks: Vec<(ChunkRef, Role)>,
    wholes: Vec<WholeBlob>,
}

impl Batch {
    fn of(items: Vec<Item>) -> Self {
        let mut batch = Batch::default();
        items.into_iter().for_each(|item| batch.push(item));
        batch
    }

    fn push(&mut self, item: Item) {
        match item {
            Item::Chunk(chunk, role) => self.chunks.push((chunk, role)),
            Item::Whole(whole) => self.wholes.push(whole),
        }
    }

    fn bytes(&self) -> u64 {
        let chunks = self.chunks.iter().map(|(it, _)| u64::from(it.stored_len));
        chunks.chain(self.wholes.iter().map(|it| it.size)).sum()
    }
}

/// Requirements for a blob.
#[derive(Clone, Copy, Debug, Default)]
struct Needed {
    /// Minimum length as stored.
    len: u64,
    /// Whether a part is not read: then the blob's existence is checked instead.
    unread: bool,
}

struct Check<'a> {
    repository: &'a Repository,
    snapshot: Snapshot,
    options: &'a Options,
    watch: &'a dyn Watch,
    report: Report,
    seen: HashSet<[u8; 16]>,
    blobs: HashMap<BlobId, Needed>,
    faults: Faults,
    sample: Sample,
    /// Whether all content of the history has been read.
    content_read: bool,
}

impl<'a> Check<'a> {
    fn new(
        repository: &'a Repository,
        options: &'a Options,
        watch: &'a dyn Watch,
    ) -> Result<Self, RepoError> {
        Ok(Check {
            snapshot: repository.snapshot(0)?,
            repository,
            options,
            watch,
            report: Report::default(),
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
            let mut batch = Batch::default();
            for found in stretch {
                self.found(found, &mut batch)?;
            }
            self.read(batch).await?;
        }
        let sample = std::mem::take(&mut self.sample.picked);
        self.read(Batch::of(sample)).await
    }

    fn found(&mut self, found: Found, batch: &mut Batch) -> Result<(), RepoError> {
        match found.need {
            Need::Unreadable(why) => match FaultKind::of(&why) {
                Some(kind) => self.faults.node(&found.place, kind, &why),
                None => return Err(why),
            },
            Need::Opened(blob) => {
                let needed = self.blob(blob);
                needed.len = needed.len.max(1);
                needed.unread = true;
            }
            Need::Perhaps(_) => {}
            Need::Whole(whole) => {
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
            Need::Chunk(chunk, role) => {
                let archived = matches!(
                    *found.place,
                    Place::Attachment(AttachmentKind::Archive | AttachmentKind::GitCommits)
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

    fn blob(&mut self, blob: BlobId) -> &mut Needed {
        self.blobs.entry(blob).or_default()
    }

    fn chunk(&mut self, chunk: &ChunkRef, role: Role, read: bool, batch: &mut Batch) {
        let end = chunk.range().end();
        let stored = match self.repository.key() {
            Some(_) => private_len(end).unwrap_or(u64::MAX),
            None => end,
        };
        let needed = self.blob(chunk.location.blob);
        needed.len = needed.len.max(stored);
        let is_node = match role {
            Role::Directory | Role::List => true,
            Role::Objects => self.options.history != Depth::Stored,
            Role::Content | Role::Base | Role::Attachment => false,
        };
        let item = || Item::Chunk(chunk.clone(), role);
        match is_node {
            true => self.report.nodes += 1,
            false => {
                self.report.chunks += 1;
                self.report.bytes += u64::from(chunk.stored_len);
            }
        }
        if let Some(only) = &self.options.only {
            return match only.contains(&chunk.location.blob) {
                true => batch.push(item()),
                false => self.leave(chunk.location.blob, !is_node),
            };
        }
        if is_node || read {
            // The walk and the decoders read these, perhaps from the cache.
            self.report.sound += u64::from(!is_node);
            self.look_for(chunk.location.blob);
            return;
        }
        let cache = self.repository.loader().cache();
        let cache = cache.view(self.repository.store().at_rest());
        if cache.contains(&chunk.hash) && cache.get_cached(chunk).is_some() {
            self.report.sound += 1;
            return self.look_for(chunk.location.blob);
        }
        match self.options.read {
            Read::Everything => batch.push(item()),
            Read::Bases if role == Role::Base => batch.push(item()),
            Read::Bases | Read::Nothing => self.leave(chunk.location.blob, true),
            Read::Sample(_) => self.offer(item()),
        }
    }

    fn whole(&mut self, whole: WholeBlob, batch: &mut Batch) {
        if self.options.only.is_some() {
            return self.leave(whole.blob, true);
        }
        let here = self.snapshot.cache_of(&whole).is_some_and(|cache| {
            let pieces = cache.raw_file(&whole);
            pieces.is_some_and(|it| it.iter().all(|piece| cache.get_cached(piece).is_some()))
        });
        if here {
            self.report.sound += 1;
            return self.look_for(whole.blob);
        }
        match self.options.read {
            Read::Everything => batch.push(Item::Whole(whole)),
            Read::Bases | Read::Nothing => self.leave(whole.blob, true),
            Read::Sample(_) => self.offer(Item::Whole(whole)),
        }
    }

    /// Offers an item to the sample.
    fn offer(&mut self, item: Item) {
        let blob = match &item {
            Item::Chunk(chunk, _) => chunk.location.blob,
            Item::Whole(whole) => whole.blob,
        };
        self.look_for(blob);
        if self.sample.offer(item) {
            self.report.unread += 1;
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
    async fn read(&mut self, batch: Batch) -> Result<(), RepoError> {
        self.watch.wanted(batch.bytes());
        self.read_chunks(batch.chunks).await?;
        for whole in batch.wholes {
            // Verification reads the whole blob, whatever the range.
            let nothing = ByteRange::new(0, 0);
            match self.snapshot.read_whole(&whole, nothing, 0).await {
                Ok(_) => self.report.sound += 1,
                Err(RepoError::Sealed { .. }) => self.leave(whole.blob, true),
                Err(why) => match FaultKind::of(&why) {
                    Some(kind) => self.faults.whole(&whole, kind, &why),
                    None => return Err(why),
                },
            }
            self.watch.read(whole.size);
        }
        Ok(())
    }

    /// Queries until when the existing blobs are paid for.
    async fn look_until_when(&mut self) -> Result<(), RepoError> {
        let store = self.repository.store();
        let Some(epoch) = store.epoch().await? else {
            return Ok(());
        };
        let blobs: Vec<BlobId> = self.blobs.keys().copied().collect();
        let asked = blobs.into_iter().map(|blob| store.lifetime(blob));
        let mut answers = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
        let mut paid: Option<Paid> = None;
        while let Some(answer) = answers.next().await {
            // A missing blob is reported elsewhere.
            let Some(lifetime) = answer? else { continue };
            let end = lifetime.end_epoch;
            let paid = paid.get_or_insert(Paid {
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
    async fn look_for_blobs(&mut self) -> Result<(), RepoError> {
        self.report.blobs = self.blobs.len() as u64;
        let store = self.repository.store();
        let asked = (self.blobs.iter())
            .filter(|(blob, needed)| needed.unread && !self.faults.is_lost(blob))
            .map(|(blob, needed)| async move { (*blob, *needed, store.len(*blob).await) });
        let asked: Vec<_> = asked.collect();
        let mut answers = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
        let mut found = Vec::new();
        while let Some((blob, needed, answer)) = answers.next().await {
            match answer? {
                None => found.push((blob, FaultKind::Missing, None)),
                Some(len) if len < needed.len => found.push((blob, FaultKind::Short, Some(len))),
                Some(_) => {}
            }
        }
        drop(answers);
        for (blob, kind, len) in found {
            self.faults.blob(blob, kind, len);
        }
        Ok(())
    }
}
