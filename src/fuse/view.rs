//! The content of a mount: nodes of trees by inode number, their attributes, entries
//! and content, and the control folder.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{Errno, FileAttr, FileType, INodeNo};

use super::attributes::{self, Owner, commit_time};
use super::control_dir::{self, ControlDir, ControlNode, ControlNodes, StatusSource};
use super::errno::OpError;
use super::inode::Inode;
use super::inode_map::Invalidation;
use super::snapshot_table::{LocatedNode, SnapshotTable};
use super::xattr::Xattr;
use crate::prefetch::{FileRead, PrefetchDriver, Prefetcher};
use crate::repo::{NEIGHBOUR_BYTES, Node, NodeIndex, RepoError, Snapshot};
use walgit_format::chunk::ByteRange;
use walgit_format::{Directory, Kind};

/// Cache lifetime in the kernel for immutable data.
pub(super) const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Mutable data is not cached.
const TTL_ZERO: Duration = Duration::ZERO;

/// The content of a mount: the mounted tree, other trees, and the control folder.
#[derive(Debug)]
pub(super) struct View {
    pub(super) snapshots: Arc<SnapshotTable>,
    pub(super) prefetcher: Prefetcher,
    control: ControlDir,
    owner: Owner,
    /// Whether the mount may move to another tree.
    may_move: bool,
}

/// A directory listing that can be read from any offset.
pub(super) struct Listing {
    dir_attr: FileAttr,
    entries: Entries,
}

enum Entries {
    Tree(Arc<View>, LocatedNode, Node, Arc<Directory>),
    Control(Vec<(Vec<u8>, FileAttr, Duration)>),
}

impl Listing {
    /// Passes entries from `offset` on to `add`, each with the offset of the next
    /// entry, until `add` returns true because the buffer is full.
    pub(super) fn for_each(
        &self,
        offset: u64,
        mut add: impl FnMut(&[u8], u64, &FileAttr, Duration) -> bool,
    ) {
        let dots: [&[u8]; 2] = [b".", b".."];
        for next in offset..2 {
            if add(dots[next as usize], next + 1, &self.dir_attr, TTL_MAX) {
                return;
            }
        }
        let first = offset.saturating_sub(2) as usize;
        let mut numbers = first as u64 + 3..;
        let mut add = |name: &[u8], attr: &FileAttr, ttl| {
            (numbers.next()).is_none_or(|next| add(name, next, attr, ttl))
        };
        // `any` stops at the first entry that does not fit.
        match &self.entries {
            Entries::Control(entries) => {
                let mut rest = entries.iter().skip(first);
                rest.any(|(name, attr, ttl)| add(name, attr, *ttl));
            }
            Entries::Tree(view, tree, node, directory) => {
                let mut rest = directory.entries().iter().enumerate().skip(first);
                rest.any(|(at, entry)| {
                    let child = tree.snapshot.entry(node, directory, at);
                    let attr = view.attr(tree.inode(child.index), tree, &child);
                    add(&entry.name, &attr, TTL_MAX)
                });
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
        driver: Option<PrefetchDriver>,
    ) -> Self {
        let snapshots = Arc::new(SnapshotTable::new(snapshot));
        View {
            control: ControlDir::new(&snapshots, status),
            snapshots,
            owner,
            may_move,
            prefetcher: Prefetcher::new(driver),
        }
    }

    /// Counts a lookup by the kernel; inode 0 stands for a missing entry. Not needed
    /// in a mount that never moves.
    pub(super) fn count_lookup(&self, inode: INodeNo) {
        if inode.0 != 0 && self.may_move {
            self.snapshots.count_lookup(Inode::decode(inode));
        }
    }

    /// Moves the mount to another tree; returns what the kernel must invalidate.
    pub(super) async fn move_to(&self, snapshot: Snapshot) -> Result<Vec<Invalidation>, RepoError> {
        let invalidations = self.snapshots.move_to(snapshot).await?;
        self.control.rebuild(&self.snapshots);
        Ok(invalidations)
    }

    /// The tree and the node of an inode; `None` for the control folder.
    async fn find(&self, inode: Inode) -> Result<Option<(LocatedNode, Node)>, OpError> {
        let Inode::Tree(slot, index) = inode else {
            return Ok(None);
        };
        let tree = self.snapshots.locate(slot, index).await?;
        let node = tree.snapshot.node(tree.index).await?;
        Ok(Some((tree, node)))
    }

    /// The path of a node below its mount, for error messages.
    pub(super) async fn path(&self, inode: Inode) -> Option<String> {
        let Inode::Tree(slot, index) = inode else {
            return Some(".walgit".into());
        };
        let tree = self.snapshots.locate(slot, index).await.ok()?;
        let mut path = match tree.inode(NodeIndex::ROOT) {
            Inode::ROOT => String::new(),
            _ => format!(".walgit/commits/{}", tree.snapshot.commit().id),
        };
        let step = |_: &Node, directory: &Arc<Directory>, at: usize| {
            path.push('/');
            path.push_str(&String::from_utf8_lossy(&directory.entries()[at].name));
        };
        tree.snapshot.descend(tree.index, step).await.ok()?;
        if path.is_empty() {
            path.push('/');
        }
        Some(path)
    }

    /// Attributes of a node of a tree.
    fn attr(&self, inode: Inode, tree: &LocatedNode, node: &Node) -> FileAttr {
        // The time of a file is that of the tree in which its inode first appeared.
        let dir_attr = match (inode, node.kind) {
            (_, Kind::Directory) | (Inode::Control(_), _) => None,
            (Inode::Tree(slot, _), _) => self.snapshots.time(slot),
        };
        let time = dir_attr.unwrap_or_else(|| commit_time(tree.snapshot.commit()));
        attributes::of_node(inode, node, time, self.owner)
    }

    /// A node of the control folder.
    fn control_node(&self, inode: Inode) -> Result<(Arc<ControlNodes>, ControlNode), OpError> {
        let nodes = self.control.nodes();
        let node = match inode {
            Inode::Control(number) => nodes.node(number).cloned(),
            Inode::Tree(..) => None,
        };
        Ok((nodes, node.ok_or(Errno::ESTALE)?))
    }

    /// Cache lifetime of entries in the control folder.
    fn control_ttl(&self) -> Duration {
        if self.may_move { TTL_ZERO } else { TTL_MAX }
    }

    /// Attributes of a control node, and their cache lifetime.
    fn control_attr(&self, inode: Inode) -> Result<(FileAttr, Duration), OpError> {
        let (nodes, node) = self.control_node(inode)?;
        let ttl = self.control_ttl();
        let folder = |time, ttl| (FileType::Directory, 0o555, 0, time, ttl);
        let file = |text: Bytes, time, ttl| {
            let size = text.len() as u64;
            (FileType::RegularFile, 0o444, size, time, ttl)
        };
        let (kind, perm, size, time, ttl) = match node {
            ControlNode::Folder(_, None) => folder(nodes.created, ttl),
            ControlNode::Folder(_, Some(history)) if history.is_complete() => {
                folder(history.updated(), ttl)
            }
            ControlNode::Folder(_, Some(history)) => folder(history.updated(), TTL_ZERO),
            ControlNode::Text(text) => file(text, nodes.created, ttl),
            ControlNode::Status => {
                let (time, text) = self.control.refresh_status();
                file(text, time, TTL_ZERO)
            }
        };
        let attr = attributes::of(inode, kind, perm, size, time, self.owner);
        Ok((attr, ttl))
    }

    pub(super) async fn attr_of(&self, inode: Inode) -> Result<(FileAttr, Duration), OpError> {
        match self.find(inode).await? {
            Some((tree, node)) => Ok((self.attr(inode, &tree, &node), TTL_MAX)),
            None => self.control_attr(inode),
        }
    }

    /// Attributes of the target of an entry in the control folder. Does not open
    /// trees, because there may be many.
    fn entry_attr(&self, inode: Inode) -> Result<(FileAttr, Duration), OpError> {
        let Inode::Tree(slot, _) = inode else {
            return self.control_attr(inode);
        };
        let time = self.snapshots.time(slot);
        // The time of a tree is unknown until it is opened for the first time.
        let ttl = time.map_or(TTL_ZERO, |_| self.control_ttl());
        let time = time.unwrap_or_else(|| self.control.nodes().created);
        let attr = attributes::of(inode, FileType::Directory, 0o755, 0, time, self.owner);
        Ok((attr, ttl))
    }

    /// A missing entry: inode number 0 makes the kernel cache that it does not exist.
    fn missing(&self, ttl: Duration) -> (FileAttr, Duration) {
        let (inode, time) = (Inode::Tree(0, NodeIndex(0)), SystemTime::UNIX_EPOCH);
        let attr = attributes::of(inode, FileType::RegularFile, 0, 0, time, self.owner);
        (attr, ttl)
    }

    pub(super) async fn lookup(
        &self,
        parent: Inode,
        name: &[u8],
    ) -> Result<(FileAttr, Duration), OpError> {
        let Some((tree, node)) = self.find(parent).await? else {
            return self.control_lookup(parent, name).await;
        };
        if node.kind == Kind::Submodule {
            return Ok(self.missing(TTL_MAX));
        }
        match tree.snapshot.lookup(&node, name).await? {
            Some(child) => {
                let inode = tree.inode(child.index);
                Ok((self.attr(inode, &tree, &child), TTL_MAX))
            }
            None if parent == Inode::ROOT && name == control_dir::NAME => {
                self.control_attr(Inode::Control(control_dir::ROOT))
            }
            None => Ok(self.missing(TTL_MAX)),
        }
    }

    async fn control_lookup(
        &self,
        parent: Inode,
        name: &[u8],
    ) -> Result<(FileAttr, Duration), OpError> {
        let Inode::Control(number) = parent else {
            return Ok(self.missing(TTL_ZERO));
        };
        self.control.add_tags(number, &self.snapshots).await?;
        let (nodes, folder) = self.control_node(parent)?;
        let found = match (nodes.find(number, name), folder) {
            (None, ControlNode::Folder(_, Some(history))) => history.find(name).await?,
            (found, _) => found,
        };
        found.map_or_else(
            || Ok(self.missing(TTL_ZERO)),
            |inode| self.entry_attr(inode),
        )
    }

    pub(super) async fn readlink(&self, inode: Inode) -> Result<Bytes, OpError> {
        let (tree, node) = self.find(inode).await?.ok_or(Errno::EINVAL)?;
        Ok(tree.snapshot.target(&node)?)
    }

    pub(super) async fn read(
        self: Arc<Self>,
        inode: Inode,
        task: u32,
        range: ByteRange,
    ) -> Result<Bytes, OpError> {
        let Some((tree, node)) = self.find(inode).await? else {
            let text = match self.control_node(inode)?.1 {
                ControlNode::Text(text) => text,
                ControlNode::Status => self.control.status().1,
                ControlNode::Folder(..) => return Err(Errno::EISDIR.into()),
            };
            let part = range.intersect(ByteRange::new(0, text.len() as u64));
            return Ok(text.slice(part.start() as usize..part.end() as usize));
        };
        self.prefetcher.record_read(&FileRead {
            task: u64::from(task),
            key: inode.encode().0,
            mounted: tree.is_mounted(),
            snapshot: &tree.snapshot,
            node: &node,
            range,
        });
        Ok(tree.snapshot.read(&node, range, NEIGHBOUR_BYTES).await?)
    }

    /// Reads a directory, so that its entries can be listed without waiting.
    pub(super) async fn listing(
        self: Arc<Self>,
        inode: Inode,
        task: u32,
    ) -> Result<Listing, OpError> {
        let dir_attr = self.attr_of(inode).await?.0;
        let entries = match self.find(inode).await? {
            None => Entries::Control(self.control_listing(inode).await?),
            Some((tree, node)) => {
                self.prefetcher.record_listing(u64::from(task), node.index);
                if node.kind == Kind::Submodule {
                    Entries::Control(Vec::new())
                } else {
                    let directory = tree.snapshot.directory(&node).await?;
                    Entries::Tree(self, tree, node, directory)
                }
            }
        };
        Ok(Listing { dir_attr, entries })
    }

    async fn control_listing(
        &self,
        inode: Inode,
    ) -> Result<Vec<(Vec<u8>, FileAttr, Duration)>, OpError> {
        if let Inode::Control(number) = inode {
            self.control.add_tags(number, &self.snapshots).await?;
        }
        let ControlNode::Folder(mut entries, history) = self.control_node(inode)?.1 else {
            return Err(Errno::ENOTDIR.into());
        };
        if let Some(history) = history {
            let all = Arc::make_mut(&mut entries);
            for (name, tree) in history.all().await {
                all.entry(name).or_insert(tree);
            }
        }
        let listed = entries.iter().map(|(name, inode)| {
            let (attr, ttl) = self.entry_attr(*inode)?;
            Ok((name.clone(), attr, ttl))
        });
        listed.collect()
    }

    pub(super) async fn xattr(&self, inode: Inode, name: &[u8]) -> Result<Vec<u8>, OpError> {
        let xattr = Xattr::from_name(name).ok_or(Errno::ENODATA)?;
        let value = match self.find(inode).await? {
            Some((tree, node)) => xattr.value(&tree.snapshot, &node).await?,
            None => None,
        };
        Ok(value.ok_or(Errno::ENODATA)?.into_bytes())
    }
}
