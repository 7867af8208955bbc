//! The trees of a mount, each in a slot: the mounted tree, earlier ones, and those
//! under `.walgit`.
//!
//! The slot number is part of inode numbers. It refers to the same tree for as long
//! as the kernel may hold such an inode, and is never reused. Each tree has a single
//! slot (two if it is both mounted and under `.walgit`, because the kernel requires
//! that a directory has one parent). A slot stores the location of its tree. The tree
//! is opened on first access, and the few most recently used trees are kept open.
//!
//! Every move drops the slots that are no longer visible and of which the kernel
//! holds no inode, so the memory of a mount that follows a branch does not grow over
//! time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::attributes::commit_time;
use super::identity::{Change, Identity};
use super::inode::Inode;
use crate::repo::{Charge, Kept, NodeIndex, RepoError, Repository, Snapshot, Target};
use walgit_format::Commit;
use walgit_format::chunk::{BlobId, ChunkHash};
use walgit_format::head::{CommitId, GitId};

/// Bytes of trees to keep besides the mounted one and the most recently used one, for
/// trees that occupy memory.
const OPENED: u64 = 32 << 20;
/// Most trees to keep, however small: trees of past heads are not useful for long.
const MOST_OPENED: usize = 8;
/// Most slots to keep, even if the kernel holds their inodes. Beyond this limit, the
/// oldest slots that are not visible are dropped, and files open in them become
/// stale.
const MAX_SLOTS: usize = 1 << 17;

/// All trees of a mount.
#[derive(Debug)]
pub(super) struct Trees {
    slots: RwLock<Slots>,
    opened: Kept<usize, Snapshot>,
    shown: RwLock<Arc<Shown>>,
}

/// Number of trees of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeStats {
    /// Trees with inode numbers: the mounted one, branches, tags and commits under
    /// `.walgit`, and earlier heads with files in use.
    pub known: u64,
    /// Trees in memory besides the mounted one.
    pub opened: u64,
}

/// The mounted tree.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) snapshot: Snapshot,
    identity: Identity,
}

#[derive(Debug, Default)]
struct Slots {
    by_number: BTreeMap<usize, Slot>,
    by_tree: HashMap<Tree, usize>,
    next: usize,
    /// Number of moves to another tree.
    moves: u64,
    /// Memory charge for the slots.
    charge: Charge,
}

#[derive(Debug)]
struct Slot {
    tree: Tree,
    /// Location of the tree: in the newest head that contains it.
    target: Target,
    /// Time of its commit, once known.
    time: OnceLock<SystemTime>,
    /// Nodes whose inodes the kernel holds, with their lookup counts.
    held: Mutex<HashMap<NodeIndex, u64>>,
    /// Value of `moves` when the slot was last visible.
    used: u64,
}

/// Bytes of memory per slot, including one or two tree keys.
const SLOT: u64 = (size_of::<Slot>() + 2 * size_of::<Tree>()) as u64 + 128;

/// Most bytes for all slots; beyond this, names are left out.
const SLOTS: u64 = 32 << 20;

/// Identity of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Tree {
    /// A tree that is or was mounted.
    Mounted(Content),
    /// A tree under `.walgit`.
    Beside(Content),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Content {
    /// A commit in a head, with the hash of its root.
    Commit(CommitId, ChunkHash),
    /// A commit in an archive, regardless of the head.
    Archived(GitId),
    /// Any other target.
    Elsewhere(Target),
}

impl Content {
    fn of(snapshot: &Snapshot) -> Self {
        let repository = snapshot.repository();
        if repository.is_implied() {
            Content::at(repository.target())
        } else {
            let commit = snapshot.commit();
            Content::Commit(commit.id.clone(), commit.root.hash)
        }
    }

    fn at(target: &Target) -> Self {
        match target {
            Target::Archived { commit, .. } => Content::Archived(commit.clone()),
            target => Content::Elsewhere(target.clone()),
        }
    }

    /// Whether `commit` of a head has this content.
    fn is(&self, commit: &Commit) -> bool {
        match self {
            Content::Commit(id, root) => commit.id == *id && commit.root.hash == *root,
            Content::Archived(_) | Content::Elsewhere(_) => true,
        }
    }
}

impl Tree {
    fn content(&self) -> &Content {
        match self {
            Tree::Mounted(content) | Tree::Beside(content) => content,
        }
    }
}

impl Slot {
    fn held(&self) -> MutexGuard<'_, HashMap<NodeIndex, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Returns the slot of a tree, or adds one.
    fn take(&mut self, tree: Tree, target: Target, time: Option<SystemTime>) -> usize {
        let known = self.by_tree.get(&tree).copied();
        let number = known.unwrap_or(self.next);
        let moves = self.moves;
        let slot = self.by_number.entry(number).or_insert_with(|| Slot {
            tree: tree.clone(),
            target: target.clone(),
            time: OnceLock::new(),
            held: Mutex::default(),
            used: moves,
        });
        slot.used = moves;
        // An earlier head may have been deleted.
        slot.target = target;
        if let Some(time) = time {
            slot.time.get_or_init(|| time);
        }
        if known.is_none() {
            self.by_tree.insert(tree, number);
            self.next += 1;
            self.charge.force(SLOT);
        }
        number
    }

    /// Drops slots that are not `needed` and of which the kernel holds no inode. If
    /// more than `most` remain, also drops the oldest slots that the kernel holds
    /// inodes of.
    fn trim(&mut self, needed: &HashSet<usize>, most: usize) {
        let moves = self.moves;
        let idle = |number: usize, slot: &Slot| slot.used < moves && !needed.contains(&number);
        let mut dropped: Vec<usize> = Vec::new();
        let mut held: Vec<usize> = Vec::new();
        for (number, slot) in &self.by_number {
            if idle(*number, slot) {
                match slot.held().is_empty() {
                    true => dropped.push(*number),
                    false => held.push(*number),
                }
            }
        }
        let too_many = (self.by_number.len() - dropped.len()).saturating_sub(most);
        dropped.extend(held.into_iter().take(too_many));
        for number in dropped {
            if let Some(slot) = self.by_number.remove(&number) {
                self.by_tree.remove(&slot.tree);
                self.charge.less(SLOT);
            }
        }
    }
}

/// The tree of an inode, and its node number in that tree.
pub(super) struct InTree {
    pub(super) snapshot: Snapshot,
    pub(super) index: NodeIndex,
    /// Set if this is the mounted tree.
    shown: Option<Arc<Shown>>,
    slot: usize,
}

impl InTree {
    /// Whether this is the mounted tree.
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
    /// Creates the trees of a mount of `snapshot`, which takes slot 0.
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let identity = Identity::of_slot(0, snapshot.commit().nodes);
        let slots = Slots {
            charge: snapshot.repository().access().account.nothing(),
            ..Slots::default()
        };
        let trees = Trees {
            slots: RwLock::new(slots),
            opened: Kept::new(OPENED).at_most(MOST_OPENED),
            shown: RwLock::new(Arc::new(Shown {
                snapshot: snapshot.clone(),
                identity,
            })),
        };
        trees.add_mounted(&snapshot);
        trees
    }

    /// The mounted tree.
    pub(super) fn shown(&self) -> Arc<Shown> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }

    fn add_mounted(&self, snapshot: &Snapshot) -> usize {
        self.take(Tree::Mounted(Content::of(snapshot)), snapshot)
    }

    /// Returns the slot of an open tree under `.walgit`.
    pub(super) fn add(&self, snapshot: &Snapshot) -> usize {
        self.take(Tree::Beside(Content::of(snapshot)), snapshot)
    }

    fn take(&self, tree: Tree, snapshot: &Snapshot) -> usize {
        let target = snapshot.repository().target().clone();
        let time = Some(commit_time(snapshot.commit()));
        self.slots_mut(|slots| slots.take(tree, target, time))
    }

    /// Whether another slot fits the memory limits. Otherwise, names are left out.
    pub(super) fn has_room(&self) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.charge.has_room(SLOT, SLOTS)
    }

    /// Returns the slot of a tree that is not open yet.
    pub(super) fn add_later(&self, target: &Target) -> usize {
        let tree = Tree::Beside(Content::at(target));
        self.slots_mut(|slots| slots.take(tree, target.clone(), None))
    }

    /// Returns the slot of a tree that is not open yet, with a known time.
    pub(super) fn add_dated(&self, target: &Target, at: SystemTime) -> usize {
        let tree = Tree::Beside(Content::at(target));
        self.slots_mut(|slots| slots.take(tree, target.clone(), Some(at)))
    }

    fn slots_mut<T>(&self, work: impl FnOnce(&mut Slots) -> T) -> T {
        work(&mut self.slots.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn slot<T>(&self, number: usize, of: impl FnOnce(&Slot) -> T) -> Option<T> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.by_number.get(&number).map(of)
    }

    /// Time of the commit of a slot, if known.
    pub(super) fn time(&self, slot: usize) -> Option<SystemTime> {
        self.slot(slot, |slot| slot.time.get().copied())?
    }

    fn keep(&self, number: usize, snapshot: &Snapshot) {
        let weight = |snapshot: &Snapshot| snapshot.repository().weight();
        self.opened.keep(number, snapshot.clone(), weight);
    }

    /// Opens the tree in a slot.
    pub(super) async fn open(&self, number: usize) -> Result<Snapshot, RepoError> {
        let at = self.slot(number, |slot| {
            (slot.tree.content().clone(), slot.target.clone())
        });
        let (content, target) = at.ok_or(RepoError::NoNode(number as u64))?;
        let shown = self.shown();
        let repository = shown.snapshot.repository();
        if *repository.target() == target
            && let Some(snapshot) = find(repository, &content)
        {
            return Ok(snapshot);
        }
        if let Some(opened) = self.opened.get(&number) {
            return Ok(opened);
        }
        let opened = match repository.open_relative(&target).await {
            // Retry without the open trees that are not in use.
            Err(RepoError::Memory { .. }) => {
                self.opened.clear();
                repository.open_relative(&target).await?
            }
            opened => opened?,
        };
        let snapshot = find(&opened, &content).ok_or(RepoError::NoNode(number as u64))?;
        self.slot(number, |slot| {
            slot.time.get_or_init(|| commit_time(snapshot.commit()));
        });
        self.keep(number, &snapshot);
        Ok(snapshot)
    }

    /// Finds the current tree of a node in a slot: the mounted tree if it still
    /// contains the node.
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

    /// Moves the mount to another tree; returns what the kernel must invalidate.
    pub(super) async fn move_to(&self, snapshot: Snapshot) -> Result<Vec<Change>, RepoError> {
        let before = self.shown();
        let (fresh, changes) = (before.identity.after(&before.snapshot, &snapshot)).await?;
        let account = &snapshot.repository().access().account;
        let charge = account.charge(fresh.weight())?;
        // Files of the previous tree are likely to be open.
        let old = Tree::Mounted(Content::of(&before.snapshot));
        let old = self.slots_mut(|slots| {
            slots.moves += 1;
            slots.by_tree.get(&old).copied()
        });
        if let Some(old) = old {
            self.keep(old, &before.snapshot);
        }
        let identity = fresh.in_slot(self.add_mounted(&snapshot), charge);
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        *shown = Arc::new(Shown { snapshot, identity });
        Ok(changes)
    }

    /// Drops slots that are not visible, except for those of the mounted tree and
    /// those in `needed`.
    pub(super) fn trim(&self, mut needed: HashSet<usize>) {
        needed.extend(self.shown().identity.slots());
        self.slots_mut(|slots| slots.trim(&needed, MAX_SLOTS));
    }

    /// Counts a lookup of an inode by the kernel.
    pub(super) fn held(&self, inode: Inode) {
        if let Some((number, index)) = counted(inode) {
            self.slot(number, |slot| *slot.held().entry(index).or_default() += 1);
        }
    }

    /// Subtracts `times` lookups of an inode that the kernel has forgotten.
    pub(super) fn forgotten(&self, inode: Inode, times: u64) {
        if let Some((number, index)) = counted(inode) {
            self.slot(number, |slot| {
                if let Entry::Occupied(mut held) = slot.held().entry(index) {
                    *held.get_mut() = held.get().saturating_sub(times);
                    if *held.get() == 0 {
                        held.remove();
                    }
                }
            });
        }
    }

    /// The heads that processes may still read from: the head of the mounted tree,
    /// those reachable through `.walgit`, and those of files that are no longer
    /// visible but held by the kernel. The kernel holds a file for as long as a
    /// process has it open.
    pub(super) fn heads_in_use(&self) -> HashSet<BlobId> {
        let shown = self.shown();
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let is_used = |number: usize, slot: &Slot| {
            let is_gone = |index: &NodeIndex| shown.identity.node_of(number, *index).is_none();
            slot.used == slots.moves || slot.held().keys().any(is_gone)
        };
        let used = (slots.by_number.iter()).filter(|(number, slot)| is_used(**number, slot));
        let targets = used.map(|(_, slot)| &slot.target);
        let targets = targets.chain([shown.snapshot.repository().target()]);
        targets.filter_map(Target::blob).collect()
    }

    pub(super) fn stats(&self) -> TreeStats {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        TreeStats {
            known: slots.by_number.len() as u64,
            opened: self.opened.len() as u64,
        }
    }
}

/// The slot and the node of an inode with a lookup count. The root of the mount has
/// none, because the kernel always holds it.
fn counted(inode: Inode) -> Option<(usize, NodeIndex)> {
    match inode {
        Inode::ROOT | Inode::Control(_) => None,
        Inode::Tree(slot, index) => Some((slot, index)),
    }
}

/// The tree of a repository with this content.
fn find(repository: &Repository, content: &Content) -> Option<Snapshot> {
    let mut commits = repository.head().commits.iter();
    let number = commits.position(|commit| content.is(commit))?;
    repository.snapshot(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use walgit_format::chunk::BlobId;

    fn archived(n: u8) -> (Tree, Target) {
        let target = Target::Archived {
            blob: BlobId::from_bytes([n; 32]),
            root: None,
            commit: GitId(vec![n; 20]),
        };
        (Tree::Beside(Content::at(&target)), target)
    }

    fn take(slots: &mut Slots, n: u8) -> usize {
        let (tree, target) = archived(n);
        slots.take(tree, target, None)
    }

    #[test]
    fn a_tree_has_one_slot_and_its_newest_place() {
        let mut slots = Slots::default();
        let first = take(&mut slots, 1);
        let (tree, _) = archived(1);
        let moved = Target::Archived {
            blob: BlobId::from_bytes([9; 32]),
            root: None,
            commit: GitId(vec![1; 20]),
        };
        assert_eq!(slots.take(tree.clone(), moved.clone(), None), first);
        assert_eq!(slots.by_number[&first].target, moved);
        let mounted = Tree::Mounted(tree.content().clone());
        assert_ne!(slots.take(mounted, moved, None), first);
    }

    #[test]
    fn what_is_shown_or_held_stays_and_a_number_is_never_used_again() {
        let mut slots = Slots::default();
        let [shown, held, gone] = [1, 2, 3].map(|n| take(&mut slots, n));
        slots.by_number[&held].held().insert(NodeIndex(1), 1);
        slots.moves += 1;
        let fresh = take(&mut slots, 4);
        slots.trim(&HashSet::from([shown]), MAX_SLOTS);
        let left: Vec<_> = slots.by_number.keys().copied().collect();
        assert_eq!(left, [shown, held, fresh]);
        assert!(take(&mut slots, 3) > fresh, "{gone} is not used again");
        slots.moves += 1;
        slots.trim(&HashSet::from([shown]), 1);
        let left: Vec<_> = slots.by_number.keys().copied().collect();
        assert_eq!(left, [shown], "there are too many");
        assert_eq!(slots.by_tree.len(), 1);
    }
}
