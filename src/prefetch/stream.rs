//! Prefetching ahead of a walk.
//!
//! Once a walk is detected, a task runs ahead of it: it takes the files in storage
//! order, some hundred at a time, and fetches missing chunks in few large requests.
//! It preloads chunks on disk into memory, so that the walk waits neither for
//! decoding nor for hashing; a walk does not keep two cores busy, so one is
//! available. When enough is ahead, the task sleeps until the reader advances. It
//! ends with the tree, or when the reader does not advance for a while, and then
//! cancels its pending fetches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::requests;
use crate::repo::{PendingFetch, Snapshot};
use walgit_format::chunk::{ChunkHash, ChunkRef, WholeBlob};

/// Consecutive files that most likely are a walk. Other programs read two or three
/// neighbours in a row, and rarely four.
pub(super) const LIKELY: u32 = 4;
/// Maximum number of requests ahead of the reader: one while the walk is uncertain,
/// then enough to keep the link busy, increasing as the walk proceeds.
const FIRST_REQUESTS: u64 = 8;
const MOST_REQUESTS: u64 = 32;
/// Files after which the limit rises by one request.
const PROOF: u64 = 8;
/// Files and directories per stretch, initially and at most.
const FIRST_STRETCH: u64 = 64;
const LONGEST_STRETCH: u64 = 4096;
/// Number of stretches that the preload budget is divided into.
const PRELOADED: u64 = 4;
/// The stream ends if the reader does not advance for this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tolerance for the reader's position, in files: behind its last position, since
/// several threads may read; or ahead of the prefetched files, since it may skip
/// some.
const BEFORE: u64 = 64;
const BEYOND: u64 = 64;

/// Maximum concurrent fetches of files that are whole blobs. With a round trip of
/// 50 ms, they keep a link of 100 Mbit/s busy.
const WHOLES: usize = 24;
/// Maximum size of a prefetched file that is a whole blob, in bytes.
const SMALL_FILE: u64 = 4 << 20;

/// Prefetching ahead of one walk.
#[derive(Debug)]
pub(super) struct Stream {
    /// Hash of the tree's root.
    root: ChunkHash,
    /// File at which the walk started, assuming that it read every file since.
    from: u64,
    /// Last file that was read.
    at: AtomicU64,
    /// File up to which the stream has processed the tree.
    reach: AtomicU64,
    /// File at which the task wakes: waking it at every step would slow the reader.
    wake_at: AtomicU64,
    moved: Notify,
    ended: AtomicBool,
}

/// A stretch ahead of the reader, started and preloaded.
struct Begun {
    /// File after the last one of the stretch.
    to: u64,
    /// Stored bytes being fetched.
    bytes: u64,
    /// Plain bytes preloaded into memory.
    preloaded: u64,
    coming: VecDeque<PendingFetch>,
}

/// Ends a stream on drop, however its task ends.
struct End(Arc<Stream>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Stream {
    /// Creates the stream of a walk that has just started to read file `at`, after
    /// a number of consecutive files, and the task to spawn for it.
    pub(super) fn new(
        snapshot: Snapshot,
        at: u64,
        in_a_row: u32,
    ) -> (Arc<Self>, impl Future<Output = ()>) {
        let stream = Arc::new(Stream {
            root: snapshot.commit().root.hash,
            from: at.saturating_sub(u64::from(in_a_row)),
            at: AtomicU64::new(at),
            reach: AtomicU64::new(at),
            wake_at: AtomicU64::new(u64::MAX),
            moved: Notify::new(),
            ended: AtomicBool::new(false),
        });
        let end = End(stream.clone());
        let task = async move {
            // A failure is reported by the read that needs the bytes.
            end.0.run(&snapshot).await;
        };
        (stream, task)
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Returns whether a read of this file belongs to this walk.
    pub(super) fn moves_to(&self, snapshot: &Snapshot, file: u64) -> bool {
        if self.root != snapshot.commit().root.hash {
            return false;
        }
        let at = self.at.load(Ordering::Relaxed);
        let reach = self.reach.load(Ordering::Relaxed);
        let here = file + BEFORE >= at && file <= reach + BEYOND && !self.is_over();
        if here && file > at {
            self.at.fetch_max(file, Ordering::SeqCst);
            if file >= self.wake_at.load(Ordering::SeqCst) {
                self.wake_at.store(u64::MAX, Ordering::Relaxed);
                self.moved.notify_one();
            }
        }
        here
    }

    /// Runs ahead until nothing remains to do; returns `None` if interrupted.
    async fn run(&self, snapshot: &Snapshot) -> Option<()> {
        let end = snapshot.commit().nodes + 1;
        let mut ahead: VecDeque<Begun> = VecDeque::new();
        let mut length = FIRST_STRETCH;
        while self.reach.load(Ordering::Relaxed) < end {
            // The reader may have overtaken the stream.
            let from = self.reach.load(Ordering::Relaxed).max(self.at() + 1);
            let to = (from + length).min(end);
            let begun = self.begin(snapshot, from, to).await?;
            // The next stretch should need about one request.
            let (request, step) = (
                snapshot.request_bytes(),
                snapshot.preload_bytes() / PRELOADED,
            );
            length = (length * 2)
                .min(length * request / begun.bytes.max(1))
                .min(length * step / begun.preloaded.max(1))
                .clamp(FIRST_STRETCH / 8, LONGEST_STRETCH);
            ahead.push_back(begun);
            loop {
                while ahead.front().is_some_and(|begun| begun.to <= self.at()) {
                    ahead.pop_front();
                }
                let (requests, proof) = self.appetite();
                let window = requests * request;
                let bytes: u64 = ahead.iter().map(|begun| begun.bytes).sum();
                let preloaded: u64 = ahead.iter().map(|begun| begun.preloaded).sum();
                if bytes < window && preloaded < step * PRELOADED {
                    break;
                }
                let proof = if bytes > 0 { proof } else { end };
                self.move_to(ahead.front()?.to.min(proof)).await?;
            }
        }
        for coming in ahead.iter().flat_map(|begun| &begun.coming) {
            coming.completed().await.ok()?;
        }
        Some(())
    }

    /// Starts to fetch the missing chunks of some files and preloads the rest.
    async fn begin(&self, snapshot: &Snapshot, from: u64, to: u64) -> Option<Begun> {
        let stretch = snapshot.scan(from..to).await.ok()?;
        self.reach.fetch_max(to, Ordering::Relaxed);
        let cache = snapshot.cache();
        let here = |chunk: &ChunkRef| cache.contains(&chunk.hash);
        let (here, missing): (Vec<_>, Vec<_>) = stretch.chunks.into_iter().partition(here);
        let mut coming: VecDeque<_> =
            requests::begin(snapshot, &missing, snapshot.request_bytes()).into();
        let small = (stretch.wholes.into_iter()).filter(|file| file.size <= SMALL_FILE);
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for file in small {
            match snapshot.pieces_of(&file) {
                Some(pieces) => known.push((file, pieces)),
                None => unknown.push(file),
            }
        }
        coming.extend(fetch_wholes(snapshot, &unknown).await);
        let chunks = here.iter().map(|chunk| u64::from(chunk.raw_len));
        let preloaded = chunks.chain(known.iter().map(|(file, _)| file.size)).sum();
        if preloaded > 0 {
            let snapshot = snapshot.clone();
            let preload = move || {
                let cache = snapshot.cache();
                here.iter().for_each(|chunk| cache.preload(chunk));
                for (file, pieces) in &known {
                    let cache = snapshot.cache_of(file);
                    cache.inspect(|cache| pieces.iter().for_each(|it| cache.preload(it)));
                }
            };
            tokio::task::spawn_blocking(preload).await.ok()?;
        }
        Some(Begun {
            to,
            bytes: missing.iter().map(|c| u64::from(c.stored_len)).sum(),
            preloaded,
            coming,
        })
    }

    /// Returns how many requests may be ahead, and the file from which the limit
    /// rises.
    fn appetite(&self) -> (u64, u64) {
        let likely = u64::from(LIKELY);
        match self.at() - self.from {
            files if files < likely => (1, self.from + likely),
            files => {
                let requests = FIRST_REQUESTS + files / PROOF;
                (requests.min(MOST_REQUESTS), self.at() + PROOF)
            }
        }
    }

    fn at(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    /// Waits until the reader reaches a file; returns `None` if it has stopped.
    async fn move_to(&self, file: u64) -> Option<()> {
        loop {
            let before = self.at();
            self.wake_at.store(file, Ordering::SeqCst);
            // The reader may have arrived meanwhile.
            if self.at.load(Ordering::SeqCst) >= file {
                return Some(());
            }
            match tokio::time::timeout(PATIENCE, self.moved.notified()).await {
                Ok(()) => return Some(()),
                Err(_) if self.at() == before => return None,
                Err(_) => {}
            }
        }
    }
}

/// Starts to fetch files that are whole blobs, with limited concurrency; returns
/// those still in progress.
async fn fetch_wholes(snapshot: &Snapshot, files: &[WholeBlob]) -> VecDeque<PendingFetch> {
    let mut coming = VecDeque::new();
    for next in files.iter().filter_map(|file| snapshot.begin_whole(file)) {
        coming.push_back(next);
        if coming.len() >= WHOLES
            && let Some(first) = coming.pop_front()
        {
            let _ = first.completed().await;
        }
    }
    coming
}
