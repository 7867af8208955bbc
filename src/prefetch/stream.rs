//! Fetching ahead of somebody who walks a tree.
//!
//! Once a walk is recognised, a task goes on before it: it takes the files in
//! the order in which they are stored, some hundred at a time, and asks for what
//! is missing in few large requests, until enough is ahead of the reader. The
//! reader's moves wake it. It ends with the tree, or when the reader does not
//! move for a while, and what it had begun is called off then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::requests::{self, missing};
use crate::chunk::{ChunkHash, WholeBlob};
use crate::repo::{Coming, Snapshot};

/// Requests' worth of bytes that are begun ahead of the reader: what keeps the
/// link busy at first, more as the walk goes on.
const FIRST_REQUESTS: u64 = 8;
const MOST_REQUESTS: u64 = 32;
/// Files after which it is one request more.
const PROOF: u64 = 8;
/// Files and directories that are looked at together, at first and at most.
const FIRST_STRETCH: u64 = 64;
const LONGEST_STRETCH: u64 = 4096;
/// A reader who does not move for so long has gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far the reader may be off: before what it was seen at, as several threads
/// read it; or ahead of what was begun, as it leaves files out.
const BEFORE: u64 = 64;
const BEYOND: u64 = 64;

/// Files that are blobs and are fetched ahead at once. With a round trip of
/// 50 ms, they keep a link of 100 Mbit/s busy.
const WHOLES: usize = 24;
/// Longest file that is fetched ahead where it is a blob, in bytes.
const SMALL_FILE: u64 = 4 << 20;

/// What goes on ahead of one walker.
#[derive(Debug)]
pub(super) struct Stream {
    /// The tree.
    root: ChunkHash,
    /// Where the walk was recognised.
    from: u64,
    /// The last file that was read.
    at: AtomicU64,
    /// Up to where files have been looked at.
    reach: AtomicU64,
    moved: Notify,
    ended: AtomicBool,
}

/// Ends a stream however its task does.
struct End(Arc<Stream>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Stream {
    /// The stream of a walker who has just begun to read file `at`, and the
    /// task that is to be run for it.
    pub(super) fn new(snapshot: Snapshot, at: u64) -> (Arc<Self>, impl Future<Output = ()>) {
        let stream = Arc::new(Stream {
            root: snapshot.commit().root.hash,
            from: at,
            at: AtomicU64::new(at),
            reach: AtomicU64::new(at),
            moved: Notify::new(),
            ended: AtomicBool::new(false),
        });
        let end = End(stream.clone());
        let task = async move {
            // A failure is told to whoever asks for the bytes.
            end.0.run(&snapshot).await;
        };
        (stream, task)
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether a file that is read now is of this walk.
    pub(super) fn moves_to(&self, snapshot: &Snapshot, file: u64) -> bool {
        if self.root != snapshot.commit().root.hash {
            return false;
        }
        let at = self.at.load(Ordering::Relaxed);
        let reach = self.reach.load(Ordering::Relaxed);
        let here = file + BEFORE >= at && file <= reach + BEYOND && !self.is_over();
        if here && file > at {
            self.at.fetch_max(file, Ordering::Relaxed);
            self.moved.notify_one();
        }
        here
    }

    /// Goes on ahead until there is nothing more to do; `None` where it was cut
    /// short.
    async fn run(&self, snapshot: &Snapshot) -> Option<()> {
        let end = snapshot.commit().nodes + 1;
        // What is ahead of the reader, by the file it ends with.
        let mut ahead: VecDeque<(u64, u64, Vec<Coming>)> = VecDeque::new();
        let mut length = FIRST_STRETCH;
        while self.reach.load(Ordering::Relaxed) < end {
            // A reader who outran what was begun is ahead of it.
            let from = self.reach.load(Ordering::Relaxed).max(self.at() + 1);
            let to = (from + length).min(end);
            let stretch = snapshot.stretch(from..to).await.ok()?;
            self.reach.fetch_max(to, Ordering::Relaxed);
            let missing = missing(snapshot, stretch.chunks);
            let bytes = missing.iter().map(|c| u64::from(c.at.stored_len)).sum();
            let mut coming = requests::begin(snapshot, &missing, snapshot.request_bytes());
            coming.extend(fetch_wholes(snapshot, &stretch.wholes).await);
            ahead.push_back((to, bytes, coming));
            // The next one should bring about a request's worth.
            length = (length * 2).min(length * snapshot.request_bytes() / bytes.max(1));
            length = length.clamp(FIRST_STRETCH / 8, LONGEST_STRETCH);
            loop {
                while (ahead.front()).is_some_and(|(to, ..)| *to <= self.at()) {
                    ahead.pop_front();
                }
                let requests = FIRST_REQUESTS + (self.at() - self.from) / PROOF;
                let window = requests.min(MOST_REQUESTS) * snapshot.request_bytes();
                if ahead.iter().map(|(_, bytes, _)| bytes).sum::<u64>() < window {
                    break;
                }
                self.move_on().await?;
            }
        }
        for (_, _, coming) in ahead {
            for coming in coming {
                coming.landed().await.ok()?;
            }
        }
        Some(())
    }

    fn at(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    /// Waits until the reader moves; `None` when it has gone.
    async fn move_on(&self) -> Option<()> {
        let moved = tokio::time::timeout(PATIENCE, self.moved.notified());
        moved.await.ok()
    }
}

/// Begins to fetch files that are blobs, so many at once; those that are still
/// under way.
async fn fetch_wholes(snapshot: &Snapshot, files: &[WholeBlob]) -> VecDeque<Coming> {
    let mut coming = VecDeque::new();
    let small = files.iter().filter(|file| file.size <= SMALL_FILE);
    for next in small.filter_map(|file| snapshot.begin_whole(file)) {
        coming.push_back(next);
        if coming.len() >= WHOLES
            && let Some(first) = coming.pop_front()
        {
            let _ = first.landed().await;
        }
    }
    coming
}
