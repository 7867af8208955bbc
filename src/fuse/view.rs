//! The content of a mount: nodes of trees by inode number, their attributes, entries
//! and content, and the control folder.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{Errno, FileAttr, FileType, INodeNo};

use super::attributes::{self, Owner, commit_time};
use super::control::{self, Control, ControlNode, Nodes, StatusSource};
use super::errno::Failure;
use super::extended::Extended;
use super::identity::Change;
use super::inode::Inode;
use super::trees::{InTree, TreeStats, Trees};
use crate::prefetch::{Ahead, Guide, PrefetchStats, Reading};
use crate::repo::{NEIGHBOURS, Node, NodeIndex, RepoError, Snapshot};
use walgit_format::chunk::BlobId;
use walgit_format::chunk::ByteRange;
use walgit_format::{Directory, Kind};

/// Cache lifetime in the kernel for immutable data.
pub(super) const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// Mutable data is not cached.
const NEVER: Duration = Duration::ZERO;

/// The content of a mount: the mounted tree, other trees, and the control folder.
#[derive(Debug)]
pub(super) struct View {
    trees: Arc<Trees>,
    control: Control,
    owner: Owner,
    /// Whether the mount may move to another tree.
    may_move: bool,
    ahead: Ahead,
}

/// A node with its tree.
struct Found {
    tree: InTree,
    node: Node,
}

/// A directory listing that can be read from any offset.
pub(super) struct Listing {
    own: FileAttr,
    entries: Entries,
}

enum Entries {
    Tree(Arc<View>, Found, Arc<Directory>),
    Control(Vec<(Vec<u8>, FileAttr, Duration)>),
}

impl Listing {
    /// Passes entries from `offset` on to `add`, each with the offset of the next
    /// entry, until `add` returns true because the buffer is full.
    pub(super) fn tell(
        &self,
        offset: u64,
        mut add: impl FnMut(&[u8], u64, &FileAttr, Duration) -> bool,
    ) {
        let dots: [&[u8]; 2] = [b".", b".."];
        for next in offset..2 {
            if add(dots[next as usize], next + 1, &self.own, FOREVER) {
                return;
            }
        }
        let first = offset.saturating_sub(2) as usize;
        match &self.entries {
            Entries::Control(entries) => {
                for (at, (name, attr, ttl)) in entries.iter().enumerate().skip(first) {
                    if add(name, at as u64 + 3, attr, *ttl) {
                        return;
                    }
                }
            }
            Entries::Tree(view, found, directory) => {
                for (at, entry) in directory.entries().iter().enumerate().skip(first) {
                    let child = found.tree.snapshot.entry(&found.node, directory, at);
                    let inode = found.tree.inode(child.index);
                    let attr = view.attr(inode, &found.tree, &child);
                    if add(&entry.name, at as u64 + 3, &attr, FOREVER) {
                        return;
                    }
                }
            }
        }
    }
}

impl View {
    pub(super) fn new(
        snapshot: Snapshot,
        owner: Owner,
        may_move: bool,
        status: Arc<dyn StatusSource>,
        guide: Option<Guide>,
    ) -> Self {
        let trees = Arc::new(Trees::new(snapshot));
        View {
            control: Control::new(&trees, status),
            trees,
            owner,
            may_move,
            ahead: Ahead::new(guide),
        }
    }

    /// The mounted tree.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.trees.shown().snapshot.clone()
    }

    /// Number of detected walks.
    pub(super) fn walks(&self) -> u64 {
        self.ahead.walks()
    }

    /// The guide for prefetches, if enabled.
    pub(super) fn guide(&self) -> Option<&Guide> {
        self.ahead.guide()
    }

    pub(super) fn prefetch_stats(&self) -> Option<PrefetchStats> {
        self.ahead.stats()
    }

    pub(super) fn tree_stats(&self) -> TreeStats {
        self.trees.stats()
    }

    /// The heads that processes may still read from.
    pub(super) fn heads_in_use(&self) -> HashSet<BlobId> {
        self.trees.heads_in_use()
    }

    /// Counts a lookup by the kernel; inode 0 stands for a missing entry. Not needed
    /// in a mount that never moves.
    pub(super) fn held(&self, inode: INodeNo) {
        if inode.0 != 0 && self.may_move {
            self.trees.held(Inode::decode(inode));
        }
    }

    /// Subtracts `times` lookups of an inode that the kernel has forgotten.
    pub(super) fn forgotten(&self, inode: INodeNo, times: u64) {
        self.trees.forgotten(Inode::decode(inode), times);
    }

    /// Moves the mount to another tree; returns what the kernel must invalidate.
    pub(super) async fn move_to(&self, snapshot: Snapshot) -> Result<Vec<Change>, RepoError> {
        let changes = self.trees.move_to(snapshot).await?;
        self.control.renew(&self.trees);
        Ok(changes)
    }

    /// The tree and the node of an inode; `None` for the control folder.
    async fn find(&self, inode: Inode) -> Result<Option<Found>, Failure> {
        let Inode::Tree(slot, index) = inode else {
            return Ok(None);
        };
        let tree = self.trees.find(slot, index).await?;
        let node = tree.snapshot.node(tree.index).await?;
        Ok(Some(Found { tree, node }))
    }

    /// The path of a node below its mount, for error messages.
    pub(super) async fn path(&self, inode: Inode) -> Option<String> {
        let Inode::Tree(slot, index) = inode else {
            return Some(".walgit".into());
        };
        let tree = self.trees.find(slot, index).await.ok()?;
        let mut path = match tree.inode(NodeIndex::ROOT) {
            Inode::ROOT => String::new(),
            _ => format!(".walgit/commits/{}", tree.snapshot.commit().id),
        };
        let step = |_: &Node, directory: &Arc<Directory>, at: usize| {
            path.push('/');
            path.push_str(&String::from_utf8_lossy(&directory.entries()[at].name));
        };
        tree.snapshot.descend(tree.index, step).await.ok()?;
        Some(match path.is_empty() {
            true => "/".into(),
            false => path,
        })
    }

    /// Attributes of a node of a tree.
    fn attr(&self, inode: Inode, tree: &InTree, node: &Node) -> FileAttr {
        // The time of a file is that of the tree in which its inode first appeared.
        let own = match (inode, node.kind) {
            (_, Kind::Directory) | (Inode::Control(_), _) => None,
            (Inode::Tree(slot, _), _) => self.trees.time(slot),
        };
        let time = own.unwrap_or_else(|| commit_time(tree.snapshot.commit()));
        attributes::of_node(inode, node, time, self.owner)
    }

    /// A node of the control folder.
    fn control_node(&self, inode: Inode) -> Result<(Arc<Nodes>, ControlNode), Failure> {
        let gone = || Failure::Plain(Errno::ESTALE);
        let Inode::Control(number) = inode else {
            return Err(gone());
        };
        let nodes = self.control.nodes();
        let node = nodes.node(number).cloned().ok_or_else(gone)?;
        Ok((nodes, node))
    }

    /// Cache lifetime of entries in the control folder.
    fn control_ttl(&self) -> Duration {
        match self.may_move {
            true => NEVER,
            false => FOREVER,
        }
    }

    /// Attributes of a control node, and their cache lifetime.
    fn control_attr(&self, inode: Inode) -> Result<(FileAttr, Duration), Failure> {
        let of = |kind, perm, size, time| attributes::of(inode, kind, perm, size, time, self.owner);
        let (nodes, node) = self.control_node(inode)?;
        let ttl = self.control_ttl();
        Ok(match node {
            ControlNode::Folder(_) => (of(FileType::Directory, 0o555, 0, nodes.at), ttl),
            ControlNode::Commits(_, history) => {
                let ttl = match history.is_complete() {
                    true => ttl,
                    false => NEVER,
                };
                (of(FileType::Directory, 0o555, 0, history.at()), ttl)
            }
            ControlNode::Text(text) => {
                let size = text.len() as u64;
                (of(FileType::RegularFile, 0o444, size, nodes.at), ttl)
            }
            ControlNode::Status => {
                let (time, text) = self.control.look();
                let size = text.len() as u64;
                (of(FileType::RegularFile, 0o444, size, time), NEVER)
            }
        })
    }

    pub(super) async fn attr_of(&self, inode: Inode) -> Result<(FileAttr, Duration), Failure> {
        match self.find(inode).await? {
            Some(found) => Ok((self.attr(inode, &found.tree, &found.node), FOREVER)),
            None => self.control_attr(inode),
        }
    }

    /// Attributes of the target of an entry in the control folder. Does not open
    /// trees, because there may be many.
    fn led_to(&self, inode: Inode) -> Result<(FileAttr, Duration), Failure> {
        let Inode::Tree(slot, _) = inode else {
            return self.control_attr(inode);
        };
        let time = self.trees.time(slot);
        // The time of a tree is unknown until it is opened for the first time.
        let ttl = time.map_or(NEVER, |_| self.control_ttl());
        let time = time.unwrap_or_else(|| self.control.nodes().at);
        let attr = attributes::of(inode, FileType::Directory, 0o755, 0, time, self.owner);
        Ok((attr, ttl))
    }

    pub(super) async fn lookup(
        &self,
        parent: Inode,
        name: &[u8],
    ) -> Result<(FileAttr, Duration), Failure> {
        let missing = |ttl| {
            // Inode number 0 makes the kernel cache that the entry does not exist.
            let none = Inode::Tree(0, NodeIndex(0));
            let time = SystemTime::UNIX_EPOCH;
            let attr = attributes::of(none, FileType::RegularFile, 0, 0, time, self.owner);
            (attr, ttl)
        };
        let Some(found) = self.find(parent).await? else {
            return self.control_lookup(parent, name, missing(NEVER)).await;
        };
        if found.node.kind == Kind::Submodule {
            return Ok(missing(FOREVER));
        }
        let tree = &found.tree;
        match tree.snapshot.lookup(&found.node, name).await? {
            Some(node) => {
                let inode = tree.inode(node.index);
                Ok((self.attr(inode, tree, &node), FOREVER))
            }
            None if parent == Inode::ROOT && name == control::NAME => {
                self.control_attr(Inode::Control(control::ROOT))
            }
            None => Ok(missing(FOREVER)),
        }
    }

    async fn control_lookup(
        &self,
        parent: Inode,
        name: &[u8],
        missing: (FileAttr, Duration),
    ) -> Result<(FileAttr, Duration), Failure> {
        let Inode::Control(number) = parent else {
            return Ok(missing);
        };
        self.control.complete(number, &self.trees).await?;
        let (nodes, folder) = self.control_node(parent)?;
        let found = match (nodes.find(number, name), folder) {
            (None, ControlNode::Commits(_, history)) => history.find(name).await?,
            (found, _) => found,
        };
        found.map_or(Ok(missing), |inode| self.led_to(inode))
    }

    pub(super) async fn readlink(&self, inode: Inode) -> Result<Bytes, Failure> {
        match self.find(inode).await? {
            Some(found) => Ok(found.tree.snapshot.target(&found.node)?),
            None => Err(Failure::Plain(Errno::EINVAL)),
        }
    }

    pub(super) async fn read(
        self: Arc<Self>,
        inode: Inode,
        task: u32,
        range: ByteRange,
    ) -> Result<Bytes, Failure> {
        let Some(found) = self.find(inode).await? else {
            let text = match self.control_node(inode)?.1 {
                ControlNode::Text(text) => text,
                ControlNode::Status => self.control.status().1,
                ControlNode::Folder(_) | ControlNode::Commits(..) => {
                    return Err(Failure::Plain(Errno::EISDIR));
                }
            };
            let part = range.intersect(ByteRange::new(0, text.len() as u64));
            return Ok(text.slice(part.start() as usize..part.end() as usize));
        };
        let Found { tree, node } = found;
        self.ahead.reading(&Reading {
            task: u64::from(task),
            key: inode.encode().0,
            mounted: tree.is_mounted(),
            snapshot: &tree.snapshot,
            node: &node,
            range,
        });
        Ok(tree.snapshot.read(&node, range, NEIGHBOURS).await?)
    }

    /// Reads a directory, so that its entries can be listed without waiting.
    pub(super) async fn listing(
        self: Arc<Self>,
        inode: Inode,
        task: u32,
    ) -> Result<Listing, Failure> {
        let own = self.attr_of(inode).await?.0;
        let Some(found) = self.find(inode).await? else {
            let entries = Entries::Control(self.control_listing(inode).await?);
            return Ok(Listing { own, entries });
        };
        self.ahead.listing(u64::from(task), found.node.index);
        let entries = match found.node.kind {
            Kind::Submodule => Entries::Control(Vec::new()),
            _ => {
                let directory = found.tree.snapshot.directory(&found.node).await?;
                Entries::Tree(self, found, directory)
            }
        };
        Ok(Listing { own, entries })
    }

    async fn control_listing(
        &self,
        inode: Inode,
    ) -> Result<Vec<(Vec<u8>, FileAttr, Duration)>, Failure> {
        if let Inode::Control(number) = inode {
            self.control.complete(number, &self.trees).await?;
        }
        let entries = match self.control_node(inode)?.1 {
            ControlNode::Folder(entries) => entries,
            ControlNode::Commits(entries, history) => {
                let mut all = (*entries).clone();
                for (name, tree) in history.all().await {
                    all.entry(name).or_insert(tree);
                }
                Arc::new(all)
            }
            ControlNode::Text(_) | ControlNode::Status => {
                return Err(Failure::Plain(Errno::ENOTDIR));
            }
        };
        let listed = entries.iter().map(|(name, to)| {
            let (attr, ttl) = self.led_to(*to)?;
            Ok((name.clone(), attr, ttl))
        });
        listed.collect()
    }

    pub(super) async fn xattr(&self, inode: Inode, name: &[u8]) -> Result<Vec<u8>, Failure> {
        let Some(known) = Extended::named(name) else {
            return Err(Failure::Plain(Errno::ENODATA));
        };
        let value = match self.find(inode).await? {
            Some(found) => known.value(&found.tree.snapshot, &found.node).await?,
            None => None,
        };
        value
            .map(String::into_bytes)
            .ok_or(Failure::Plain(Errno::ENODATA))
    }
}
