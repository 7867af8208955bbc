//! Result of a check.

use serde::Serialize;

use super::affected::Affected;
use super::fault::Fault;

/// Summary of a checked history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HistorySummary {
    /// Number of commits.
    pub commits: u64,
    /// Number of stored trees, including duplicates.
    pub trees: u64,
    /// Number of stored file contents, including duplicates.
    pub contents: u64,
    /// Number of annotated tags.
    pub tags: u64,
    /// Whether all objects were read and hashed.
    pub hashed: bool,
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
    /// most [`MAX_REPORTED`](super::MAX_REPORTED).
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
