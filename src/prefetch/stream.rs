//! Going ahead of somebody who walks a tree.
//!
//! Once a walk is recognised, a task goes on before it: it takes the files in
//! the order in which they are stored, some hundred at a time, and asks for what
//! is missing in few large requests. What is on disk it takes into memory, so
//! that the walker waits neither for decoding nor for hashes: there is a core to
//! spare, as nobody who walks keeps two busy. Once enough is ahead, the reader's
//! moves wake it. It ends with the tree, or when the reader does not move for a
//! while, and what it had begun is called off then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::requests;
use crate::repo::{Coming, Snapshot};
use walgit_format::chunk::{ChunkHash, ChunkRef, WholeBlob};

/// Files in a row from which on it is most likely a walk. Programs that do not
/// walk read two or three neighbours in a row, and seldom four.
pub(super) const LIKELY: u32 = 4;
/// Requests' worth of bytes that are begun ahead of the reader: one while it may
/// be no walk, then what keeps the link busy, more as the walk goes on.
const FIRST_REQUESTS: u64 = 8;
const MOST_REQUESTS: u64 = 32;
/// Files after which it is one request more.
const PROOF: u64 = 8;
/// Files and directories that are looked at together, at first and at most.
const FIRST_STRETCH: u64 = 64;
const LONGEST_STRETCH: u64 = 4096;
/// Stretches that what is preloaded ahead of the reader consists of.
const PRELOADED: u64 = 4;
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
    /// Where the walk began, had it read every file since.
    from: u64,
    /// The last file that was read.
    at: AtomicU64,
    /// Up to where files have been looked at.
    reach: AtomicU64,
    /// The file at which the task is to be woken: a reader who wakes it at every
    /// step pays for it.
    wake_at: AtomicU64,
    moved: Notify,
    ended: AtomicBool,
}

/// What is ahead of the reader: a stretch, begun and preloaded.
struct Begun {
    /// The file after the last of it.
    to: u64,
    /// Stored bytes that are being fetched.
    bytes: u64,
    /// Plain bytes that were taken into memory.
    preloaded: u64,
    coming: VecDeque<Coming>,
}

/// Ends a stream however its task does.
struct End(Arc<Stream>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Stream {
    /// The stream of a walker who has just begun to read file `at`, the last of
    /// so many in a row, and the task that is to be run for it.
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
            self.at.fetch_max(file, Ordering::SeqCst);
            if file >= self.wake_at.load(Ordering::SeqCst) {
                self.wake_at.store(u64::MAX, Ordering::Relaxed);
                self.moved.notify_one();
            }
        }
        here
    }

    /// Goes on ahead until there is nothing more to do; `None` where it was cut
    /// short.
    async fn run(&self, snapshot: &Snapshot) -> Option<()> {
        let end = snapshot.commit().nodes + 1;
        let mut ahead: VecDeque<Begun> = VecDeque::new();
        let mut length = FIRST_STRETCH;
        while self.reach.load(Ordering::Relaxed) < end {
            // A reader who outran what was begun is ahead of it.
            let from = self.reach.load(Ordering::Relaxed).max(self.at() + 1);
            let to = (from + length).min(end);
            let begun = self.begin(snapshot, from, to).await?;
            // The next one should bring about a request's worth.
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
            coming.landed().await.ok()?;
        }
        Some(())
    }

    /// Begins to fetch what is missing of some files, and takes into memory what
    /// is not.
    async fn begin(&self, snapshot: &Snapshot, from: u64, to: u64) -> Option<Begun> {
        let stretch = snapshot.stretch(from..to).await.ok()?;
        self.reach.fetch_max(to, Ordering::Relaxed);
        let here = |chunk: &ChunkRef| snapshot.holds(chunk);
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
                snapshot.preload(&here);
                (known.iter()).for_each(|(file, pieces)| snapshot.preload_pieces(file, pieces));
            };
            tokio::task::spawn_blocking(preload).await.ok()?;
        }
        Some(Begun {
            to,
            bytes: missing.iter().map(|c| u64::from(c.at.stored_len)).sum(),
            preloaded,
            coming,
        })
    }

    /// How many requests' worth may be ahead, and from which file on it is more.
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

    /// Waits until the reader gets to a file; `None` when it has gone.
    async fn move_to(&self, file: u64) -> Option<()> {
        loop {
            let before = self.at();
            self.wake_at.store(file, Ordering::SeqCst);
            // It may have got there meanwhile.
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

/// Begins to fetch files that are blobs, so many at once; those that are still
/// under way.
async fn fetch_wholes(snapshot: &Snapshot, files: &[WholeBlob]) -> VecDeque<Coming> {
    let mut coming = VecDeque::new();
    for next in files.iter().filter_map(|file| snapshot.begin_whole(file)) {
        coming.push_back(next);
        if coming.len() >= WHOLES
            && let Some(first) = coming.pop_front()
        {
            let _ = first.landed().await;
        }
    }
    coming
}
