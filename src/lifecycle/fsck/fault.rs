//! Faults in the data that a head needs.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;

use crate::cache::CacheError;
use crate::lifecycle::walk::{ChunkRole, ItemPath, fingerprint};
use crate::repo::{RepoError, Repository};
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, WholeBlob, private_len};
use walrus_client::StoreError;

/// Maximum number of affected items, and of faulty objects, to name.
pub const MAX_REPORTED: usize = 1000;

/// Kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The blob is not stored.
    Missing,
    /// The blob is too short.
    Short,
    /// The bytes have a wrong hash, from every gateway.
    Wrong,
    /// The bytes are as published, but no reader accepts them.
    Malformed,
    /// It refers to a git object that is not in the history.
    Incomplete,
    /// Its git ID differs from the one that names it.
    Altered,
}

impl FaultKind {
    /// Returns the fault that an error implies for the repository; `None` if it implies
    /// none.
    pub fn of(error: &RepoError) -> Option<Self> {
        match error {
            RepoError::Store(error) | RepoError::Cache(CacheError::Store(error)) => {
                FaultKind::of_store(error)
            }
            RepoError::NotARepository { .. }
            | RepoError::Malformed { .. }
            | RepoError::Subtree { .. }
            | RepoError::TooLarge(_)
            | RepoError::TooDeep(_) => Some(FaultKind::Malformed),
            _ => None,
        }
    }

    /// Returns the fault that an error implies for the repository; the error itself if it
    /// implies none.
    pub(super) fn from_error(error: &RepoError) -> Result<Self, RepoError> {
        FaultKind::of(error).ok_or_else(|| error.clone())
    }

    /// Like [`FaultKind::of`], for an error of a store.
    pub fn of_store(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::NotFound { .. } => Some(FaultKind::Missing),
            StoreError::OutOfRange { .. } => Some(FaultKind::Short),
            StoreError::Corrupt { .. } => Some(FaultKind::Wrong),
            _ => None,
        }
    }

    /// Returns what the user can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            FaultKind::Missing | FaultKind::Short => {
                "publish again with --fresh, which uploads everything"
            }
            FaultKind::Wrong => {
                "use another aggregator (--aggregator URL); if it returns the same bytes, publish \
                 again with --fresh"
            }
            FaultKind::Malformed => {
                "update walgit-fs; if that does not help, publish again with --fresh"
            }
            FaultKind::Incomplete | FaultKind::Altered => {
                "publish again with --fresh, from a repository in which `git fsck` finds no error"
            }
        }
    }

    /// Describes the kind.
    pub fn describe(self) -> &'static str {
        match self {
            FaultKind::Missing => "missing",
            FaultKind::Short => "truncated",
            FaultKind::Wrong => "wrong",
            FaultKind::Malformed => "malformed",
            FaultKind::Incomplete => "incomplete",
            FaultKind::Altered => "altered",
        }
    }
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The kind.
    pub kind: FaultKind,
    /// The faulty object: a blob, a chunk, a node.
    pub what: String,
    /// The evidence.
    pub why: String,
    /// What the user can do about it.
    pub remedy: &'static str,
}

/// A faulty chunk.
#[derive(Clone, Debug)]
struct BadChunk {
    chunk: ChunkRef,
    role: ChunkRole,
    kind: FaultKind,
    why: String,
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct FaultTable {
    /// Faulty blobs, with their length if they exist.
    blobs: BTreeMap<BlobId, (FaultKind, Option<u64>)>,
    chunks: HashMap<[u8; 16], BadChunk>,
    wholes: HashMap<ChunkHash, (BlobId, FaultKind, String)>,
    nodes: Vec<(Arc<ItemPath>, FaultKind, String)>,
    /// Git objects, refs and files, at most [`MAX_REPORTED`], and their total count.
    objects: Vec<(String, FaultKind, String)>,
    object_count: usize,
}

impl FaultTable {
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Returns the number of faults.
    pub(super) fn count(&self) -> usize {
        let stored = self.blobs.len() + self.chunks.len() + self.wholes.len();
        stored + self.nodes.len() + self.object_count
    }

    /// Records a fault of a git object, or of a reference to one.
    pub(super) fn object(&mut self, what: impl Display, kind: FaultKind, why: impl Display) {
        self.object_count += 1;
        if self.objects.len() < MAX_REPORTED {
            (self.objects).push((what.to_string(), kind, why.to_string()));
        }
    }

    pub(super) fn blob(&mut self, blob: BlobId, kind: FaultKind, len: Option<u64>) {
        self.blobs.insert(blob, (kind, len));
    }

    /// Whether a blob is known to be missing.
    pub(super) fn is_lost(&self, blob: &BlobId) -> bool {
        matches!(self.blobs.get(blob), Some((FaultKind::Missing, _)))
    }

    pub(super) fn chunk(
        &mut self,
        chunk: &ChunkRef,
        role: ChunkRole,
        kind: FaultKind,
        why: String,
    ) {
        let bad = BadChunk {
            chunk: chunk.clone(),
            role,
            kind,
            why,
        };
        self.chunks.insert(fingerprint(chunk), bad);
    }

    pub(super) fn whole(&mut self, whole: &WholeBlob, kind: FaultKind, why: &RepoError) {
        if kind == FaultKind::Missing {
            return self.blob(whole.blob, kind, None);
        }
        let fault = (whole.blob, kind, why.to_string());
        self.wholes.insert(whole.name(), fault);
    }

    pub(super) fn node(&mut self, path: &Arc<ItemPath>, kind: FaultKind, why: &RepoError) {
        self.nodes.push((path.clone(), kind, why.to_string()));
    }

    /// Returns the fault of a chunk itself, if any. `stored_end` is the end of the chunk
    /// in its blob as stored.
    pub(super) fn of_chunk(&self, chunk: &ChunkRef, stored_end: u64) -> Option<FaultKind> {
        match self.blobs.get(&chunk.location.blob) {
            Some((FaultKind::Missing, _)) => return Some(FaultKind::Missing),
            Some((kind, Some(len))) if *len < stored_end => return Some(*kind),
            _ => {}
        }
        self.chunks.get(&fingerprint(chunk)).map(|bad| bad.kind)
    }

    /// Returns the fault of a blob that is a file, if any.
    pub(super) fn of_whole(&self, whole: &WholeBlob) -> Option<FaultKind> {
        let blob = self.blobs.get(&whole.blob).map(|(kind, _)| *kind);
        blob.or_else(|| Some(self.wholes.get(&whole.name())?.1))
    }

    /// Returns the fault of a blob, if any.
    pub(super) fn of_blob(&self, blob: &BlobId) -> Option<FaultKind> {
        self.blobs.get(blob).map(|(kind, _)| *kind)
    }

    /// Returns all faults, sorted: blobs, then chunks, then nodes, then git objects.
    pub(super) fn into_report(self) -> Vec<Fault> {
        let fault = |kind: FaultKind, what: String, why: String| Fault {
            kind,
            what,
            why,
            remedy: kind.remedy(),
        };
        // Missing data is reported with its blob.
        let is_reported = |bad: &BadChunk| {
            let is_lost = matches!(bad.kind, FaultKind::Missing | FaultKind::Short);
            !(is_lost && self.blobs.contains_key(&bad.chunk.location.blob))
        };
        let mut chunks: Vec<BadChunk> = self.chunks.into_values().filter(is_reported).collect();
        let blobs = self.blobs.into_iter().map(|(blob, (kind, len))| {
            let why = match len {
                None => "the blob is not stored".into(),
                Some(len) => format!("the blob has only {len} bytes"),
            };
            fault(kind, format!("blob {blob}"), why)
        });
        chunks.sort_unstable_by_key(|bad| (bad.chunk.location.blob, bad.chunk.location.offset));
        let chunks = chunks.into_iter().map(|bad| {
            let role = match bad.role {
                ChunkRole::Directory => "directory",
                ChunkRole::List => "chunk list",
                ChunkRole::Content => "content",
                ChunkRole::Base => "dictionary or base",
                ChunkRole::Attachment => "attachment",
                ChunkRole::Objects => "git objects",
            };
            let at = bad.chunk.location;
            let what = format!(
                "{role} {} at {}+{} of blob {}",
                bad.chunk.hash, at.offset, bad.chunk.stored_len, at.blob
            );
            fault(bad.kind, what, bad.why)
        });
        let mut wholes: Vec<_> = self.wholes.into_values().collect();
        wholes.sort_unstable();
        let wholes =
            (wholes.into_iter()).map(|(blob, kind, why)| fault(kind, format!("blob {blob}"), why));
        let nodes =
            (self.nodes.into_iter()).map(|(path, kind, why)| fault(kind, path.to_string(), why));
        let omitted = self.object_count - self.objects.len();
        let more = (omitted > 0).then(|| {
            let what = format!("{omitted} more objects of the history");
            fault(FaultKind::Altered, what, "as the objects above".into())
        });
        let objects = (self.objects.into_iter()).map(|(what, kind, why)| fault(kind, what, why));
        let stored = blobs.chain(chunks).chain(wholes).chain(nodes);
        stored.chain(objects).chain(more).collect()
    }
}

/// Returns the end of a chunk in its blob as stored.
pub(super) fn stored_end(repository: &Repository, chunk: &ChunkRef) -> u64 {
    let end = chunk.range().end();
    match repository.key() {
        Some(_) => private_len(end).unwrap_or(u64::MAX),
        None => end,
    }
}
