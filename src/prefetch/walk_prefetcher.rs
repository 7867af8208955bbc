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
pub(super) const LIKELY_WALK_FILES: u32 = 4;
/// Maximum number of requests ahead of the reader: one while the walk is uncertain,
/// then enough to keep the link busy, increasing as the walk proceeds.
const INITIAL_REQUESTS: u64 = 8;
const MAX_REQUESTS: u64 = 32;
/// Files after which the limit rises by one request.
const FILES_PER_REQUEST: u64 = 8;
/// Files and directories per range, initially and at most.
const INITIAL_SCAN_FILES: u64 = 64;
const MAX_SCAN_FILES: u64 = 4096;
/// Number of ranges that the preload budget is divided into.
const PRELOAD_PARTS: u64 = 4;
/// The prefetcher ends if the reader does not advance for this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Tolerance for the reader's position, in files: behind its last position, since
/// several threads may read; or ahead of the prefetched files, since it may skip
/// some.
const FILES_BEHIND: u64 = 64;
const FILES_AHEAD: u64 = 64;

/// Maximum concurrent fetches of files that are whole blobs. With a round trip of
/// 50 ms, they keep a link of 100 Mbit/s busy.
const MAX_RAW_FILE_FETCHES: usize = 24;
/// Maximum size of a prefetched file that is a whole blob, in bytes.
const MAX_RAW_FILE_SIZE: u64 = 4 << 20;

/// Prefetching ahead of one walk.
#[derive(Debug)]
pub(super) struct WalkPrefetcher {
    /// Hash of the tree's root.
    root: ChunkHash,
    /// File at which the walk started, assuming that it read every file since.
    from: u64,
    /// Last file that was read.
    at: AtomicU64,
    /// File up to which the prefetcher has processed the tree.
    reach: AtomicU64,
    /// File at which the task wakes: waking it at every step would slow the reader.
    wake_at: AtomicU64,
    moved: Notify,
    ended: AtomicBool,
}

/// A range of files ahead of the reader, started and preloaded.
struct StartedRange {
    /// File after the last one of the range.
    to: u64,
    /// Stored bytes being fetched.
    bytes: u64,
    /// Plain bytes preloaded into memory.
    preloaded: u64,
    pending: VecDeque<PendingFetch>,
}

/// Ends a prefetcher on drop, however its task ends.
struct EndOnDrop(Arc<WalkPrefetcher>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl WalkPrefetcher {
    /// Creates the prefetcher of a walk that has just started to read file `at`, after
    /// a number of consecutive files, and the task to spawn for it.
    pub(super) fn new(
        snapshot: Snapshot,
        at: u64,
        consecutive: u32,
    ) -> (Arc<Self>, impl Future<Output = ()>) {
        let prefetcher = Arc::new(WalkPrefetcher {
            root: snapshot.commit().root.hash,
            from: at.saturating_sub(u64::from(consecutive)),
            at: AtomicU64::new(at),
            reach: AtomicU64::new(at),
            wake_at: AtomicU64::new(u64::MAX),
            moved: Notify::new(),
            ended: AtomicBool::new(false),
        });
        let end = EndOnDrop(prefetcher.clone());
        let task = async move {
            // A failure is reported by the read that needs the bytes.
            end.0.run(&snapshot).await;
        };
        (prefetcher, task)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Returns whether a read of this file belongs to this walk.
    pub(super) fn advance_to(&self, snapshot: &Snapshot, file: u64) -> bool {
        if self.root != snapshot.commit().root.hash {
            return false;
        }
        let at = self.at.load(Ordering::Relaxed);
        let reach = self.reach.load(Ordering::Relaxed);
        let here = file + FILES_BEHIND >= at && file <= reach + FILES_AHEAD && !self.has_ended();
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
        let mut ahead: VecDeque<StartedRange> = VecDeque::new();
        let mut length = INITIAL_SCAN_FILES;
        while self.reach.load(Ordering::Relaxed) < end {
            // The reader may have overtaken the stream.
            let from = self.reach.load(Ordering::Relaxed).max(self.at() + 1);
            let to = (from + length).min(end);
            let started = self.start(snapshot, from, to).await?;
            // The next range should need about one request.
            let request = snapshot.request_bytes();
            let preload_part = snapshot.preload_bytes() / PRELOAD_PARTS;
            length = (length * 2)
                .min(length * request / started.bytes.max(1))
                .min(length * preload_part / started.preloaded.max(1))
                .clamp(INITIAL_SCAN_FILES / 8, MAX_SCAN_FILES);
            ahead.push_back(started);
            loop {
                while ahead.front().is_some_and(|started| started.to <= self.at()) {
                    ahead.pop_front();
                }
                let (requests, raised_at) = self.request_limit();
                let window = requests * request;
                let bytes: u64 = ahead.iter().map(|started| started.bytes).sum();
                let preloaded: u64 = ahead.iter().map(|started| started.preloaded).sum();
                if bytes < window && preloaded < preload_part * PRELOAD_PARTS {
                    break;
                }
                let raised_at = if bytes > 0 { raised_at } else { end };
                self.wait_for(ahead.front()?.to.min(raised_at)).await?;
            }
        }
        for pending in ahead.iter().flat_map(|started| &started.pending) {
            pending.completed().await.ok()?;
        }
        Some(())
    }

    /// Starts to fetch the missing chunks of some files and preloads the rest.
    async fn start(&self, snapshot: &Snapshot, from: u64, to: u64) -> Option<StartedRange> {
        let stretch = snapshot.scan(from..to).await.ok()?;
        self.reach.fetch_max(to, Ordering::Relaxed);
        let cache = snapshot.cache();
        let is_cached = |chunk: &ChunkRef| cache.contains(&chunk.hash);
        let (cached, missing): (Vec<_>, Vec<_>) = stretch.chunks.into_iter().partition(is_cached);
        let mut pending: VecDeque<_> =
            requests::begin(snapshot, &missing, snapshot.request_bytes()).into();
        let small = (stretch.wholes.into_iter()).filter(|file| file.size <= MAX_RAW_FILE_SIZE);
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for file in small {
            match snapshot.pieces_of(&file) {
                Some(pieces) => known.push((file, pieces)),
                None => unknown.push(file),
            }
        }
        pending.extend(fetch_raw_files(snapshot, &unknown).await);
        let chunks = cached.iter().map(|chunk| u64::from(chunk.raw_len));
        let preloaded = chunks.chain(known.iter().map(|(file, _)| file.size)).sum();
        if preloaded > 0 {
            let snapshot = snapshot.clone();
            let preload = move || {
                let cache = snapshot.cache();
                cached.iter().for_each(|chunk| cache.preload(chunk));
                for (file, pieces) in &known {
                    let cache = snapshot.cache_of(file);
                    cache.inspect(|cache| pieces.iter().for_each(|it| cache.preload(it)));
                }
            };
            tokio::task::spawn_blocking(preload).await.ok()?;
        }
        Some(StartedRange {
            to,
            bytes: missing.iter().map(|c| u64::from(c.stored_len)).sum(),
            preloaded,
            pending,
        })
    }

    /// Returns how many requests may be ahead, and the file from which the limit
    /// rises.
    fn request_limit(&self) -> (u64, u64) {
        let likely = u64::from(LIKELY_WALK_FILES);
        let files = self.at() - self.from;
        if files < likely {
            return (1, self.from + likely);
        }
        let requests = INITIAL_REQUESTS + files / FILES_PER_REQUEST;
        (requests.min(MAX_REQUESTS), self.at() + FILES_PER_REQUEST)
    }

    fn at(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    /// Waits until the reader reaches a file; returns `None` if it has stopped.
    async fn wait_for(&self, file: u64) -> Option<()> {
        loop {
            let before = self.at();
            self.wake_at.store(file, Ordering::SeqCst);
            // The reader may have arrived since.
            if self.at.load(Ordering::SeqCst) >= file {
                return Some(());
            }
            match tokio::time::timeout(IDLE_TIMEOUT, self.moved.notified()).await {
                Ok(()) => return Some(()),
                Err(_) if self.at() == before => return None,
                Err(_) => {}
            }
        }
    }
}

/// Starts to fetch files that are whole blobs, with limited concurrency; returns
/// those still in progress.
async fn fetch_raw_files(snapshot: &Snapshot, files: &[WholeBlob]) -> VecDeque<PendingFetch> {
    let mut pending = VecDeque::new();
    for next in files.iter().filter_map(|file| snapshot.begin_whole(file)) {
        pending.push_back(next);
        if pending.len() >= MAX_RAW_FILE_FETCHES
            && let Some(first) = pending.pop_front()
        {
            let _ = first.completed().await;
        }
    }
    pending
}
