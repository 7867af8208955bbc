//! Inode numbers: which tree, and which node of it.

use fuser::INodeNo;

use crate::repo::NodeIndex;

/// Bits of a number that tell the node; a snapshot holds fewer nodes.
const NODE_BITS: u32 = 40;

/// A node of one of the trees that a mount shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Inode {
    /// Of the tree in this slot: see [`super::trees`]. Slot 0 holds the tree
    /// that was mounted first.
    Tree(usize, NodeIndex),
    /// Of the `.walgit` folder.
    Control(usize),
}

impl Inode {
    /// The root of the mount: number 1, as FUSE wants.
    pub(super) const ROOT: Inode = Inode::Tree(0, NodeIndex::ROOT);

    /// From the kernel's number. Every number means something; whether there
    /// is such a node shows when it is looked for.
    pub(super) fn decode(number: INodeNo) -> Self {
        let node = number.0 & ((1 << NODE_BITS) - 1);
        match number.0 >> NODE_BITS {
            0 => Inode::Tree(0, NodeIndex(node)),
            1 => Inode::Control(node as usize),
            slot => Inode::Tree(slot as usize - 1, NodeIndex(node)),
        }
    }

    /// As the kernel's number.
    pub(super) fn encode(self) -> INodeNo {
        let (slot, node) = match self {
            Inode::Tree(0, node) => (0, node.0),
            Inode::Control(number) => (1, number as u64),
            Inode::Tree(slot, node) => (slot as u64 + 1, node.0),
        };
        INodeNo(slot << NODE_BITS | node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_kernel() {
        let node = NodeIndex((1 << 40) - 1);
        for inode in [
            Inode::Tree(0, NodeIndex(1)),
            Inode::Tree(0, node),
            Inode::Control(7),
            Inode::Tree(1, NodeIndex(1)),
            Inode::Tree(9000, node),
        ] {
            assert_eq!(Inode::decode(inode.encode()), inode);
        }
        assert_eq!(Inode::ROOT.encode(), INodeNo::ROOT);
    }
}
