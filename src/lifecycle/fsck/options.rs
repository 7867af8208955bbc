//! Options of a check.

use std::collections::HashSet;

use walgit_format::chunk::BlobId;

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

impl ReadScope {
    pub(super) fn sample_size(self) -> usize {
        match self {
            ReadScope::Sample(size) => size,
            _ => 0,
        }
    }
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
