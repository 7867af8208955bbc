//! Maps nodes of the mounted tree to inodes after the mount has moved.
//!
//! Unchanged nodes keep their inode, and with it the kernel's cached names,
//! attributes and pages. A directory keeps its identity as long as its path exists; a
//! file or link only while its content is unchanged, so that an open file keeps its
//! version.
//!
//! An unchanged subtree has consecutive numbers in both trees (numbers are in
//! preorder), so a few runs describe the mapping.

use super::inode::Inode;
use crate::offload::Pace;
use crate::repo::{Charge, Node, NodeIndex, RepoError, Snapshot, same_content};
use walgit_format::{Content, Entry};

/// Consecutive nodes of the mounted tree that are also consecutive in the tree of a
/// slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Number of the first node in the mounted tree.
    node: u64,
    len: u64,
    slot: usize,
    /// Number of the first node in the tree of the slot.
    first: u64,
}

/// Inodes of the nodes of a mounted tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    /// Sorted by number in the mounted tree, without gaps.
    runs: Vec<Run>,
    /// The same runs, sorted by slot and number in the slot.
    by_inode: Vec<Run>,
    /// Memory charge for both.
    charge: Charge,
}

/// An invalidation that the kernel must perform after a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
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
/// in any number of places; beyond this limit or [`MAX_TOLD`], every node except for
/// the root gets a new inode.
const MAX_COMPARED: usize = 1 << 22;
/// Most runs of a tree, and most names to invalidate one by one.
const MAX_TOLD: usize = 1 << 18;

impl Identity {
    /// The identity of a tree whose nodes map one to one to a slot.
    pub(super) fn of_slot(slot: usize, nodes: u64) -> Self {
        let run = Run {
            node: 1,
            len: nodes,
            slot,
            first: 1,
        };
        Identity {
            runs: vec![run],
            by_inode: vec![run],
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

    fn push(&mut self, run: Run) {
        if let Some(last) = self.runs.last_mut() {
            let follows = last.node + last.len == run.node
                && last.slot == run.slot
                && last.first + last.len == run.first;
            if follows {
                last.len += run.len;
                return;
            }
        }
        self.runs.push(run);
    }

    /// Assigns to the `len` nodes from `node` on the inodes of the `len` nodes from
    /// `before` on in `old`.
    fn inherit(&mut self, old: &Identity, node: u64, before: u64, len: u64) {
        let end = before + len;
        let start = old.runs.partition_point(|run| run.node + run.len <= before);
        for run in old.runs[start..].iter().take_while(|run| run.node < end) {
            let from = run.node.max(before);
            let to = (run.node + run.len).min(end);
            self.push(Run {
                node: node + (from - before),
                len: to - from,
                slot: run.slot,
                first: run.first + (from - run.node),
            });
        }
    }

    fn finish(mut self) -> Self {
        self.runs.sort_unstable_by_key(|run| run.node);
        let mut merged = Identity {
            charge: std::mem::take(&mut self.charge),
            ..Identity::default()
        };
        for run in std::mem::take(&mut self.runs) {
            merged.push(run);
        }
        merged.by_inode.clone_from(&merged.runs);
        (merged.by_inode).sort_unstable_by_key(|run| (run.slot, run.first));
        merged
    }

    /// Computes the identity of `new`, the successor of `old`, without its slot, and
    /// the invalidations for the kernel. Reads only directories that changed.
    pub(super) async fn after(
        &self,
        old: &Snapshot,
        new: &Snapshot,
    ) -> Result<(Fresh, Vec<Change>), RepoError> {
        let mut next = Identity::default();
        let mut changes = Vec::new();
        let same_root = old.commit().root.hash == new.commit().root.hash;
        if same_root {
            let nodes = new.commit().nodes;
            next.inherit(self, 1, 1, nodes);
            return Ok((Fresh(next), changes));
        }
        let mut pending = vec![(old.root(), new.root())];
        let (mut pace, mut compared) = (Pace::default(), 0);
        while let Some((old_node, new_node)) = pending.pop() {
            let (before, after) = (
                old.directory(&old_node).await?,
                new.directory(&new_node).await?,
            );
            let both = before.entries().len() + after.entries().len();
            pace.steps(both).await;
            compared += both;
            next.inherit(self, new_node.index.0, old_node.index.0, 1);
            let own = self.inode_of(old_node.index).map_or(0, |i| i.encode().0);
            changes.push(Change::Listing { directory: own });
            let mut forget = |entry: &Entry| {
                changes.push(Change::Name {
                    directory: own,
                    name: entry.name.to_vec(),
                });
            };
            let number = |node: &Node, entry: &Entry| node.index.0 + entry.offset;
            let fresh = |entry: &Entry| {
                let node = number(&new_node, entry);
                Run {
                    node,
                    len: entry.nodes(),
                    slot: FRESH,
                    first: node,
                }
            };
            let (mut a, mut b) = (0, 0);
            loop {
                let (one, other) = (before.entries().get(a), after.entries().get(b));
                let order = match (one, other) {
                    (None, None) => break,
                    (Some(_), None) => std::cmp::Ordering::Less,
                    (None, Some(_)) => std::cmp::Ordering::Greater,
                    (Some(one), Some(other)) => one.name.cmp(&other.name),
                };
                match (order, one, other) {
                    (std::cmp::Ordering::Less, Some(gone), _) => {
                        forget(gone);
                        a += 1;
                    }
                    (std::cmp::Ordering::Greater, _, Some(came)) => {
                        forget(came);
                        next.push(fresh(came));
                        b += 1;
                    }
                    (_, Some(one), Some(other)) => {
                        if same_content((one, &before), (other, &after)) {
                            let (node, was) = (number(&new_node, other), number(&old_node, one));
                            next.inherit(self, node, was, other.nodes());
                        } else if is_directory(one) && is_directory(other) {
                            let old_child = old.entry(&old_node, &before, a);
                            pending.push((old_child, new.entry(&new_node, &after, b)));
                        } else {
                            forget(one);
                            next.push(fresh(other));
                        }
                        a += 1;
                        b += 1;
                    }
                    _ => break,
                }
            }
            let told = next.runs.len().max(changes.len());
            if compared > MAX_COMPARED || told > MAX_TOLD {
                return self.replaced(old, new).await;
            }
        }
        Ok((Fresh(next), changes))
    }

    /// The same if every node except for the root is new.
    async fn replaced(
        &self,
        old: &Snapshot,
        new: &Snapshot,
    ) -> Result<(Fresh, Vec<Change>), RepoError> {
        let mut next = Identity::default();
        next.inherit(self, 1, 1, 1);
        let len = new.commit().nodes - 1;
        if len > 0 {
            next.push(Run {
                node: 2,
                len,
                slot: FRESH,
                first: 2,
            });
        }
        let root = old.root();
        let directory = self.inode_of(root.index).map_or(0, |i| i.encode().0);
        let before = old.directory(&root).await?;
        let names = before.entries().iter().map(|entry| Change::Name {
            directory,
            name: entry.name.to_vec(),
        });
        let listing = Change::Listing { directory };
        Ok((Fresh(next), names.chain([listing]).collect()))
    }
}

/// Placeholder for the slot of a new tree.
const FRESH: usize = usize::MAX;

/// The identity of a tree without a slot.
pub(super) struct Fresh(Identity);

impl Fresh {
    /// Bytes of memory that the identity takes.
    pub(super) fn weight(&self) -> u64 {
        (self.0.runs.len() * 2 * size_of::<Run>()) as u64
    }

    /// The identity of the tree in this slot, with its memory charge.
    pub(super) fn in_slot(mut self, slot: usize, charge: Charge) -> Identity {
        self.0.charge = charge;
        for run in &mut self.0.runs {
            if run.slot == FRESH {
                run.slot = slot;
            }
        }
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
        let mut old = Identity::default();
        old.push(Run {
            node: 1,
            len: 5,
            slot: 0,
            first: 1,
        });
        old.push(Run {
            node: 6,
            len: 2,
            slot: 3,
            first: 6,
        });
        old.push(Run {
            node: 8,
            len: 4,
            slot: 0,
            first: 20,
        });
        let old = old.finish();
        let mut new = Identity::default();
        // Nodes 4..=9 of the old tree are 2..=7 of the new one.
        new.inherit(&old, 2, 4, 6);
        new.push(Run {
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
