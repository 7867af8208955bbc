//! State of the session of a mount.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::prefetch::hints::Hints;
use crate::repo::{Charge, NodeIndex, Snapshot};
use walgit_format::chunk::{BlobId, ChunkRef, WholeBlob};
use walgit_prefetch::file_index::{FileId, PackId};
use walgit_prefetch::model::TaskId;
use walgit_prefetch::scheduler::{
    Action, Config, Fetch, FetchId, LinkEstimate, PrefetchCounts, Scheduler,
};
use walgit_prefetch::{FileIndex, Profile};

/// An event for the scheduler.
#[derive(Debug)]
pub(super) enum DriverEvent {
    /// A task starts to read a file.
    Opened(TaskId, NodeIndex),
    /// A file of a fetch has arrived (and is cached), or will not.
    Arrived(FetchId, FileId, bool),
    /// All files of a fetch have arrived.
    Ended(FetchId),
    /// Every directory of the tree is in memory.
    TreeLoaded,
    /// The hints of the repository have been read.
    HintsRead(Box<Hints>),
}

#[derive(Clone, Debug)]
pub(super) enum FileContent {
    /// Inline in the node of its folder, or empty.
    Inline,
    /// Adjacent chunks of one blob.
    Chunks(Arc<[ChunkRef]>),
    /// A separate blob.
    Whole(WholeBlob),
}

#[derive(Debug)]
pub(super) struct DriverState {
    pub(super) snapshot: Snapshot,
    pub(super) scheduler: Scheduler,
    /// Content of each file of the index.
    pub(super) contents: Vec<FileContent>,
    pub(super) packs: HashMap<BlobId, PackId>,
    /// Node indices of the folders that were added.
    pub(super) folders: HashSet<NodeIndex>,
    /// Fetches in progress, aborted when they are removed; reports of other fetches
    /// are too late.
    pub(super) in_flight: HashMap<FetchId, Option<AbortOnDropHandle<Option<()>>>>,
    /// Prefetched files that have not been opened.
    pub(super) unopened: HashMap<FileId, u64>,
    /// Counts from before the mount moved to its current head.
    pub(super) earlier: PrefetchCounts,
    /// Stored bytes that were prefetched and opened, and seconds saved.
    pub(super) useful: (u64, f64),
    pub(super) changed: bool,
    /// Every directory of the tree is in memory but not yet added.
    pub(super) is_tree_loaded: bool,
    /// Memory budget of the file index.
    pub(super) charge: Charge,
}

impl DriverState {
    /// Creates the state of a session with the earlier `profile`.
    pub(super) fn new(snapshot: &Snapshot, profile: Profile) -> Self {
        let (index, link, config) = (
            FileIndex::default(),
            LinkEstimate::default(),
            Config::default(),
        );
        DriverState {
            snapshot: snapshot.clone(),
            scheduler: Scheduler::new(index, profile, link, config),
            contents: Vec::new(),
            packs: HashMap::new(),
            folders: HashSet::new(),
            in_flight: HashMap::new(),
            unopened: HashMap::new(),
            earlier: PrefetchCounts::default(),
            useful: (0, 0.0),
            changed: false,
            is_tree_loaded: false,
            charge: snapshot.repository().access().account.nothing(),
        }
    }

    /// Moves to another head: its files have other locations.
    pub(super) fn move_to(&mut self, snapshot: &Snapshot) {
        let root = |snapshot: &Snapshot| snapshot.commit().root.clone();
        if root(snapshot) == root(&self.snapshot) {
            return;
        }
        self.earlier = self.counts();
        let (profile, link) = (self.scheduler.profile(), self.scheduler.link());
        let config = Config::default();
        let prior = self.scheduler.prior().cloned();
        self.scheduler = Scheduler::new(FileIndex::default(), profile, link, config);
        prior
            .into_iter()
            .for_each(|it| self.scheduler.set_prior(it));
        self.snapshot = snapshot.clone();
        self.contents.clear();
        self.packs.clear();
        self.folders.clear();
        self.in_flight.clear();
        self.unopened.clear();
        self.charge.less(u64::MAX);
    }

    /// Records an event; returns the actions to execute.
    pub(super) fn handle(&mut self, event: DriverEvent, now: f64) -> Vec<Action> {
        match event {
            DriverEvent::Opened(task, file) => return self.opened(task, file, now),
            DriverEvent::Arrived(id, file, is_cached) => {
                return self.arrived(id, file, is_cached, now);
            }
            DriverEvent::Ended(id) => _ = self.in_flight.remove(&id),
            DriverEvent::TreeLoaded => self.is_tree_loaded = true,
            DriverEvent::HintsRead(hints) => {
                self.add_hints(*hints);
                return self.scheduler.tick(now);
            }
        }
        Vec::new()
    }

    pub(super) fn opened(&mut self, task: TaskId, file: NodeIndex, now: f64) -> Vec<Action> {
        // Built lazily: an unread mount needs no file index. The first request needs
        // it complete, because a file's neighbours may belong to other folders.
        if std::mem::take(&mut self.is_tree_loaded) {
            self.add_all();
        }
        let Some(file) = self.find(file) else {
            return Vec::new();
        };
        self.changed = true;
        if self.is_cached(file) {
            self.scheduler.mark_cached(file);
        }
        if let Some(bytes) = self.unopened.remove(&file) {
            let link = self.scheduler.link();
            self.useful.0 += bytes;
            self.useful.1 += link.rtt() + link.seconds(bytes);
        }
        self.scheduler.opened(task, file, now)
    }

    fn arrived(&mut self, id: FetchId, file: FileId, is_cached: bool, now: f64) -> Vec<Action> {
        if !self.in_flight.contains_key(&id) {
            return Vec::new();
        }
        if is_cached {
            self.scheduler.fetched(file, now)
        } else {
            self.scheduler.failed(file, now)
        }
    }

    fn add_hints(&mut self, hints: Hints) {
        if let Some(prior) = hints.prior {
            self.scheduler.set_prior(prior);
        }
        if let Some(profile) = hints.shipped {
            self.scheduler.merge(&profile, 0.5);
            self.changed = true;
        }
    }

    /// Returns the counts since the mount was created.
    pub(super) fn counts(&self) -> PrefetchCounts {
        self.earlier + self.scheduler.counts()
    }

    /// Records the start of a fetch; returns the content of its files.
    pub(super) fn start_fetch(&mut self, fetch: &Fetch) -> (Snapshot, Vec<(FileId, FileContent)>) {
        self.in_flight.insert(fetch.id, None);
        let mut contents = Vec::with_capacity(fetch.files.len());
        for &file in &fetch.files {
            let Some(content) = self.contents.get(file.index()) else {
                continue;
            };
            contents.push((file, content.clone()));
            if Some(file) != fetch.demanded {
                let len = self.scheduler.file_index().range(file).len;
                self.unopened.insert(file, len);
            }
        }
        (self.snapshot.clone(), contents)
    }
}
