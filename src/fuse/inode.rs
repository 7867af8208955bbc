//! Inode numbers: encode a tree and a node.

use fuser::INodeNo;

use crate::repo::NodeIndex;

/// Bits for the node number; a snapshot has fewer nodes.
const NODE_BITS: u32 = 40;

/// A node of one of the trees of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Inode {
    /// A node of the tree in this slot: see [`super::snapshot_table`]. Slot 0 holds the tree
    /// that was mounted first.
    Tree(usize, NodeIndex),
    /// A node of the `.walgit` folder.
    Control(usize),
}

impl Inode {
    /// The root of the mount: number 1, as required by FUSE.
    pub(super) const ROOT: Inode = Inode::Tree(0, NodeIndex::ROOT);

    /// Decodes an inode number. Every number is valid; a lookup determines whether
    /// the node exists.
    pub(super) fn decode(number: INodeNo) -> Self {
        let node = number.0 & ((1 << NODE_BITS) - 1);
        match number.0 >> NODE_BITS {
            0 => Inode::Tree(0, NodeIndex(node)),
            1 => Inode::Control(node as usize),
            slot => Inode::Tree(slot as usize - 1, NodeIndex(node)),
        }
    }

    /// Encodes the inode number.
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
    fn encoded_inodes_decode_to_the_same_inodes() {
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
