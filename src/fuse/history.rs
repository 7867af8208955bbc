//! Commits that only their children lead to: found one after the other, when
//! somebody first looks at `.walgit/commits`.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::inode::Inode;
use super::trees::Trees;
use crate::repo::{MAX_ANCESTORS, NodeIndex, Repository};

/// How long a listing waits for a history that is still being read.
const PATIENCE: Duration = Duration::from_secs(5);

/// The commits before the one that is mounted.
#[derive(Debug)]
pub(super) struct History {
    trees: Arc<Trees>,
    from: Repository,
    found: Mutex<Found>,
    /// Told at each commit found.
    told: watch::Sender<Progress>,
}

#[derive(Debug)]
struct Found {
    commits: Vec<(Vec<u8>, Inode)>,
    at: SystemTime,
    started: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    count: usize,
    complete: bool,
}

impl History {
    /// The history before `from`; nothing is read yet.
    pub(super) fn before(from: &Repository, trees: &Arc<Trees>) -> Arc<Self> {
        let complete = from.parents().is_empty();
        Arc::new(History {
            trees: trees.clone(),
            from: from.clone(),
            found: Mutex::new(Found {
                commits: Vec::new(),
                at: SystemTime::now(),
                started: complete,
            }),
            told: watch::Sender::new(Progress { count: 0, complete }),
        })
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all has been found that will be.
    pub(super) fn is_complete(&self) -> bool {
        self.told.borrow().complete
    }

    /// When the last commit was found.
    pub(super) fn at(&self) -> SystemTime {
        self.found().at
    }

    fn start(self: &Arc<Self>) {
        if std::mem::replace(&mut self.found().started, true) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            this.walk().await;
            this.told.send_modify(|progress| progress.complete = true);
        });
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
            let slot = self.trees.add_later(&self.from, &target);
            {
                let mut found = self.found();
                let tree = Inode::Tree(slot, NodeIndex::ROOT);
                found.commits.push((name.clone().into(), tree));
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
        let found = self.found();
        let known = found.commits.iter().find(|(known, _)| known == name);
        known.map(|(_, inode)| *inode)
    }

    /// The tree of a commit; waits until it is found, or is not there.
    pub(super) async fn find(self: &Arc<Self>, name: &[u8]) -> Option<Inode> {
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

    /// All commits found, after waiting a little for the rest.
    pub(super) async fn all(self: &Arc<Self>) -> Vec<(Vec<u8>, Inode)> {
        self.start();
        let mut told = self.told.subscribe();
        let complete = told.wait_for(|progress| progress.complete);
        let _ = tokio::time::timeout(PATIENCE, complete).await;
        self.found().commits.clone()
    }
}
