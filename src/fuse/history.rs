//! Ancestors of the mounted commit, found on the first access to `.walgit/commits`:
//! from the archive of the repository, or one by one if only their descendants
//! reference them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::attributes::time_of;
use super::control::PER_NAME;
use super::inode::Inode;
use super::trees::Trees;
use crate::repo::{Charge, MAX_ANCESTORS, NodeIndex, RepoError, Repository};
use walgit_format::head::GitId;

/// Most commits of an archive to list, newest first; all others can be looked up by
/// name.
const MAX_LISTED: usize = 50_000;

/// Maximum time that a listing waits for a history that is still being read.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ancestors of the mounted commit.
#[derive(Debug)]
pub(super) struct History {
    trees: Arc<Trees>,
    from: Repository,
    found: Mutex<Found>,
    /// Notifies waiting tasks of each commit found.
    told: watch::Sender<Progress>,
}

#[derive(Debug)]
struct Found {
    commits: BTreeMap<Vec<u8>, Inode>,
    at: SystemTime,
    started: bool,
    /// Memory charge for the names.
    charge: Charge,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    count: usize,
    complete: bool,
}

impl History {
    /// Creates the history before `from`, without reading it.
    pub(super) fn before(from: &Repository, trees: &Arc<Trees>) -> Arc<Self> {
        let complete = from.parents().is_empty() && !from.has_archive();
        Arc::new(History {
            trees: trees.clone(),
            from: from.clone(),
            found: Mutex::new(Found {
                commits: BTreeMap::new(),
                at: SystemTime::now(),
                started: complete,
                charge: from.access().account.nothing(),
            }),
            told: watch::Sender::new(Progress { count: 0, complete }),
        })
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the search is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.told.borrow().complete
    }

    /// Time at which the last commit was found.
    pub(super) fn at(&self) -> SystemTime {
        self.found().at
    }

    fn start(self: &Arc<Self>) {
        if std::mem::replace(&mut self.found().started, true) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            match this.from.has_archive() {
                true => {
                    if let Err(error) = this.list().await {
                        tracing::warn!("the history cannot be listed: {error}");
                    }
                }
                false => this.walk().await,
            }
            this.told.send_modify(|progress| progress.complete = true);
        });
    }

    /// Adds the commits of the archive.
    async fn list(&self) -> Result<(), RepoError> {
        let Some(archive) = self.from.archive().await? else {
            return Ok(());
        };
        for (id, at) in archive.commits().await?.take(MAX_LISTED) {
            self.archived(id.to_string().into_bytes(), &id, at)?;
        }
        self.told.send_modify(|progress| progress.count += 1);
        Ok(())
    }

    /// Adds one commit of the archive.
    fn archived(&self, name: Vec<u8>, id: &GitId, at: i64) -> Result<Option<Inode>, RepoError> {
        let Some(target) = self.from.archived_target(id.clone()) else {
            return Ok(None);
        };
        let mut found = self.found();
        if let Some(known) = found.commits.get(&name) {
            return Ok(Some(*known));
        }
        let bytes = PER_NAME + name.len() as u64;
        if !self.trees.has_room() {
            // This charge always fails, with the proper error.
            found.charge.more(u64::MAX)?;
        }
        found.charge.more(bytes)?;
        let slot = self.trees.add_dated(&target, time_of(at));
        let tree = Inode::Tree(slot, NodeIndex::ROOT);
        found.commits.insert(name, tree);
        Ok(Some(tree))
    }

    /// Looks up a commit in the archive, without listing all of it.
    async fn look_up(&self, name: &[u8]) -> Result<Option<Inode>, RepoError> {
        // Only complete IDs, as in listings.
        let (Some(archive), Some(id)) = (self.from.archive().await?, GitId::from_hex(name)) else {
            return Ok(None);
        };
        let at = archive.committed(&id).await?;
        match at {
            Some(at) => self.archived(name.to_vec(), &id, at),
            None => Ok(None),
        }
    }

    async fn walk(&self) {
        let mut pending: VecDeque<_> = self.from.parents().into();
        let mut seen = HashSet::new();
        while let Some(target) = pending.pop_front() {
            if seen.len() >= MAX_ANCESTORS {
                tracing::info!("history is shown back to {MAX_ANCESTORS} commits");
                return;
            }
            let name = target.id().to_string();
            if !seen.insert(name.clone()) {
                continue;
            }
            let slot = self.trees.add_later(&target);
            {
                let mut found = self.found();
                let tree = Inode::Tree(slot, NodeIndex::ROOT);
                found.commits.insert(name.clone().into(), tree);
                found.at = SystemTime::now();
            }
            self.told.send_modify(|progress| progress.count += 1);
            match self.trees.open(slot).await {
                Ok(snapshot) => pending.extend(snapshot.repository().parents()),
                Err(error) => tracing::warn!("commit {name} cannot be shown: {error}"),
            }
        }
    }

    fn known(&self, name: &[u8]) -> Option<Inode> {
        self.found().commits.get(name).copied()
    }

    /// The tree of a commit; waits until it is found or the search is complete.
    ///
    /// # Errors
    /// Fails if the history cannot be read.
    pub(super) async fn find(self: &Arc<Self>, name: &[u8]) -> Result<Option<Inode>, RepoError> {
        if let Some(known) = self.known(name) {
            return Ok(Some(known));
        }
        if self.from.has_archive() {
            return self.look_up(name).await;
        }
        Ok(self.wait_for(name).await)
    }

    async fn wait_for(self: &Arc<Self>, name: &[u8]) -> Option<Inode> {
        self.start();
        let mut told = self.told.subscribe();
        loop {
            let complete = told.borrow_and_update().complete;
            if let Some(known) = self.known(name) {
                return Some(known);
            }
            if complete {
                return None;
            }
            told.changed().await.ok()?;
        }
    }

    /// All commits found; waits a limited time for the rest.
    pub(super) async fn all(self: &Arc<Self>) -> Vec<(Vec<u8>, Inode)> {
        self.start();
        let mut told = self.told.subscribe();
        let complete = told.wait_for(|progress| progress.complete);
        let _ = tokio::time::timeout(PATIENCE, complete).await;
        let found = self.found();
        let commits = found.commits.iter();
        commits.map(|(name, tree)| (name.clone(), *tree)).collect()
    }
}
