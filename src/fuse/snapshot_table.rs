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
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::attributes::commit_time;
use super::inode::Inode;
use super::inode_map::{InodeMap, Invalidation};
use crate::repo::{Charge, NodeIndex, RepoError, Repository, Snapshot, Target, WeightedLru};
use walgit_format::Commit;
use walgit_format::chunk::{BlobId, ChunkHash};
use walgit_format::head::{CommitId, GitId};

/// Bytes of trees to keep besides the mounted one and the most recently used one, for
/// trees that occupy memory.
const MAX_OPEN_BYTES: u64 = 32 << 20;
/// Most trees to keep, however small: trees of past heads are not useful for long.
const MAX_OPEN_TREES: usize = 8;
/// Most slots to keep, even if the kernel holds their inodes. Beyond this limit, the
/// oldest slots that are not visible are dropped, and files open in them become
/// stale.
const MAX_SLOTS: usize = 1 << 17;
/// Bytes of memory per slot, including one or two tree keys.
const SLOT_BYTES: u64 = (size_of::<Slot>() + 2 * size_of::<TreeKey>()) as u64 + 128;
/// Most bytes for all slots; beyond this, names are left out.
const MAX_SLOT_BYTES: u64 = 32 << 20;

/// All trees of a mount.
#[derive(Debug)]
pub(super) struct SnapshotTable {
    slots: RwLock<Slots>,
    opened: WeightedLru<usize, Snapshot>,
    current: RwLock<Arc<Current>>,
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
pub(super) struct Current {
    pub(super) snapshot: Snapshot,
    inodes: InodeMap,
}

#[derive(Debug, Default)]
struct Slots {
    by_number: BTreeMap<usize, Slot>,
    by_tree: HashMap<TreeKey, usize>,
    next: usize,
    /// Number of moves to another tree.
    moves: u64,
    /// Memory charge for the slots.
    charge: Charge,
}

#[derive(Debug)]
struct Slot {
    tree: TreeKey,
    /// Location of the tree: in the newest head that contains it.
    target: Target,
    /// Time of its commit, once known.
    time: OnceLock<SystemTime>,
    /// Nodes whose inodes the kernel holds, with their lookup counts.
    lookups: Mutex<HashMap<NodeIndex, u64>>,
    /// Value of `moves` when the slot was last visible.
    visible_at: u64,
}

/// Identity of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TreeKey {
    /// Whether the tree is or was mounted, rather than shown under `.walgit`.
    mounted: bool,
    content: TreeContent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum TreeContent {
    /// A commit in a head, with the hash of its root.
    Commit(CommitId, ChunkHash),
    /// A commit in an archive, regardless of the head.
    Archived(GitId),
    /// Any other target.
    Target(Target),
}

impl TreeContent {
    fn of(snapshot: &Snapshot) -> Self {
        if snapshot.repository().is_derived() {
            return TreeContent::at(snapshot.repository().target());
        }
        let commit = snapshot.commit();
        TreeContent::Commit(commit.id.clone(), commit.root.hash)
    }

    fn at(target: &Target) -> Self {
        match target {
            Target::Archived { commit, .. } => TreeContent::Archived(commit.clone()),
            target => TreeContent::Target(target.clone()),
        }
    }

    /// The tree of a repository with this content.
    fn find_in(&self, repository: &Repository) -> Option<Snapshot> {
        let is_this = |commit: &Commit| match self {
            TreeContent::Commit(id, root) => commit.id == *id && commit.root.hash == *root,
            TreeContent::Archived(_) | TreeContent::Target(_) => true,
        };
        let number = repository.head().commits.iter().position(is_this)?;
        repository.snapshot(number).ok()
    }
}

impl Slots {
    /// Returns the slot of a tree, or adds one.
    fn add(&mut self, tree: TreeKey, target: Target, time: Option<SystemTime>) -> usize {
        let known = self.by_tree.get(&tree).copied();
        let number = known.unwrap_or(self.next);
        let slot = self.by_number.entry(number).or_insert_with(|| Slot {
            tree: tree.clone(),
            target: target.clone(),
            time: OnceLock::new(),
            lookups: Mutex::default(),
            visible_at: self.moves,
        });
        slot.visible_at = self.moves;
        // An earlier head may have been deleted.
        slot.target = target;
        if let Some(time) = time {
            slot.time.get_or_init(|| time);
        }
        if known.is_none() {
            self.by_tree.insert(tree, number);
            self.next += 1;
            self.charge.force(SLOT_BYTES);
        }
        number
    }

    /// Returns the slot of an open tree.
    fn add_open(&mut self, mounted: bool, snapshot: &Snapshot) -> usize {
        let content = TreeContent::of(snapshot);
        let target = snapshot.repository().target().clone();
        let time = commit_time(snapshot.commit());
        self.add(TreeKey { mounted, content }, target, Some(time))
    }

    /// Drops slots that are not `needed` and of which the kernel holds no inode. If
    /// more than `max_slots` remain, also drops the oldest slots that the kernel holds
    /// inodes of.
    fn trim(&mut self, needed: &HashSet<usize>, max_slots: usize) {
        let moves = self.moves;
        let is_idle =
            |(number, slot): &(&usize, &Slot)| slot.visible_at < moves && !needed.contains(number);
        let idle = self.by_number.iter().filter(is_idle);
        let (mut dropped, held): (Vec<_>, Vec<_>) =
            idle.partition(|(_, slot)| slot.lookups.lock().is_empty());
        let excess = (self.by_number.len() - dropped.len()).saturating_sub(max_slots);
        dropped.extend(held.into_iter().take(excess));
        let dropped: Vec<usize> = dropped.into_iter().map(|(number, _)| *number).collect();
        for number in dropped {
            if let Some(slot) = self.by_number.remove(&number) {
                self.by_tree.remove(&slot.tree);
                self.charge.less(SLOT_BYTES);
            }
        }
    }
}

/// The tree of an inode, and its node number in that tree.
pub(super) struct LocatedNode {
    pub(super) snapshot: Snapshot,
    pub(super) index: NodeIndex,
    /// Set if this is the mounted tree.
    current: Option<Arc<Current>>,
    slot: usize,
}

impl LocatedNode {
    /// Whether the node is in the mounted tree.
    pub(super) fn is_mounted(&self) -> bool {
        self.current.is_some()
    }

    /// The inode of another node of the same tree.
    pub(super) fn inode(&self, index: NodeIndex) -> Inode {
        let current = self.current.as_ref();
        let mounted = current.and_then(|current| current.inodes.inode_of(index));
        mounted.unwrap_or(Inode::Tree(self.slot, index))
    }
}

impl SnapshotTable {
    /// Creates the table of a mount of `snapshot`, which takes slot 0.
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let mut slots = Slots {
            charge: snapshot.repository().access().account.nothing(),
            ..Slots::default()
        };
        slots.add_open(true, &snapshot);
        let inodes = InodeMap::of_slot(0, snapshot.commit().nodes);
        SnapshotTable {
            slots: RwLock::new(slots),
            opened: WeightedLru::new(MAX_OPEN_BYTES).at_most(MAX_OPEN_TREES),
            current: RwLock::new(Arc::new(Current { snapshot, inodes })),
        }
    }

    /// The mounted tree.
    pub(super) fn current(&self) -> Arc<Current> {
        self.current.read().clone()
    }

    /// Returns the slot of an open tree under `.walgit`.
    pub(super) fn add(&self, snapshot: &Snapshot) -> usize {
        self.slots.write().add_open(false, snapshot)
    }

    /// Returns the slot of a tree under `.walgit` that is not open yet, with the time of
    /// its commit if known.
    pub(super) fn add_unopened(&self, target: &Target, time: Option<SystemTime>) -> usize {
        let tree = TreeKey {
            mounted: false,
            content: TreeContent::at(target),
        };
        self.slots.write().add(tree, target.clone(), time)
    }

    /// Whether another slot fits the memory limits. Otherwise, names are left out.
    pub(super) fn has_capacity(&self) -> bool {
        self.slots
            .read()
            .charge
            .can_charge(SLOT_BYTES, MAX_SLOT_BYTES)
    }

    fn slot<T>(&self, number: usize, get: impl FnOnce(&Slot) -> T) -> Option<T> {
        self.slots.read().by_number.get(&number).map(get)
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
        let no_node = || RepoError::NoNode(number as u64);
        let location = self.slot(number, |slot| {
            (slot.tree.content.clone(), slot.target.clone())
        });
        let (content, target) = location.ok_or_else(no_node)?;
        let current = self.current();
        let repository = current.snapshot.repository();
        if *repository.target() == target
            && let Some(snapshot) = content.find_in(repository)
        {
            return Ok(snapshot);
        }
        if let Some(opened) = self.opened.get(&number) {
            return Ok(opened);
        }
        let opened = match repository.open_sibling(&target).await {
            // Retry without the open trees that are not in use.
            Err(RepoError::Memory { .. }) => {
                self.opened.clear();
                repository.open_sibling(&target).await?
            }
            opened => opened?,
        };
        let snapshot = content.find_in(&opened).ok_or_else(no_node)?;
        self.slot(number, |slot| {
            slot.time.get_or_init(|| commit_time(snapshot.commit()));
        });
        self.keep(number, &snapshot);
        Ok(snapshot)
    }

    /// Finds the current tree of a node in a slot: the mounted tree if it still
    /// contains the node.
    pub(super) async fn locate(
        &self,
        slot: usize,
        index: NodeIndex,
    ) -> Result<LocatedNode, RepoError> {
        let current = self.current();
        let (snapshot, index, current) = match current.inodes.node_of(slot, index) {
            Some(index) => (current.snapshot.clone(), index, Some(current)),
            None => (self.open(slot).await?, index, None),
        };
        Ok(LocatedNode {
            snapshot,
            index,
            current,
            slot,
        })
    }

    /// Moves the mount to another tree; returns what the kernel must invalidate.
    pub(super) async fn move_to(&self, snapshot: Snapshot) -> Result<Vec<Invalidation>, RepoError> {
        let before = self.current();
        let (map, invalidations) = before.inodes.successor(&before.snapshot, &snapshot).await?;
        let account = &snapshot.repository().access().account;
        let charge = account.charge(map.weight())?;
        // Files of the previous tree are likely to be open.
        let old = TreeKey {
            mounted: true,
            content: TreeContent::of(&before.snapshot),
        };
        let (old, new) = {
            let mut slots = self.slots.write();
            slots.moves += 1;
            let old = slots.by_tree.get(&old).copied();
            (old, slots.add_open(true, &snapshot))
        };
        if let Some(old) = old {
            self.keep(old, &before.snapshot);
        }
        let inodes = map.in_slot(new, charge);
        *self.current.write() = Arc::new(Current { snapshot, inodes });
        Ok(invalidations)
    }

    /// Drops slots that are not visible, except for those of the mounted tree and
    /// those in `needed`.
    pub(super) fn trim(&self, mut needed: HashSet<usize>) {
        needed.extend(self.current().inodes.slots());
        self.slots.write().trim(&needed, MAX_SLOTS);
    }

    /// Counts a lookup of an inode by the kernel.
    pub(super) fn count_lookup(&self, inode: Inode) {
        if let Some((number, index)) = counted(inode) {
            self.slot(number, |slot| {
                *slot.lookups.lock().entry(index).or_default() += 1;
            });
        }
    }

    /// Subtracts `times` lookups of an inode that the kernel has forgotten.
    pub(super) fn forget(&self, inode: Inode, times: u64) {
        if let Some((number, index)) = counted(inode) {
            self.slot(number, |slot| {
                if let Entry::Occupied(mut lookups) = slot.lookups.lock().entry(index) {
                    *lookups.get_mut() = lookups.get().saturating_sub(times);
                    if *lookups.get() == 0 {
                        lookups.remove();
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
        let current = self.current();
        let slots = self.slots.read();
        let is_used = |(number, slot): &(&usize, &Slot)| {
            let is_removed = |index: &NodeIndex| current.inodes.node_of(**number, *index).is_none();
            slot.visible_at == slots.moves || slot.lookups.lock().keys().any(is_removed)
        };
        let used = slots.by_number.iter().filter(is_used);
        let targets = used.map(|(_, slot)| &slot.target);
        let targets = targets.chain([current.snapshot.repository().target()]);
        targets.filter_map(Target::blob).collect()
    }

    pub(super) fn stats(&self) -> TreeStats {
        TreeStats {
            known: self.slots.read().by_number.len() as u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn archived(blob: u8, commit: u8) -> (TreeKey, Target) {
        let target = Target::Archived {
            blob: BlobId::from_bytes([blob; 32]),
            root: None,
            commit: GitId(vec![commit; 20]),
        };
        let content = TreeContent::at(&target);
        let mounted = false;
        (TreeKey { mounted, content }, target)
    }

    fn add(slots: &mut Slots, n: u8) -> usize {
        let (tree, target) = archived(n, n);
        slots.add(tree, target, None)
    }

    #[test]
    fn a_tree_has_one_slot_with_its_newest_location() {
        let mut slots = Slots::default();
        let first = add(&mut slots, 1);
        let (tree, moved) = archived(9, 1);
        assert_eq!(slots.add(tree.clone(), moved.clone(), None), first);
        assert_eq!(slots.by_number[&first].target, moved);
        let mounted = TreeKey {
            mounted: true,
            ..tree
        };
        assert_ne!(slots.add(mounted, moved, None), first);
    }

    #[test]
    fn visible_and_held_slots_stay_and_numbers_are_never_reused() {
        let mut slots = Slots::default();
        let [visible, held, dropped] = [1, 2, 3].map(|n| add(&mut slots, n));
        let lookups = &slots.by_number[&held].lookups;
        lookups.lock().insert(NodeIndex(1), 1);
        slots.moves += 1;
        let fresh = add(&mut slots, 4);
        slots.trim(&HashSet::from([visible]), MAX_SLOTS);
        let left: Vec<_> = slots.by_number.keys().copied().collect();
        assert_eq!(left, [visible, held, fresh]);
        assert!(add(&mut slots, 3) > fresh, "{dropped} is not reused");
        slots.moves += 1;
        slots.trim(&HashSet::from([visible]), 1);
        let left: Vec<_> = slots.by_number.keys().copied().collect();
        assert_eq!(left, [visible], "there are too many");
        assert_eq!(slots.by_tree.len(), 1);
    }
}
