//! Fetching ahead of the readers of one mount.
//!
//! Every read is told to [`Ahead`], which watches it within a large file for a
//! sequence ([`Readahead`]), and across files for a walk over the tree
//! ([`Sweeps`]), such as `tar`, `cp -a` or `grep -r` make. Who does not walk is
//! left to a [`Guide`]. What readers will ask for next is fetched by tasks beside
//! them, as much at once as the link needs to be busy ([`crate::cache`] bounds it
//! for all mounts together), and called off when a reader goes elsewhere or the
//! mount ends. A failure is told to nobody: it shows again, and is told, when
//! the bytes are asked for.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::readahead::Next;
use super::{Guide, PrefetchStats, Readahead, Sweeps};
use crate::chunk::{ByteRange, ChunkRef};
use crate::repo::{Coming, Kind, Node, Snapshot};

/// Files whose reads are watched for a sequence.
const WATCHED_FILES: usize = 256;
/// Smaller files come whole, or nearly, with their first chunk.
const WATCHED_SIZE: u64 = 1 << 20;
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
/// Most requests that one look ahead makes: some are under way, the others next.
const MOST_REQUESTS: u64 = 8;

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
    watched: quick_cache::sync::Cache<u64, Arc<Mutex<Watched>>>,
    wholes: Mutex<Sweeps>,
    packed: Mutex<Sweeps>,
    /// Ends what is under way when the mount does.
    ended: CancellationToken,
    guide: Option<Guide>,
    /// The file read last, and how many in a row before it were a walk.
    last: AtomicU64,
    in_a_row: AtomicU64,
}

/// A file that is read, and what is on its way ahead of its readers.
#[derive(Debug, Default)]
struct Watched {
    readahead: Readahead,
    /// Calls off what was begun since the last seek.
    under_way: Option<DropGuard>,
}

impl Ahead {
    /// Watches the reads of a mount, with or without a guide.
    pub fn new(guide: Option<Guide>) -> Self {
        Ahead {
            guide,
            last: AtomicU64::new(0),
            in_a_row: AtomicU64::new(0),
            watched: quick_cache::sync::Cache::new(WATCHED_FILES),
            wholes: Mutex::new(Sweeps::new(WHOLES.0, WHOLES.1)),
            packed: Mutex::new(Sweeps::new(PACKED.0, PACKED.1)),
            ended: CancellationToken::new(),
        }
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
                let fresh = Arc::new(Mutex::new(Watched::default()));
                self.watched.insert(key, fresh.clone());
                fresh
            }
        };
        let (ahead, called_off) = {
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            let ahead = match watched.readahead.note(range, node.size) {
                Next::GoOn => return,
                Next::Elsewhere => {
                    watched.under_way = None;
                    return;
                }
                Next::Fetch(ahead) => ahead,
            };
            let fresh = || self.ended.child_token().drop_guard();
            let guard = watched.under_way.get_or_insert_with(fresh);
            (ahead, guard.token().clone())
        };
        let (snapshot, node) = (snapshot.clone(), node.clone());
        tokio::spawn(called_off.run_until_cancelled_owned(async move {
            let window = snapshot.request_bytes();
            let Ok(coming) = snapshot.begin(&node, ahead, window).await else {
                return;
            };
            for coming in coming {
                let _ = coming.landed().await;
            }
        }));
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
        let fetch = fetch_ahead(snapshot.clone(), ahead);
        tokio::spawn(self.ended.clone().run_until_cancelled_owned(fetch));
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Fetches the content of consecutive files.
async fn fetch_ahead(snapshot: Snapshot, numbers: Range<u64>) {
    let Ok(stretch) = snapshot.stretch(numbers).await else {
        return;
    };
    let missing: Vec<ChunkRef> = (stretch.chunks.into_iter())
        .filter(|chunk| !snapshot.holds(chunk))
        .collect();
    let length = snapshot.request_bytes();
    let coming: Vec<Coming> = (starts(&missing, length).into_iter())
        .filter_map(|first| snapshot.begin_chunks(&missing, first, length))
        .collect();
    for coming in coming {
        let _ = coming.landed().await;
    }
    let small = stretch.wholes.iter().filter(|it| it.size <= SMALL_FILE);
    futures_util::stream::iter(small)
        .for_each_concurrent(WHOLES_AT_ONCE, |whole| async {
            if let Some(coming) = snapshot.begin_whole(whole) {
                let _ = coming.landed().await;
            }
        })
        .await;
}

/// Where each request begins that brings some of `chunks`, which are in the
/// order in which they are stored, in up to `length` bytes each; until enough
/// is ahead.
pub(super) fn starts(chunks: &[ChunkRef], length: u64) -> Vec<usize> {
    let mut starts: Vec<usize> = Vec::new();
    let mut ahead = 0;
    for (at, chunk) in chunks.iter().enumerate() {
        let follows = starts.last().is_some_and(|&first| {
            let (first, before) = (&chunks[first].at, &chunks[at - 1].at);
            let end = chunk.at.range().end();
            first.blob == chunk.at.blob
                && chunk.at.offset.saturating_sub(before.range().end()) <= crate::cache::MAX_GAP
                && end - first.offset <= length
        });
        if !follows {
            if ahead > MOST_REQUESTS * length {
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

    const LENGTH: u64 = 1 << 20;

    #[test]
    fn neighbours_share_a_request_up_to_its_length() {
        let near = [chunk(1, 0, 100), chunk(1, 100, 100), chunk(1, 300, 50)];
        assert_eq!(starts(&near, LENGTH), [0]);
        let far = [
            chunk(1, 0, 100),
            chunk(1, 100_000, 100),
            chunk(2, 100_100, 1),
        ];
        assert_eq!(starts(&far, LENGTH), [0, 1, 2]);
        let long: Vec<_> = (0..5).map(|n| chunk(1, n * 400_000, 400_000)).collect();
        assert_eq!(starts(&long, LENGTH), [0, 2, 4]);
    }

    #[test]
    fn no_more_is_asked_for_than_the_bound() {
        let many: Vec<_> = (0..100).map(|n| chunk(1, n << 20, 1 << 20)).collect();
        assert_eq!(starts(&many, LENGTH).len() as u64, MOST_REQUESTS + 1);
        assert!(starts(&[], LENGTH).is_empty());
    }
}
