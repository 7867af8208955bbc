//! The trees that a mount shows, each in a slot: what is mounted, what was
//! mounted before, and what is found under `.walgit`.
//!
//! A slot is taken once and stays: its number is part of inode numbers that
//! the kernel may hold for as long as the mount lives. What is in it is opened
//! when it is first looked at, and of those that take memory only a few are
//! kept.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use super::attributes::commit_time;
use super::identity::{Change, Identity};
use super::inode::Inode;
use crate::repo::{Access, Loader, NodeIndex, RepoError, Repository, Snapshot, Target};

/// Trees that are kept in memory beside the mounted one, where a tree takes any.
const OPENED: usize = 8;

/// Every tree of a mount.
#[derive(Debug)]
pub(super) struct Trees {
    slots: RwLock<Vec<Slot>>,
    opened: quick_cache::sync::Cache<usize, Snapshot>,
    shown: RwLock<Arc<Shown>>,
}

/// The tree that is mounted now.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) snapshot: Snapshot,
    identity: Identity,
}

#[derive(Debug)]
struct Slot {
    /// When its commit was made, once that is known.
    time: OnceLock<SystemTime>,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Origin {
    /// It takes next to no memory: its directories are fetched and dropped.
    Kept(Snapshot),
    /// It is opened when it is needed.
    Elsewhere(Arc<Loader>, Access, Target),
}

impl Origin {
    fn of(snapshot: &Snapshot) -> Self {
        let repository = snapshot.repository();
        match repository.is_implied() {
            false => Origin::Kept(snapshot.clone()),
            true => Origin::elsewhere(repository, repository.target()),
        }
    }

    fn elsewhere(beside: &Repository, target: &Target) -> Self {
        Origin::Elsewhere(
            beside.loader().clone(),
            beside.access().clone(),
            target.clone(),
        )
    }
}

/// The tree that an inode belongs to, and its number there.
pub(super) struct InTree {
    pub(super) snapshot: Snapshot,
    pub(super) index: NodeIndex,
    /// Set where it is the mounted tree.
    shown: Option<Arc<Shown>>,
    slot: usize,
}

impl InTree {
    /// Whether it is the tree that is mounted.
    pub(super) fn is_mounted(&self) -> bool {
        self.shown.is_some()
    }

    /// The inode of another node of the same tree.
    pub(super) fn inode(&self, index: NodeIndex) -> Inode {
        let shown = self.shown.as_ref();
        let mounted = shown.and_then(|shown| shown.identity.inode_of(index));
        mounted.unwrap_or(Inode::Tree(self.slot, index))
    }
}

impl Trees {
    /// The trees of a mount of `snapshot`, which takes slot 0.
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let identity = Identity::of_slot(0, snapshot.commit().nodes);
        let trees = Trees {
            slots: RwLock::default(),
            opened: quick_cache::sync::Cache::new(OPENED),
            shown: RwLock::new(Arc::new(Shown {
                snapshot: snapshot.clone(),
                identity,
            })),
        };
        trees.add(&snapshot);
        trees
    }

    /// The tree that is mounted.
    pub(super) fn shown(&self) -> Arc<Shown> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }

    /// Takes a slot for a tree that is open.
    pub(super) fn add(&self, snapshot: &Snapshot) -> usize {
        let time = OnceLock::from(commit_time(snapshot.commit()));
        self.take(Slot {
            time,
            origin: Origin::of(snapshot),
        })
    }

    /// Takes a slot for a tree that is opened later, as `beside` was.
    pub(super) fn add_later(&self, beside: &Repository, target: &Target) -> usize {
        self.take(Slot {
            time: OnceLock::new(),
            origin: Origin::elsewhere(beside, target),
        })
    }

    /// Takes a slot for a tree that is opened later, whose time is known.
    pub(super) fn add_dated(&self, beside: &Repository, target: &Target, at: SystemTime) -> usize {
        self.take(Slot {
            time: OnceLock::from(at),
            origin: Origin::elsewhere(beside, target),
        })
    }

    fn take(&self, slot: Slot) -> usize {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.push(slot);
        slots.len() - 1
    }

    fn slot<T>(&self, slot: usize, of: impl FnOnce(&Slot) -> T) -> Option<T> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(slot).map(of)
    }

    /// When the commit of a slot was made, as far as that is known.
    pub(super) fn time(&self, slot: usize) -> Option<SystemTime> {
        self.slot(slot, |slot| slot.time.get().copied())?
    }

    /// The tree in a slot.
    pub(super) async fn open(&self, slot: usize) -> Result<Snapshot, RepoError> {
        let origin = self.slot(slot, |slot| slot.origin.clone());
        let (loader, access, target) = match origin.ok_or(RepoError::NoNode(slot as u64))? {
            Origin::Kept(snapshot) => return Ok(snapshot),
            Origin::Elsewhere(loader, access, target) => (loader, access, target),
        };
        let shown = self.shown();
        if *shown.snapshot.repository().target() == target {
            return Ok(shown.snapshot.clone());
        }
        if let Some(opened) = self.opened.get(&slot) {
            return Ok(opened);
        }
        let snapshot = loader.open_target(&access, &target).await?.snapshot(0)?;
        self.slot(slot, |slot| {
            slot.time.get_or_init(|| commit_time(snapshot.commit()));
        });
        self.opened.insert(slot, snapshot.clone());
        Ok(snapshot)
    }

    /// The tree that a node of a slot is in by now: the mounted one, where it
    /// is still there.
    pub(super) async fn find(&self, slot: usize, index: NodeIndex) -> Result<InTree, RepoError> {
        let shown = self.shown();
        if let Some(index) = shown.identity.node_of(slot, index) {
            return Ok(InTree {
                snapshot: shown.snapshot.clone(),
                index,
                shown: Some(shown),
                slot,
            });
        }
        Ok(InTree {
            snapshot: self.open(slot).await?,
            index,
            shown: None,
            slot,
        })
    }

    /// Shows another tree from now on; what the kernel must forget.
    pub(super) async fn move_to(&self, snapshot: Snapshot) -> Result<Vec<Change>, RepoError> {
        let before = self.shown();
        let (fresh, changes) = (before.identity.after(&before.snapshot, &snapshot)).await?;
        let identity = fresh.in_slot(self.add(&snapshot));
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        *shown = Arc::new(Shown { snapshot, identity });
        Ok(changes)
    }
}
