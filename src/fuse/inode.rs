//! Inode numbers: which tree, and which node of it.

use fuser::INodeNo;

use crate::repo::NodeIndex;

/// Bits of a number that tell the node; a snapshot holds fewer nodes.
const NODE_BITS: u32 = 40;

/// A node of one of the trees that a mount shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Inode {
    /// Of the commit that is mounted. Its root is number 1, as FUSE wants.
    Mounted(NodeIndex),
    /// Of the `.walgit` folder.
    Control(usize),
    /// Of another commit of the head, shown under `.walgit`.
    Commit(usize, NodeIndex),
}

impl Inode {
    /// From the kernel's number. Every number means something; whether there
    /// is such a node shows when it is looked for.
    pub(super) fn decode(number: INodeNo) -> Self {
        let node = number.0 & ((1 << NODE_BITS) - 1);
        match number.0 >> NODE_BITS {
            0 => Inode::Mounted(NodeIndex(node)),
            1 => Inode::Control(node as usize),
            slot => Inode::Commit(slot as usize - 2, NodeIndex(node)),
        }
    }

    /// As the kernel's number.
    pub(super) fn encode(self) -> INodeNo {
        let (slot, node) = match self {
            Inode::Mounted(node) => (0, node.0),
            Inode::Control(number) => (1, number as u64),
            Inode::Commit(commit, node) => (commit as u64 + 2, node.0),
        };
        INodeNo(slot << NODE_BITS | node)
    }

    /// The same tree, another node.
    pub(super) fn sibling(self, node: NodeIndex) -> Self {
        match self {
            Inode::Commit(commit, _) => Inode::Commit(commit, node),
            Inode::Mounted(_) | Inode::Control(_) => Inode::Mounted(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_kernel() {
        let node = NodeIndex((1 << 40) - 1);
        for inode in [
            Inode::Mounted(NodeIndex(1)),
            Inode::Mounted(node),
            Inode::Control(7),
            Inode::Commit(0, NodeIndex(1)),
            Inode::Commit(9000, node),
        ] {
            assert_eq!(Inode::decode(inode.encode()), inode);
        }
        assert_eq!(Inode::Mounted(NodeIndex::ROOT).encode(), INodeNo::ROOT);
    }
}
