//! Prefetching for the readers of one mount.
//!
//! [`Prefetcher`] receives every read. Within a large file it detects sequential reads
//! ([`Readahead`]); across files it detects walks of the tree ([`SequentialScanDetector`]), as made
//! by `tar`, `cp -a` or `grep -r`, and prefetches ahead of them (`walk_prefetcher`). All other
//! reads go to a [`PrefetchDriver`].
//!
//! Background tasks fetch what readers will need next, with as many concurrent
//! requests as keep the link busy ([`crate::cache`] limits them for all mounts
//! together). They are cancelled when a reader seeks elsewhere or the mount ends.
//! Their failures are not reported: they recur, and are reported, when the bytes
//! are read.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::walk_prefetcher::{LIKELY_WALK_FILES, WalkPrefetcher};
use super::{PrefetchDriver, PrefetchStats};
use crate::cache::Residency;
use crate::repo::{Node, NodeIndex, Snapshot};
use walgit_format::Kind;
use walgit_format::chunk::ByteRange;
use walgit_prefetch::{Readahead, ReadaheadAction, SequentialScanDetector};

/// Maximum number of files that are monitored for sequential reads.
const MAX_WATCHED_FILES: usize = 256;
/// Minimum size of a monitored file in bytes; smaller ones arrive (almost)
/// completely with their first chunk.
const MIN_WATCHED_SIZE: u64 = 1 << 20;
/// Consecutive files that start a stream for a task that has listed their folder
/// before.
const MIN_FILES_AFTER_LISTING: u32 = 2;
/// Maximum number of remembered listings.
const MAX_LISTINGS: usize = 32;
/// Consecutive files that certainly are a walk. The model does not learn from
/// walks, because the tree determines their order.
const CERTAIN_WALK_FILES: u32 = 24;
/// Maximum number of concurrent streams.
const MAX_WALK_PREFETCHERS: usize = 8;

/// A read as received by the driver.
#[derive(Clone, Copy, Debug)]
pub struct FileRead<'a> {
    /// ID of the reading task, from the kernel.
    pub task: u64,
    /// Key that identifies the file within the mount.
    pub key: u64,
    /// Whether the file belongs to the mounted tree, rather than to one beside it.
    pub mounted: bool,
    /// Snapshot of the tree.
    pub snapshot: &'a Snapshot,
    /// Node of the file.
    pub node: &'a Node,
    /// Byte range of the read.
    pub range: ByteRange,
}

/// Monitors the reads of one mount.
#[derive(Debug)]
pub struct Prefetcher {
    watched: quick_cache::sync::Cache<u64, Arc<Mutex<WatchedFile>>>,
    walks: Mutex<Walks>,
    /// Cancels work in progress when the mount ends.
    ended: CancellationToken,
    driver: Option<PrefetchDriver>,
}

/// Access pattern of a reader across files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AccessPattern {
    /// Random access.
    Random,
    /// Some consecutive files, with a prefetcher ahead; possibly a pattern to learn.
    Run,
    /// A walk of the tree.
    Walk,
}

/// Current walks and the prefetchers ahead of them.
#[derive(Debug, Default)]
struct Walks {
    detector: SequentialScanDetector,
    prefetchers: Vec<Arc<WalkPrefetcher>>,
    /// Number of prefetchers started so far.
    started: u64,
    /// Tasks and the folders that they have listed, most recent last.
    listed: VecDeque<(u64, NodeIndex)>,
}

/// A monitored file and its read-ahead.
#[derive(Debug, Default)]
struct WatchedFile {
    readahead: Readahead,
    /// Cancels the read-ahead since the last seek.
    cancel: Option<DropGuard>,
}

impl Prefetcher {
    /// Monitors the reads of a mount, with or without a driver.
    pub fn new(driver: Option<PrefetchDriver>) -> Self {
        Prefetcher {
            driver,
            watched: quick_cache::sync::Cache::new(MAX_WATCHED_FILES),
            walks: Mutex::default(),
            ended: CancellationToken::new(),
        }
    }

    /// Returns the driver, if there is one.
    pub fn driver(&self) -> Option<&PrefetchDriver> {
        self.driver.as_ref()
    }

    /// Returns the statistics of the driver, if there is one.
    pub fn stats(&self) -> Option<PrefetchStats> {
        self.driver.as_ref().map(PrefetchDriver::stats)
    }

    /// Returns the number of walks detected so far. A read that starts a walk is
    /// counted by the time it is answered.
    pub fn walks(&self) -> u64 {
        let walks = self.walks.lock();
        walks.started
    }

    /// Records that a task lists a folder: walks do so before they read its files.
    pub fn record_listing(&self, task: u64, folder: NodeIndex) {
        let mut walks = self.walks.lock();
        if walks.listed.back() == Some(&(task, folder)) {
            return;
        }
        if walks.listed.len() >= MAX_LISTINGS {
            walks.listed.pop_front();
        }
        walks.listed.push_back((task, folder));
    }

    /// Records a read and starts the prefetches that follow from it.
    ///
    /// Must be called within a runtime; does not wait.
    pub fn record_read(&self, read: &FileRead<'_>) {
        let FileRead {
            task,
            key,
            mounted,
            snapshot,
            node,
            range,
        } = *read;
        if !matches!(node.kind, Kind::File { .. }) {
            return;
        }
        if range.start() == 0 {
            let residency = snapshot.residency(node);
            let pattern = self.access_pattern(task, snapshot, node, residency);
            let driver = self.driver.as_ref().filter(|_| mounted);
            if let Some(driver) = driver.filter(|_| pattern != AccessPattern::Walk) {
                let waits = residency == Residency::Network && pattern == AccessPattern::Random;
                driver.record_open(task, snapshot, node.index, waits);
            }
        }
        if node.size > MIN_WATCHED_SIZE && node.whole().is_none() {
            self.read_ahead(key, snapshot, node, range);
        }
    }

    /// Determines how the reader moves across files; starts a stream if something
    /// is not in memory.
    fn access_pattern(
        &self,
        task: u64,
        snapshot: &Snapshot,
        node: &Node,
        residency: Residency,
    ) -> AccessPattern {
        let file = node.index.0;
        let task = {
            let mut walks = self.walks.lock();
            let consecutive = walks.detector.record(file);
            let is_certain = consecutive >= CERTAIN_WALK_FILES;
            walks.prefetchers.retain(|it| !it.has_ended());
            let mut prefetchers = walks.prefetchers.iter();
            if prefetchers.any(|it| it.advance_to(snapshot, file)) {
                return if is_certain {
                    AccessPattern::Walk
                } else {
                    AccessPattern::Run
                };
            }
            let listed =
                (node.folder()).is_some_and(|folder| walks.listed.contains(&(task, folder)));
            let required = if listed {
                MIN_FILES_AFTER_LISTING
            } else {
                LIKELY_WALK_FILES
            };
            if consecutive < required
                || residency == Residency::Memory
                || walks.prefetchers.len() >= MAX_WALK_PREFETCHERS
            {
                return if is_certain {
                    AccessPattern::Walk
                } else {
                    AccessPattern::Random
                };
            }
            // A listing of the folder counts as one more file read.
            let evidence = consecutive + u32::from(listed);
            let (prefetcher, task) = WalkPrefetcher::new(snapshot.clone(), file, evidence);
            walks.prefetchers.push(prefetcher);
            walks.started += 1;
            task
        };
        tokio::spawn(self.ended.clone().run_until_cancelled_owned(task));
        AccessPattern::Run
    }

    /// Monitors the reads of one file.
    fn read_ahead(&self, key: u64, snapshot: &Snapshot, node: &Node, range: ByteRange) {
        let watched = self.watched.get(&key).unwrap_or_else(|| {
            let new = Arc::new(Mutex::new(WatchedFile::default()));
            self.watched.insert(key, new.clone());
            new
        });
        let (range, cancelled) = {
            let mut watched = watched.lock();
            let range = match watched.readahead.record(range, node.size) {
                ReadaheadAction::None => return,
                ReadaheadAction::Cancel => {
                    watched.cancel = None;
                    return;
                }
                ReadaheadAction::Fetch(range) => range,
            };
            let new = || self.ended.child_token().drop_guard();
            let guard = watched.cancel.get_or_insert_with(new);
            (range, guard.token().clone())
        };
        let (snapshot, node) = (snapshot.clone(), node.clone());
        tokio::spawn(cancelled.run_until_cancelled_owned(async move {
            let window = snapshot.request_bytes();
            let Ok(pending) = snapshot.begin(&node, range, window).await else {
                return;
            };
            for fetch in pending {
                let _ = fetch.completed().await;
            }
        }));
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
