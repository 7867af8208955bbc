//! What the scheduler tells its caller to do, and within which bounds.

use super::super::catalogue::{FileId, PackId};
use super::ledger::Allowance;

/// A point in time: seconds since any beginning.
pub type Seconds = f64;

/// One request, as the scheduler numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub u64);

/// One ranged request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Its number.
    pub id: FetchId,
    /// The blob to read.
    pub pack: PackId,
    /// From which byte on.
    pub offset: u64,
    /// How many bytes; 0 where only empty files are asked for.
    pub len: u64,
    /// Whose bytes these are, in order of place.
    pub files: Vec<FileId>,
    /// The file somebody waits for; the first of `files`.
    pub demanded: Option<FileId>,
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a request.
    Fetch(Fetch),
    /// End a request whose bytes are not wanted any more.
    Cancel(FetchId),
}

/// How much may be done at once, and risked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Most requests at once.
    pub connections: usize,
    /// Most of them for what nobody waits for yet; fewer than `connections`.
    pub ahead: usize,
    /// What may be risked on what earlier sessions opened, before this one has
    /// opened anything: a part of what they usually opened.
    pub learned_start: f64,
    /// The same, for each byte that was opened.
    pub learned_per_useful: f64,
    /// What may be risked on what lies near, in a session like none before.
    pub guessed: Allowance,
}

impl Default for Config {
    /// Six requests ahead keep a link of 100 Mbit/s and 50 ms busy with files
    /// of 100 KB; two more are for demands. The rest was chosen on recorded
    /// builds and starts of programs over links of 10 to 200 ms and 20 to 1000
    /// Mbit/s: guesses may waste less than three times what is useful; what is
    /// learned a good third of it, since what is expected to be wasted counts.
    fn default() -> Self {
        Config {
            connections: 8,
            ahead: 6,
            learned_start: 0.3,
            learned_per_useful: 0.35,
            guessed: Allowance {
                start: 128 << 10,
                per_useful: 2.7,
            },
        }
    }
}

/// What has been done in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests made because somebody waited.
    pub demands: u64,
    /// Requests made ahead.
    pub prefetches: u64,
    /// Requests ended early.
    pub cancelled: u64,
    /// Files fetched ahead.
    pub files_ahead: u64,
    /// Files fetched ahead and opened thereafter.
    pub files_hit: u64,
    /// Files somebody had to wait for although they were on their way.
    pub files_late: u64,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Counts {
            demands: self.demands + other.demands,
            prefetches: self.prefetches + other.prefetches,
            cancelled: self.cancelled + other.cancelled,
            files_ahead: self.files_ahead + other.files_ahead,
            files_hit: self.files_hit + other.files_hit,
            files_late: self.files_late + other.files_late,
        }
    }
}
