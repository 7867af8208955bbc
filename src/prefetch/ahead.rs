//! Prefetching for the readers of one mount.
//!
//! [`Ahead`] receives every read. Within a large file it detects sequential reads
//! ([`Readahead`]); across files it detects walks of the tree ([`Sweeps`]), as made
//! by `tar`, `cp -a` or `grep -r`, and streams ahead of them (`stream`). All other
//! reads go to a [`Guide`].
//!
//! Background tasks fetch what readers will need next, with as many concurrent
//! requests as keep the link busy ([`crate::cache`] limits them for all mounts
//! together). They are cancelled when a reader seeks elsewhere or the mount ends.
//! Their failures are not reported: they recur, and are reported, when the bytes
//! are read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::stream::{LIKELY, Stream};
use super::{Guide, PrefetchStats};
use crate::cache::Residency;
use crate::repo::{Node, NodeIndex, Snapshot};
use walgit_format::Kind;
use walgit_format::chunk::ByteRange;
use walgit_prefetch::Next;
use walgit_prefetch::{Readahead, Sweeps};

/// Maximum number of files that are monitored for sequential reads.
const WATCHED_FILES: usize = 256;
/// Minimum size of a monitored file in bytes; smaller ones arrive (almost)
/// completely with their first chunk.
const WATCHED_SIZE: u64 = 1 << 20;
/// Consecutive files that start a stream for a task that has listed their folder
/// before.
const LISTED: u32 = 2;
/// Maximum number of remembered listings.
const LISTINGS: usize = 32;
/// Consecutive files that certainly are a walk. The model does not learn from
/// walks, because the tree determines their order.
const SURELY: u32 = 24;
/// Maximum number of concurrent streams.
const STREAMS: usize = 8;

/// A read as received by the driver.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
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
pub struct Ahead {
    watched: quick_cache::sync::Cache<u64, Arc<Mutex<Watched>>>,
    walks: Mutex<Walks>,
    /// Cancels work in progress when the mount ends.
    ended: CancellationToken,
    guide: Option<Guide>,
}

/// Access pattern of a reader across files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Random access.
    Step,
    /// Some consecutive files, with a stream ahead; possibly a habit to learn.
    Run,
    /// A walk of the tree.
    Walk,
}

/// Current walks and the streams ahead of them.
#[derive(Debug, Default)]
struct Walks {
    sweeps: Sweeps,
    streams: Vec<Arc<Stream>>,
    /// Number of streams started so far.
    begun: u64,
    /// Tasks and the folders that they have listed, most recent last.
    listed: VecDeque<(u64, NodeIndex)>,
}

/// A monitored file and its read-ahead.
#[derive(Debug, Default)]
struct Watched {
    readahead: Readahead,
    /// Cancels the read-ahead since the last seek.
    under_way: Option<DropGuard>,
}

impl Ahead {
    /// Monitors the reads of a mount, with or without a guide.
    pub fn new(guide: Option<Guide>) -> Self {
        Ahead {
            guide,
            watched: quick_cache::sync::Cache::new(WATCHED_FILES),
            walks: Mutex::default(),
            ended: CancellationToken::new(),
        }
    }

    /// Returns the guide, if there is one.
    pub fn guide(&self) -> Option<&Guide> {
        self.guide.as_ref()
    }

    /// Returns the statistics of the guide, if there is one.
    pub fn stats(&self) -> Option<PrefetchStats> {
        self.guide.as_ref().map(Guide::stats)
    }

    /// Returns the number of walks detected so far. A read that starts a walk is
    /// counted by the time it is answered.
    pub fn walks(&self) -> u64 {
        let walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        walks.begun
    }

    /// Records that a task lists a folder: walks do so before they read its files.
    pub fn listing(&self, task: u64, folder: NodeIndex) {
        let mut walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        if walks.listed.back() == Some(&(task, folder)) {
            return;
        }
        if walks.listed.len() >= LISTINGS {
            walks.listed.pop_front();
        }
        walks.listed.push_back((task, folder));
    }

    /// Records a read and starts the prefetches that follow from it.
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
            let source = snapshot.residency(node);
            let pace = self.pace(task, snapshot, node, source);
            let guide = self.guide.as_ref().filter(|_| mounted);
            if let Some(guide) = guide.filter(|_| pace != Pace::Walk) {
                let asks = source == Residency::Network && pace == Pace::Step;
                guide.opened(task, snapshot, node.index, asks);
            }
        }
        if node.size > WATCHED_SIZE && node.whole().is_none() {
            self.within(key, snapshot, node, range);
        }
    }

    /// Determines how the reader moves across files; starts a stream if something
    /// is not in memory.
    fn pace(&self, task: u64, snapshot: &Snapshot, node: &Node, source: Residency) -> Pace {
        let file = node.index.0;
        let task = {
            let mut walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
            let in_a_row = walks.sweeps.note(file);
            let surely = in_a_row >= SURELY;
            walks.streams.retain(|stream| !stream.is_over());
            let mut streams = walks.streams.iter();
            if streams.any(|stream| stream.moves_to(snapshot, file)) {
                return if surely { Pace::Walk } else { Pace::Run };
            }
            let listed =
                (node.folder()).is_some_and(|folder| walks.listed.contains(&(task, folder)));
            let enough = if listed { LISTED } else { LIKELY };
            if in_a_row < enough || source == Residency::Memory || walks.streams.len() >= STREAMS {
                return if surely { Pace::Walk } else { Pace::Step };
            }
            // A listing of the folder counts as one more file read.
            let proof = in_a_row + u32::from(listed);
            let (stream, task) = Stream::new(snapshot.clone(), file, proof);
            walks.streams.push(stream);
            walks.begun += 1;
            task
        };
        tokio::spawn(self.ended.clone().run_until_cancelled_owned(task));
        Pace::Run
    }

    /// Monitors the reads of one file.
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
                let _ = coming.completed().await;
            }
        }));
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
