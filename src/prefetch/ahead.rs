//! Fetching ahead of the readers of one mount.
//!
//! Every read is told to [`Ahead`], which watches it within a large file for a
//! sequence ([`Readahead`]), and across files for a walk over the tree
//! ([`Sweeps`]), such as `tar`, `cp -a` or `grep -r` make, and gone ahead of
//! (`stream`). Who does not walk is left to a [`Guide`].
//!
//! What readers will ask for next is fetched by tasks beside them, as much at
//! once as the link needs to be busy ([`crate::cache`] bounds it for all mounts
//! together), and called off when a reader goes elsewhere or the mount ends. A
//! failure is told to nobody: it shows again, and is told, when the bytes are
//! asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::stream::{LIKELY, Stream};
use super::{Guide, PrefetchStats};
use crate::cache::Source;
use crate::repo::{Node, NodeIndex, Snapshot};
use walgit_format::Kind;
use walgit_format::chunk::ByteRange;
use walgit_prefetch::Next;
use walgit_prefetch::{Readahead, Sweeps};

/// Files whose reads are watched for a sequence.
const WATCHED_FILES: usize = 256;
/// Smaller files come whole, or nearly, with their first chunk.
const WATCHED_SIZE: u64 = 1 << 20;
/// Files in a row from which on somebody is gone ahead of who has listed their
/// folder before.
const LISTED: u32 = 2;
/// Listings that are remembered.
const LISTINGS: usize = 32;
/// Files in a row that are surely a walk, which teaches nothing: the tree tells
/// it all.
const SURELY: u32 = 24;
/// Walkers that are gone ahead of at once.
const STREAMS: usize = 8;

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
    walks: Mutex<Walks>,
    /// Ends what is under way when the mount does.
    ended: CancellationToken,
    guide: Option<Guide>,
}

/// How a reader moves from file to file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Anywhere.
    Step,
    /// Some files in a row, and is gone ahead of; that may be a habit to learn.
    Run,
    /// Over the tree.
    Walk,
}

/// Who walks, and what goes on ahead of them.
#[derive(Debug, Default)]
struct Walks {
    sweeps: Sweeps,
    streams: Vec<Arc<Stream>>,
    /// How many streams there were.
    begun: u64,
    /// Tasks and the folders that they have listed, the last one last.
    listed: VecDeque<(u64, NodeIndex)>,
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
            watched: quick_cache::sync::Cache::new(WATCHED_FILES),
            walks: Mutex::default(),
            ended: CancellationToken::new(),
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

    /// Walks that were noticed so far. A read that begins one has been counted when it
    /// is answered.
    pub fn walks(&self) -> u64 {
        let walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        walks.begun
    }

    /// Notes that a task lists a folder: walkers do before they read what is in
    /// it.
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
            let source = snapshot.source(node);
            let pace = self.pace(task, snapshot, node, source);
            let guide = self.guide.as_ref().filter(|_| mounted);
            if let Some(guide) = guide.filter(|_| pace != Pace::Walk) {
                let asks = source == Source::Network && pace == Pace::Step;
                guide.opened(task, snapshot, node.index, asks);
            }
        }
        if node.size > WATCHED_SIZE && snapshot.whole_of(node).is_none() {
            self.within(key, snapshot, node, range);
        }
    }

    /// How whoever reads a file moves over the tree; goes on ahead of them from
    /// where something is not in memory.
    fn pace(&self, task: u64, snapshot: &Snapshot, node: &Node, source: Source) -> Pace {
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
            if in_a_row < enough || source == Source::Memory || walks.streams.len() >= STREAMS {
                return if surely { Pace::Walk } else { Pace::Step };
            }
            // Having listed their folder counts as having read one more.
            let proof = in_a_row + u32::from(listed);
            let (stream, task) = Stream::new(snapshot.clone(), file, proof);
            walks.streams.push(stream);
            walks.begun += 1;
            task
        };
        tokio::spawn(self.ended.clone().run_until_cancelled_owned(task));
        Pace::Run
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
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
