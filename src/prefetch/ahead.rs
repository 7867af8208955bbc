//! Fetching ahead of the readers of one mount.
//!
//! Every read is told to [`Ahead`], which watches it within a large file for a
//! sequence ([`Readahead`]), and across files for a walk over the tree
//! ([`Sweeps`]), such as `tar`, `cp -a` or `grep -r` make. Who does not walk is
//! left to a [`Guide`]. What readers will ask for next is fetched by tasks beside
//! them, as much at once as a far link needs to be busy, and never more than a
//! fixed number of bytes ahead. A failure is told to nobody: it shows again, and
//! is told, when the bytes are asked for.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::{Guide, PrefetchStats, Readahead, Sweeps};
use crate::chunk::{ByteRange, ChunkRef};
use crate::repo::{Kind, Node, Snapshot, Stretch};

/// Files whose reads are watched for a sequence.
const WATCHED_FILES: usize = 256;
/// Smaller files come whole, or nearly, with their first chunk.
const WATCHED_SIZE: u64 = 1 << 20;
/// Read-aheads under way at once; with windows of at most 8 MiB this bounds
/// their memory.
const READAHEADS: usize = 4;

/// Files fetched ahead of a walk at first and at most, where each is a blob.
/// With a round trip of 50 ms, the most keep a link of 100 Mbit/s busy.
const WHOLES: (u64, u64) = (4, 64);
/// Files that are blobs and are fetched ahead at once.
const WHOLES_AT_ONCE: usize = 24;
/// Longest file that is fetched ahead where it is a blob, in bytes.
const SMALL_FILE: u64 = 4 << 20;

/// Files fetched ahead of a walk at first and at most, where they share packs:
/// a request brings hundreds of them.
const PACKED: (u64, u64) = (32, 4096);
/// Stored bytes that are asked for in one request: at 100 Mbit/s they take a
/// tenth of a second, beside which a round trip is little.
const SPAN: u64 = 1 << 20;
/// Such requests under way at once: while one waits another one flows.
const SPANS_AT_ONCE: usize = 4;
/// Most stored bytes that one look ahead asks for.
const MOST_AHEAD: u64 = 8 << 20;

/// Files in a row, each a little after the one before in the order of a walk,
/// that make it one. Whoever walks teaches nothing: the tree tells it all.
const WALK: u64 = 24;
/// How far apart such files may be, in numbers.
const STEP: u64 = 64;

/// A read, as the driver has it.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The task that reads, as the kernel numbers it.
    pub task: u64,
    /// Tells the file from all others of the mount.
    pub key: u64,
    /// Whether the file is of the tree that is mounted, rather than one that is
    /// found beside it.
    pub mounted: bool,
    /// The tree.
    pub snapshot: &'a Snapshot,
    /// The file.
    pub node: &'a Node,
    /// The bytes that are read.
    pub range: ByteRange,
}

/// Watches the reads of one mount.
#[derive(Debug)]
pub struct Ahead {
    watched: quick_cache::sync::Cache<u64, Arc<Mutex<Readahead>>>,
    readaheads: Arc<Semaphore>,
    wholes: Mutex<Sweeps>,
    wholes_at_once: Arc<Semaphore>,
    packed: Mutex<Sweeps>,
    spans_at_once: Arc<Semaphore>,
    guide: Option<Guide>,
    /// The file read last, and how many in a row before it were a walk.
    last: AtomicU64,
    in_a_row: AtomicU64,
}

impl Ahead {
    /// Watches the reads of a mount, with or without a guide.
    pub fn new(guide: Option<Guide>) -> Self {
        Ahead {
            guide,
            last: AtomicU64::new(0),
            in_a_row: AtomicU64::new(0),
            watched: quick_cache::sync::Cache::new(WATCHED_FILES),
            readaheads: Arc::new(Semaphore::new(READAHEADS)),
            wholes: Mutex::new(Sweeps::new(WHOLES.0, WHOLES.1)),
            wholes_at_once: Arc::new(Semaphore::new(WHOLES_AT_ONCE)),
            packed: Mutex::new(Sweeps::new(PACKED.0, PACKED.1)),
            spans_at_once: Arc::new(Semaphore::new(SPANS_AT_ONCE)),
        }
    }

    /// Who watches the opens, where somebody does.
    pub fn guide(&self) -> Option<&Guide> {
        self.guide.as_ref()
    }

    /// What the guide has done, where there is one.
    pub fn stats(&self) -> Option<PrefetchStats> {
        self.guide.as_ref().map(Guide::stats)
    }

    /// Notes a read, and starts what should be fetched ahead of it.
    ///
    /// Must be called within a runtime; does not wait.
    pub fn reading(&self, reading: &Reading<'_>) {
        let Reading {
            task,
            key,
            mounted,
            snapshot,
            node,
            range,
        } = *reading;
        if !matches!(node.kind, Kind::File { .. }) {
            return;
        }
        if range.start() == 0 {
            let away = snapshot.is_away(node);
            if let Some(away) = away {
                self.walking(snapshot, node, away);
            }
            let walks = self.walks(node.index.0);
            if let Some(guide) = self.guide.as_ref().filter(|_| mounted && !walks) {
                guide.opened(task, snapshot, node.index, away == Some(true));
            }
        }
        if node.size > WATCHED_SIZE && snapshot.whole_of(node).is_none() {
            self.within(key, snapshot, node, range);
        }
    }

    /// Whether somebody reads one file after the other, hit or miss.
    fn walks(&self, file: u64) -> bool {
        let last = self.last.swap(file, Ordering::Relaxed);
        let in_a_row = match file > last && file - last <= STEP {
            true => self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1,
            false => {
                self.in_a_row.store(0, Ordering::Relaxed);
                0
            }
        };
        in_a_row > WALK
    }

    /// Watches the reads of one file.
    fn within(&self, key: u64, snapshot: &Snapshot, node: &Node, range: ByteRange) {
        let watched = match self.watched.get(&key) {
            Some(watched) => watched,
            None => {
                let fresh = Arc::new(Mutex::new(Readahead::default()));
                self.watched.insert(key, fresh.clone());
                fresh
            }
        };
        let ahead = {
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.note(range, node.size)
        };
        let (Some(ahead), Ok(permit)) = (ahead, self.readaheads.clone().try_acquire_owned()) else {
            return;
        };
        let (snapshot, node) = (snapshot.clone(), node.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let _ = snapshot.read(&node, ahead, ahead.len()).await;
        });
    }

    /// Watches which file follows which.
    fn walking(&self, snapshot: &Snapshot, node: &Node, away: bool) {
        let sweeps = match snapshot.whole_of(node) {
            Some(_) => &self.wholes,
            None => &self.packed,
        };
        let ahead = {
            let mut sweeps = sweeps.lock().unwrap_or_else(PoisonError::into_inner);
            sweeps.note(node.index.0, away)
        };
        if ahead.is_empty() {
            return;
        }
        let fetch = FetchAhead {
            snapshot: snapshot.clone(),
            wholes_at_once: self.wholes_at_once.clone(),
            spans_at_once: self.spans_at_once.clone(),
        };
        tokio::spawn(fetch.run(ahead));
    }
}

/// Fetches the content of consecutive files.
struct FetchAhead {
    snapshot: Snapshot,
    wholes_at_once: Arc<Semaphore>,
    spans_at_once: Arc<Semaphore>,
}

impl FetchAhead {
    async fn run(self, numbers: Range<u64>) {
        let Ok(stretch) = self.snapshot.stretch(numbers).await else {
            return;
        };
        let Stretch { chunks, wholes } = stretch;
        let missing: Arc<[ChunkRef]> = (chunks.into_iter())
            .filter(|chunk| !self.snapshot.holds(chunk))
            .collect();
        for first in starts(&missing) {
            let Ok(permit) = self.spans_at_once.clone().acquire_owned().await else {
                return;
            };
            let (snapshot, missing) = (self.snapshot.clone(), missing.clone());
            tokio::spawn(async move {
                let _permit = permit;
                let _ = snapshot.fetch_chunks(&missing, first, SPAN).await;
            });
        }
        for whole in wholes {
            if whole.size > SMALL_FILE || self.snapshot.knows(&whole) {
                continue;
            }
            let Ok(permit) = self.wholes_at_once.clone().acquire_owned().await else {
                return;
            };
            let snapshot = self.snapshot.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let _ = snapshot.fetch_whole(&whole).await;
            });
        }
    }
}

/// Where each request begins that brings some of `chunks`, which are in the
/// order in which they are stored, until enough is ahead.
pub(super) fn starts(chunks: &[ChunkRef]) -> Vec<usize> {
    let mut starts: Vec<usize> = Vec::new();
    let mut ahead = 0;
    for (at, chunk) in chunks.iter().enumerate() {
        let follows = starts.last().is_some_and(|&first| {
            let (first, before) = (&chunks[first].at, &chunks[at - 1].at);
            let end = chunk.at.range().end();
            first.blob == chunk.at.blob
                && chunk.at.offset.saturating_sub(before.range().end()) <= crate::cache::MAX_GAP
                && end - first.offset <= SPAN
        });
        if !follows {
            if ahead > MOST_AHEAD {
                break;
            }
            starts.push(at);
        }
        ahead += u64::from(chunk.at.stored_len);
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{BlobId, ChunkHash, Codec, Location};

    fn chunk(blob: u8, offset: u64, stored_len: u32) -> ChunkRef {
        ChunkRef {
            hash: ChunkHash::of(&offset.to_le_bytes()),
            raw_len: stored_len,
            at: Location {
                blob: BlobId::from_bytes([blob; 32]),
                offset,
                stored_len,
                codec: Codec::Raw,
            },
        }
    }

    #[test]
    fn neighbours_share_a_request_up_to_its_length() {
        let near = [chunk(1, 0, 100), chunk(1, 100, 100), chunk(1, 300, 50)];
        assert_eq!(starts(&near), [0]);
        let far = [
            chunk(1, 0, 100),
            chunk(1, 100_000, 100),
            chunk(2, 100_100, 1),
        ];
        assert_eq!(starts(&far), [0, 1, 2]);
        let long: Vec<_> = (0..5).map(|n| chunk(1, n * 400_000, 400_000)).collect();
        assert_eq!(starts(&long), [0, 2, 4]);
    }

    #[test]
    fn no_more_is_asked_for_than_the_bound() {
        let many: Vec<_> = (0..100).map(|n| chunk(1, n << 20, 1 << 20)).collect();
        assert_eq!(starts(&many).len() as u64, MOST_AHEAD / SPAN + 1);
        assert!(starts(&[]).is_empty());
    }
}
