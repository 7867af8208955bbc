//! Ancestors of the mounted commit, found on the first access to `.walgit/commits`:
//! from the archive of the repository, or one by one if only their descendants
//! reference them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::attributes::time_of;
use super::inode::Inode;
use super::snapshot_table::SnapshotTable;
use crate::repo::{Charge, MAX_ANCESTORS, NodeIndex, RepoError, Repository};
use walgit_format::head::GitId;

/// Most commits of an archive to list, newest first; all others can be looked up by
/// name.
const MAX_LISTED_COMMITS: usize = 50_000;
/// Maximum time that a listing waits for a history that is still being read.
const LISTING_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of memory per name in `.walgit`, without the name itself.
pub(super) const BYTES_PER_NAME: u64 = 100;

/// The ancestors of the mounted commit.
#[derive(Debug)]
pub(super) struct HistoryDir {
    snapshots: Arc<SnapshotTable>,
    from: Repository,
    ancestors: Mutex<Ancestors>,
    /// Notifies waiting tasks of each commit found.
    progress: watch::Sender<ListingProgress>,
}

#[derive(Debug)]
struct Ancestors {
    commits: BTreeMap<Vec<u8>, Inode>,
    /// Time at which the last commit was found.
    updated: SystemTime,
    is_started: bool,
    /// Memory charge for the names.
    charge: Charge,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ListingProgress {
    count: usize,
    is_complete: bool,
}

impl HistoryDir {
    /// Creates the history before `from`, without reading it.
    pub(super) fn before(from: &Repository, snapshots: &Arc<SnapshotTable>) -> Arc<Self> {
        let is_complete = from.parents().is_empty() && !from.has_archive();
        Arc::new(HistoryDir {
            snapshots: snapshots.clone(),
            from: from.clone(),
            ancestors: Mutex::new(Ancestors {
                commits: BTreeMap::new(),
                updated: SystemTime::now(),
                is_started: is_complete,
                charge: from.access().account.nothing(),
            }),
            progress: watch::Sender::new(ListingProgress {
                count: 0,
                is_complete,
            }),
        })
    }

    /// Whether the search is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.progress.borrow().is_complete
    }

    /// Time at which the last commit was found.
    pub(super) fn updated(&self) -> SystemTime {
        self.ancestors.lock().updated
    }

    fn start(self: &Arc<Self>) {
        if std::mem::replace(&mut self.ancestors.lock().is_started, true) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            if !this.from.has_archive() {
                this.walk().await;
            } else if let Err(error) = this.list().await {
                tracing::warn!("the history cannot be listed: {error}");
            }
            this.progress
                .send_modify(|progress| progress.is_complete = true);
        });
    }

    /// Adds the commits of the archive.
    async fn list(&self) -> Result<(), RepoError> {
        let Some(archive) = self.from.archive().await? else {
            return Ok(());
        };
        for (id, at) in archive.commits().await?.take(MAX_LISTED_COMMITS) {
            self.archived(id.to_string().into_bytes(), &id, at)?;
        }
        self.progress.send_modify(|progress| progress.count += 1);
        Ok(())
    }

    /// Adds one commit of the archive.
    fn archived(&self, name: Vec<u8>, id: &GitId, at: i64) -> Result<Option<Inode>, RepoError> {
        let Some(target) = self.from.archived_target(id.clone()) else {
            return Ok(None);
        };
        let mut ancestors = self.ancestors.lock();
        if let Some(known) = ancestors.commits.get(&name) {
            return Ok(Some(*known));
        }
        let bytes = BYTES_PER_NAME + name.len() as u64;
        if !self.snapshots.has_capacity() {
            // This charge always fails, with the proper error.
            ancestors.charge.more(u64::MAX)?;
        }
        ancestors.charge.more(bytes)?;
        let slot = self.snapshots.add_unopened(&target, Some(time_of(at)));
        let tree = Inode::Tree(slot, NodeIndex::ROOT);
        ancestors.commits.insert(name, tree);
        Ok(Some(tree))
    }

    /// Looks up a commit in the archive, without listing all of it.
    async fn look_up(&self, name: &[u8]) -> Result<Option<Inode>, RepoError> {
        // Only complete IDs, as in listings.
        let (Some(archive), Some(id)) = (self.from.archive().await?, GitId::from_hex(name)) else {
            return Ok(None);
        };
        match archive.committed(&id).await? {
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
            let slot = self.snapshots.add_unopened(&target, None);
            {
                let mut ancestors = self.ancestors.lock();
                let tree = Inode::Tree(slot, NodeIndex::ROOT);
                ancestors.commits.insert(name.clone().into(), tree);
                ancestors.updated = SystemTime::now();
            }
            self.progress.send_modify(|progress| progress.count += 1);
            match self.snapshots.open(slot).await {
                Ok(snapshot) => pending.extend(snapshot.repository().parents()),
                Err(error) => tracing::warn!("commit {name} cannot be shown: {error}"),
            }
        }
    }

    fn known(&self, name: &[u8]) -> Option<Inode> {
        self.ancestors.lock().commits.get(name).copied()
    }

    /// The tree of a commit; waits until it is found or the search is complete.
    pub(super) async fn find(self: &Arc<Self>, name: &[u8]) -> Result<Option<Inode>, RepoError> {
        if let Some(known) = self.known(name) {
            return Ok(Some(known));
        }
        if self.from.has_archive() {
            return self.look_up(name).await;
        }
        self.start();
        let mut progress = self.progress.subscribe();
        let is_found =
            |progress: &ListingProgress| progress.is_complete || self.known(name).is_some();
        let _ = progress.wait_for(is_found).await;
        Ok(self.known(name))
    }

    /// All commits found; waits a limited time for the rest.
    pub(super) async fn all(self: &Arc<Self>) -> Vec<(Vec<u8>, Inode)> {
        self.start();
        let mut progress = self.progress.subscribe();
        let complete = progress.wait_for(|progress| progress.is_complete);
        let _ = tokio::time::timeout(LISTING_TIMEOUT, complete).await;
        let ancestors = self.ancestors.lock();
        let commits = ancestors.commits.iter();
        commits.map(|(name, tree)| (name.clone(), *tree)).collect()
    }
}
