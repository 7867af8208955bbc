//! Actions and limits of the scheduler.

use super::super::file_index::{FileId, PackId};
use super::waste_budget::Allowance;

/// Point in time, in seconds since an arbitrary origin.
pub type Seconds = f64;

/// ID of a request, assigned by the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub u64);

/// One ranged request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// ID of the request.
    pub id: FetchId,
    /// Blob to read.
    pub pack: PackId,
    /// Offset of the first byte.
    pub offset: u64,
    /// Number of bytes; 0 if only empty files are requested.
    pub len: u64,
    /// Files in the range, in order of their position.
    pub files: Vec<FileId>,
    /// File that a task waits for; the first of `files`.
    pub demanded: Option<FileId>,
}

/// Action for the caller to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a request.
    Fetch(Fetch),
    /// Cancel a request whose bytes are no longer wanted.
    Cancel(FetchId),
}

/// Limits on concurrency and risk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Maximum number of concurrent requests.
    pub connections: usize,
    /// Maximum number of those that are prefetches; less than `connections`. With 0,
    /// nothing is predicted.
    pub prefetches: usize,
    /// Bytes to risk on files of earlier sessions before this session has opened
    /// anything, as a fraction of the bytes that they usually opened.
    pub learned_start: f64,
    /// Bytes to risk on files of earlier sessions, per byte opened.
    pub learned_per_useful: f64,
    /// Bytes to risk on nearby files, in a session unlike earlier ones.
    pub guessed: Allowance,
}

impl Default for Config {
    /// Six prefetch requests keep a link of 100 Mbit/s and 50 ms busy with files of
    /// 100 KB; two more are for demands. The other values were selected on recorded
    /// builds and program starts over links of 10 to 200 ms and 20 to 1000 Mbit/s:
    /// guesses may waste less than three times the useful bytes; learned files a
    /// good third of them, since expected waste counts.
    fn default() -> Self {
        Config {
            connections: 8,
            prefetches: 6,
            learned_start: 0.3,
            learned_per_useful: 0.35,
            guessed: Allowance {
                start: 128 << 10,
                per_useful: 2.7,
            },
        }
    }
}

/// Counters of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefetchCounts {
    /// Demand requests.
    pub demands: u64,
    /// Prefetch requests.
    pub prefetches: u64,
    /// Cancelled requests.
    pub cancelled: u64,
    /// Prefetched files.
    pub files_prefetched: u64,
    /// Prefetched files that were opened later.
    pub files_hit: u64,
    /// Files that a task had to wait for although they were being fetched.
    pub files_late: u64,
}

impl std::ops::Add for PrefetchCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        PrefetchCounts {
            demands: self.demands + other.demands,
            prefetches: self.prefetches + other.prefetches,
            cancelled: self.cancelled + other.cancelled,
            files_prefetched: self.files_prefetched + other.files_prefetched,
            files_hit: self.files_hit + other.files_hit,
            files_late: self.files_late + other.files_late,
        }
    }
}
