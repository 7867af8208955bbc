//! Session state of a guide.

use std::collections::{HashMap, HashSet};

use tokio_util::task::AbortOnDropHandle;

use super::inventory::Stored;
use crate::prefetch::hints::Hints;
use crate::repo::{Charge, NodeIndex, Snapshot};
use walgit_format::chunk::BlobId;
use walgit_prefetch::Catalogue;
use walgit_prefetch::Profile;
use walgit_prefetch::catalogue::FileId;
use walgit_prefetch::catalogue::PackId;
use walgit_prefetch::model::TaskId;
use walgit_prefetch::scheduler::{Action, Config, Counts, Fetch, FetchId, Link, Scheduler};

#[derive(Debug)]
pub(super) struct State {
    pub(super) snapshot: Snapshot,
    pub(super) scheduler: Scheduler,
    /// Content of each catalogue file.
    pub(super) contents: Vec<Stored>,
    pub(super) packs: HashMap<BlobId, PackId>,
    /// Node indices of the folders that were added.
    pub(super) folders: HashSet<NodeIndex>,
    /// Fetches in progress, aborted when they are removed; reports of other fetches
    /// are too late.
    pub(super) flying: HashMap<FetchId, Option<AbortOnDropHandle<()>>>,
    /// Prefetched files that have not been opened.
    pub(super) unopened: HashMap<FileId, u64>,
    /// Counts from before the mount moved to its current head.
    pub(super) earlier: Counts,
    /// Stored bytes that were prefetched and opened, and seconds saved.
    pub(super) useful: (u64, f64),
    pub(super) changed: bool,
    /// Every directory of the tree is in memory but not yet added.
    pub(super) walked: bool,
    /// Memory budget of the catalogue.
    pub(super) charge: Charge,
}

impl State {
    /// Creates the state of a session with the earlier `profile`.
    pub(super) fn of(snapshot: &Snapshot, profile: Profile) -> Self {
        let config = Config::default();
        State {
            snapshot: snapshot.clone(),
            scheduler: Scheduler::new(Catalogue::default(), profile, Link::default(), config),
            contents: Vec::new(),
            packs: HashMap::new(),
            folders: HashSet::new(),
            flying: HashMap::new(),
            unopened: HashMap::new(),
            earlier: Counts::default(),
            useful: (0, 0.0),
            changed: false,
            walked: false,
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
        self.scheduler = Scheduler::new(Catalogue::default(), profile, link, config);
        prior.into_iter().for_each(|it| self.scheduler.tell(it));
        self.snapshot = snapshot.clone();
        self.contents.clear();
        self.packs.clear();
        self.folders.clear();
        self.flying.clear();
        self.unopened.clear();
        self.charge.less(u64::MAX);
    }

    pub(super) fn opened(&mut self, task: TaskId, file: NodeIndex, now: f64) -> Vec<Action> {
        // Built lazily: an unread mount needs no catalogue. The first request needs
        // it complete, because a file's neighbours may belong to other folders.
        if std::mem::take(&mut self.walked) {
            self.take_in_all();
        }
        let Some(file) = self.find(file) else {
            return Vec::new();
        };
        self.changed = true;
        if self.is_here(file) {
            self.scheduler.held(file);
        }
        if let Some(bytes) = self.unopened.remove(&file) {
            let link = self.scheduler.link();
            self.useful.0 += bytes;
            self.useful.1 += link.rtt() + link.seconds(bytes);
        }
        self.scheduler.opened(task, file, now)
    }

    pub(super) fn landed(
        &mut self,
        id: FetchId,
        file: FileId,
        here: bool,
        now: f64,
    ) -> Vec<Action> {
        if !self.flying.contains_key(&id) {
            return Vec::new();
        }
        match here {
            true => self.scheduler.fetched(file, now),
            false => self.scheduler.failed(file, now),
        }
    }

    pub(super) fn told(&mut self, hints: Hints) {
        if let Some(prior) = hints.prior {
            self.scheduler.tell(prior);
        }
        if let Some(profile) = hints.shipped {
            self.scheduler.merge(&profile, 0.5);
            self.changed = true;
        }
    }

    /// Returns the counts since the mount was created.
    pub(super) fn counts(&self) -> Counts {
        self.earlier + self.scheduler.counts()
    }

    /// Records the start of a fetch; returns the content of its files.
    pub(super) fn depart(&mut self, fetch: &Fetch) -> (Snapshot, Vec<(FileId, Stored)>) {
        self.flying.insert(fetch.id, None);
        let mut contents = Vec::with_capacity(fetch.files.len());
        for &file in &fetch.files {
            let Some(content) = self.contents.get(file.index()) else {
                continue;
            };
            contents.push((file, content.clone()));
            if Some(file) != fetch.demanded {
                let len = self.scheduler.catalogue().place(file).len;
                self.unopened.insert(file, len);
            }
        }
        (self.snapshot.clone(), contents)
    }
}
