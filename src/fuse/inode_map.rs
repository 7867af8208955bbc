//! Maps nodes of the mounted tree to inodes after the mount has moved.
//!
//! Unchanged nodes keep their inode, and with it the kernel's cached names,
//! attributes and pages. A directory keeps its inode as long as its path exists; a
//! file or link only while its content is unchanged, so that an open file keeps its
//! version.
//!
//! An unchanged subtree has consecutive numbers in both trees (numbers are in
//! preorder), so a few runs describe the mapping.

use itertools::EitherOrBoth::{Both, Left, Right};
use itertools::Itertools as _;

use super::inode::Inode;
use crate::offload::CooperativeYield;
use crate::repo::{Charge, Node, NodeIndex, RepoError, Snapshot, same_content};
use walgit_format::{Content, Entry};

/// Consecutive nodes of the mounted tree that are also consecutive in the tree of a
/// slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NodeRun {
    /// Number of the first node in the mounted tree.
    node: u64,
    len: u64,
    slot: usize,
    /// Number of the first node in the tree of the slot.
    first: u64,
}

impl NodeRun {
    /// Nodes with the same numbers in the tree of the slot.
    fn identical(node: u64, len: u64, slot: usize) -> Self {
        NodeRun {
            node,
            len,
            slot,
            first: node,
        }
    }
}

/// Inodes of the nodes of a mounted tree.
#[derive(Clone, Debug, Default)]
pub(super) struct InodeMap {
    /// Sorted by number in the mounted tree, without gaps.
    runs: Vec<NodeRun>,
    /// The same runs, sorted by slot and number in the slot.
    by_inode: Vec<NodeRun>,
    /// Memory charge for both.
    charge: Charge,
}

/// An invalidation that the kernel must perform after a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Invalidation {
    /// A name in a directory was added, removed or replaced.
    Name {
        /// The inode number of the directory.
        directory: u64,
        /// The name.
        name: Vec<u8>,
    },
    /// The listing of a directory changed.
    Listing {
        /// The inode number of the directory.
        directory: u64,
    },
}

/// Most directory entries to compare per move. Trees with shared subtrees can differ
/// in any number of places; beyond this limit or [`MAX_RUNS`], every node except for
/// the root gets a new inode.
const MAX_COMPARED_ENTRIES: usize = 1 << 22;
/// Most runs of a tree, and most names to invalidate one by one.
const MAX_RUNS: usize = 1 << 18;
/// Placeholder for the slot of a new tree.
const NEW_SLOT: usize = usize::MAX;

impl InodeMap {
    /// The map of a tree whose nodes map one to one to a slot.
    pub(super) fn of_slot(slot: usize, nodes: u64) -> Self {
        let runs = vec![NodeRun::identical(1, nodes, slot)];
        InodeMap {
            by_inode: runs.clone(),
            runs,
            charge: Charge::default(),
        }
    }

    /// The inode of a node of the mounted tree.
    pub(super) fn inode_of(&self, index: NodeIndex) -> Option<Inode> {
        let after = self.runs.partition_point(|run| run.node <= index.0);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let offset = index.0 - run.node;
        (offset < run.len).then(|| Inode::Tree(run.slot, NodeIndex(run.first + offset)))
    }

    /// The node of the mounted tree with this inode, if any.
    pub(super) fn node_of(&self, slot: usize, index: NodeIndex) -> Option<NodeIndex> {
        let key = (slot, index.0);
        let after = (self.by_inode).partition_point(|run| (run.slot, run.first) <= key);
        let run = self.by_inode.get(after.checked_sub(1)?)?;
        let offset = index.0.checked_sub(run.first)?;
        (run.slot == slot && offset < run.len).then(|| NodeIndex(run.node + offset))
    }

    /// The slots of its inodes.
    pub(super) fn slots(&self) -> impl Iterator<Item = usize> {
        self.runs.iter().map(|run| run.slot)
    }

    fn inode_number(&self, directory: &Node) -> u64 {
        (self.inode_of(directory.index)).map_or(0, |inode| inode.encode().0)
    }

    fn push(&mut self, run: NodeRun) {
        if let Some(last) = self.runs.last_mut()
            && last.node + last.len == run.node
            && last.slot == run.slot
            && last.first + last.len == run.first
        {
            last.len += run.len;
        } else {
            self.runs.push(run);
        }
    }

    /// Assigns to the `len` nodes from `node` on the inodes of the `len` nodes from
    /// `before` on in `old`.
    fn inherit(&mut self, old: &InodeMap, node: u64, before: u64, len: u64) {
        let end = before + len;
        let start = old.runs.partition_point(|run| run.node + run.len <= before);
        for run in old.runs[start..].iter().take_while(|run| run.node < end) {
            let from = run.node.max(before);
            let to = (run.node + run.len).min(end);
            self.push(NodeRun {
                node: node + (from - before),
                len: to - from,
                slot: run.slot,
                first: run.first + (from - run.node),
            });
        }
    }

    fn finish(self) -> Self {
        let mut merged = InodeMap {
            charge: self.charge,
            ..InodeMap::default()
        };
        for run in self.runs.into_iter().sorted_unstable_by_key(|run| run.node) {
            merged.push(run);
        }
        merged.by_inode.clone_from(&merged.runs);
        (merged.by_inode).sort_unstable_by_key(|run| (run.slot, run.first));
        merged
    }

    /// Computes the map of `new`, the successor of `old`, without its slot, and the
    /// invalidations for the kernel. Reads only directories that changed.
    pub(super) async fn successor(
        &self,
        old: &Snapshot,
        new: &Snapshot,
    ) -> Result<(UnplacedMap, Vec<Invalidation>), RepoError> {
        let mut next = InodeMap::default();
        let mut invalidations = Vec::new();
        if old.commit().root.hash == new.commit().root.hash {
            next.inherit(self, 1, 1, new.commit().nodes);
            return Ok((UnplacedMap(next), invalidations));
        }
        let mut pending = vec![(old.root(), new.root())];
        let (mut pace, mut compared) = (CooperativeYield::default(), 0);
        while let Some((old_node, new_node)) = pending.pop() {
            let (before, after) = (
                old.directory(&old_node).await?,
                new.directory(&new_node).await?,
            );
            let entries = before.entries().len() + after.entries().len();
            pace.steps(entries).await;
            compared += entries;
            next.inherit(self, new_node.index.0, old_node.index.0, 1);
            let directory = self.inode_number(&old_node);
            invalidations.push(Invalidation::Listing { directory });
            let mut invalidate = |entry: &Entry| {
                invalidations.push(Invalidation::Name {
                    directory,
                    name: entry.name.to_vec(),
                });
            };
            let number = |node: &Node, entry: &Entry| node.index.0 + entry.offset;
            let fresh = |entry: &Entry| {
                NodeRun::identical(number(&new_node, entry), entry.nodes(), NEW_SLOT)
            };
            let old_entries = before.entries().iter().enumerate();
            let new_entries = after.entries().iter().enumerate();
            for pair in old_entries.merge_join_by(new_entries, |a, b| a.1.name.cmp(&b.1.name)) {
                match pair {
                    Left((_, removed)) => invalidate(removed),
                    Right((_, added)) => {
                        invalidate(added);
                        next.push(fresh(added));
                    }
                    Both((_, a), (_, b)) if same_content((a, &before), (b, &after)) => {
                        let (node, was) = (number(&new_node, b), number(&old_node, a));
                        next.inherit(self, node, was, b.nodes());
                    }
                    Both((at_a, a), (at_b, b)) if is_directory(a) && is_directory(b) => {
                        let old_child = old.entry(&old_node, &before, at_a);
                        pending.push((old_child, new.entry(&new_node, &after, at_b)));
                    }
                    Both((_, a), (_, b)) => {
                        invalidate(a);
                        next.push(fresh(b));
                    }
                }
            }
            let runs = next.runs.len().max(invalidations.len());
            if compared > MAX_COMPARED_ENTRIES || runs > MAX_RUNS {
                return self.replaced(old, new).await;
            }
        }
        Ok((UnplacedMap(next), invalidations))
    }

    /// The same if every node except for the root is new.
    async fn replaced(
        &self,
        old: &Snapshot,
        new: &Snapshot,
    ) -> Result<(UnplacedMap, Vec<Invalidation>), RepoError> {
        let mut next = InodeMap::default();
        next.inherit(self, 1, 1, 1);
        let len = new.commit().nodes - 1;
        if len > 0 {
            next.push(NodeRun::identical(2, len, NEW_SLOT));
        }
        let root = old.root();
        let directory = self.inode_number(&root);
        let before = old.directory(&root).await?;
        let names = before.entries().iter().map(|entry| Invalidation::Name {
            directory,
            name: entry.name.to_vec(),
        });
        let listing = Invalidation::Listing { directory };
        Ok((UnplacedMap(next), names.chain([listing]).collect()))
    }
}

/// The map of a tree that has no slot yet.
pub(super) struct UnplacedMap(InodeMap);

impl UnplacedMap {
    /// Bytes of memory that the map takes.
    pub(super) fn weight(&self) -> u64 {
        (self.0.runs.len() * 2 * size_of::<NodeRun>()) as u64
    }

    /// The map of the tree in this slot, with its memory charge.
    pub(super) fn in_slot(mut self, slot: usize, charge: Charge) -> InodeMap {
        self.0.charge = charge;
        let new_runs = self.0.runs.iter_mut().filter(|run| run.slot == NEW_SLOT);
        new_runs.for_each(|run| run.slot = slot);
        self.0.finish()
    }
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry.content, Content::Directory { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_runs_are_cut_and_joined() {
        let mut old = InodeMap::default();
        old.push(NodeRun {
            node: 1,
            len: 5,
            slot: 0,
            first: 1,
        });
        old.push(NodeRun {
            node: 6,
            len: 2,
            slot: 3,
            first: 6,
        });
        old.push(NodeRun {
            node: 8,
            len: 4,
            slot: 0,
            first: 20,
        });
        let old = old.finish();
        let mut new = InodeMap::default();
        // Nodes 4..=9 of the old tree are 2..=7 of the new one.
        new.inherit(&old, 2, 4, 6);
        new.push(NodeRun {
            node: 8,
            len: 1,
            slot: 4,
            first: 8,
        });
        new.inherit(&old, 1, 1, 1);
        let new = new.finish();
        let inode = |node: u64| new.inode_of(NodeIndex(node)).unwrap();
        let expected = [
            (0, 1),
            (0, 4),
            (0, 5),
            (3, 6),
            (3, 7),
            (0, 20),
            (0, 21),
            (4, 8),
        ];
        for (at, (slot, first)) in expected.into_iter().enumerate() {
            let node = at as u64 + 1;
            assert_eq!(inode(node), Inode::Tree(slot, NodeIndex(first)));
            assert_eq!(new.node_of(slot, NodeIndex(first)), Some(NodeIndex(node)));
        }
        assert_eq!(new.inode_of(NodeIndex(9)), None);
        assert_eq!(new.node_of(0, NodeIndex(2)), None, "it is gone");
        assert_eq!(new.runs.len(), 5);
    }
}
