//! What a mount shows: nodes of trees by inode number, their attributes,
//! entries and content, and the control folder beside them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{Errno, FileAttr, FileType};
use tokio::sync::Semaphore;

use super::attributes::{self, Owner};
use super::control::{self, Control, ControlNode, StatusSource};
use super::errno::Failure;
use super::extended::Extended;
use super::inode::Inode;
use crate::chunk::ByteRange;
use crate::prefetch::Readahead;
use crate::repo::{Commit, Directory, Kind, Node, NodeIndex, Snapshot};

/// How long the kernel may keep what never changes.
pub(super) const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// What changes is not kept.
const NEVER: Duration = Duration::ZERO;
/// Stored bytes of neighbours that come with a chunk that has to be fetched:
/// at 20 Mbit/s they take 50 ms, a round trip to a far gateway.
const NEIGHBOURS: u64 = 128 << 10;
/// Files whose reads are watched for a sequence.
const WATCHED_FILES: usize = 256;
/// Files below this size come whole with their first chunk.
const WATCHED_SIZE: u64 = 1 << 20;
/// Read-aheads under way at once in one mount; with windows of at most 8 MiB
/// this bounds their memory.
const READAHEADS: usize = 4;

/// What a mount shows: the tree of a commit, and the control folder.
#[derive(Debug)]
pub(super) struct View {
    snapshot: Snapshot,
    control: Control,
    owner: Owner,
    mounted: SystemTime,
    watched: quick_cache::sync::Cache<u64, Arc<Mutex<Readahead>>>,
    readaheads: Arc<Semaphore>,
}

/// A node of some tree, with the tree.
struct Found {
    inode: Inode,
    snapshot: Snapshot,
    node: Node,
}

/// A directory, ready to be told to the kernel from any offset.
pub(super) struct Listing {
    own: FileAttr,
    entries: Entries,
}

enum Entries {
    Tree(Found, Arc<Directory>, Owner),
    Control(Vec<(Vec<u8>, FileAttr, Duration)>),
}

impl Listing {
    /// Gives entries from `offset` on to `add`, with the offset that follows
    /// each, until it says that there is no more room.
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
            Entries::Tree(found, directory, owner) => {
                let commit = found.snapshot.commit();
                for (at, entry) in directory.entries().iter().enumerate().skip(first) {
                    let child = found.snapshot.entry(&found.node, directory, at);
                    let inode = found.inode.sibling(child.index);
                    let attr = attributes::of_node(inode, &child, commit, *owner);
                    if add(&entry.name, at as u64 + 3, &attr, FOREVER) {
                        return;
                    }
                }
            }
        }
    }
}

impl View {
    pub(super) fn new(snapshot: Snapshot, owner: Owner, status: Arc<dyn StatusSource>) -> Self {
        View {
            control: Control::new(&snapshot, status),
            snapshot,
            owner,
            mounted: SystemTime::now(),
            watched: quick_cache::sync::Cache::new(WATCHED_FILES),
            readaheads: Arc::new(Semaphore::new(READAHEADS)),
        }
    }

    /// The commit that is mounted.
    pub(super) fn commit(&self) -> &Commit {
        self.snapshot.commit()
    }

    /// The tree that an inode belongs to, and its node there; `None` for the
    /// control folder.
    async fn find(&self, inode: Inode) -> Result<Option<Found>, Failure> {
        let (snapshot, index) = match inode {
            Inode::Mounted(index) => (self.snapshot.clone(), index),
            Inode::Commit(commit, index) => (self.snapshot.repository().snapshot(commit)?, index),
            Inode::Control(_) => return Ok(None),
        };
        let node = snapshot.node(index).await?;
        Ok(Some(Found {
            inode,
            snapshot,
            node,
        }))
    }

    /// The path of a node below its mount, for a message.
    pub(super) async fn path(&self, inode: Inode) -> Option<String> {
        let (snapshot, index, above) = match inode {
            Inode::Mounted(index) => (self.snapshot.clone(), index, String::new()),
            Inode::Commit(commit, index) => {
                let snapshot = self.snapshot.repository().snapshot(commit).ok()?;
                let above = format!(".walgit/commits/{}", snapshot.commit().id);
                (snapshot, index, above)
            }
            Inode::Control(_) => return Some(".walgit".into()),
        };
        let mut path = above;
        let mut node = snapshot.root();
        while node.index != index {
            let directory = snapshot.directory(&node).await.ok()?;
            let offset = index.0.checked_sub(node.index.0)?;
            let at = directory.holding(offset)?;
            path.push('/');
            path.push_str(&String::from_utf8_lossy(&directory.entries()[at].name));
            node = snapshot.entry(&node, &directory, at);
        }
        Some(match path.is_empty() {
            true => "/".into(),
            false => path,
        })
    }

    fn control_node(&self, inode: Inode) -> Result<(usize, &ControlNode), Failure> {
        let node = match inode {
            Inode::Control(number) => self.control.node(number).map(|node| (number, node)),
            Inode::Mounted(_) | Inode::Commit(..) => None,
        };
        node.ok_or(Failure::Plain(Errno::ESTALE))
    }

    fn attr(&self, found: &Found) -> FileAttr {
        let commit = found.snapshot.commit();
        attributes::of_node(found.inode, &found.node, commit, self.owner)
    }

    /// Attributes of a control node, and how long they may be kept.
    fn control_attr(&self, inode: Inode) -> Result<(FileAttr, Duration), Failure> {
        let of = |kind, perm, size, time| attributes::of(inode, kind, perm, size, time, self.owner);
        Ok(match self.control_node(inode)?.1 {
            ControlNode::Folder(_) => (of(FileType::Directory, 0o555, 0, self.mounted), FOREVER),
            ControlNode::Text(text) => {
                let size = text.len() as u64;
                (
                    of(FileType::RegularFile, 0o444, size, self.mounted),
                    FOREVER,
                )
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
            Some(found) => Ok((self.attr(&found), FOREVER)),
            None => self.control_attr(inode),
        }
    }

    pub(super) async fn lookup(
        &self,
        parent: Inode,
        name: &[u8],
    ) -> Result<(FileAttr, Duration), Failure> {
        let missing = || {
            // A number of 0 tells the kernel to remember that there is none.
            let none = Inode::Mounted(NodeIndex(0));
            let attr = attributes::of(none, FileType::RegularFile, 0, 0, self.mounted, self.owner);
            (attr, FOREVER)
        };
        let Some(found) = self.find(parent).await? else {
            let (folder, _) = self.control_node(parent)?;
            return match self.control.find(folder, name) {
                Some(inode) => self.attr_of(inode).await,
                None => Ok(missing()),
            };
        };
        if found.node.kind == Kind::Submodule {
            return Ok(missing());
        }
        match found.snapshot.lookup(&found.node, name).await? {
            Some(node) => {
                let inode = parent.sibling(node.index);
                let child = Found {
                    inode,
                    node,
                    ..found
                };
                Ok((self.attr(&child), FOREVER))
            }
            None if parent == Inode::Mounted(NodeIndex::ROOT) && name == control::NAME => {
                self.control_attr(Inode::Control(control::ROOT))
            }
            None => Ok(missing()),
        }
    }

    pub(super) async fn readlink(&self, inode: Inode) -> Result<Bytes, Failure> {
        match self.find(inode).await? {
            Some(found) => Ok(found.snapshot.target(&found.node)?),
            None => Err(Failure::Plain(Errno::EINVAL)),
        }
    }

    pub(super) async fn read(
        self: Arc<Self>,
        inode: Inode,
        range: ByteRange,
    ) -> Result<Bytes, Failure> {
        let Some(found) = self.find(inode).await? else {
            let text = match self.control_node(inode)?.1 {
                ControlNode::Text(text) => text.clone(),
                ControlNode::Status => self.control.status().1,
                ControlNode::Folder(_) => return Err(Failure::Plain(Errno::EISDIR)),
            };
            let part = range.intersect(ByteRange::new(0, text.len() as u64));
            return Ok(text.slice(part.start() as usize..part.end() as usize));
        };
        let Found { snapshot, node, .. } = found;
        if node.size > WATCHED_SIZE {
            self.read_ahead(inode, &snapshot, &node, range);
        }
        Ok(snapshot.read(&node, range, NEIGHBOURS).await?)
    }

    /// Fetches what a sequential reader will ask for next, beside its read.
    fn read_ahead(&self, inode: Inode, snapshot: &Snapshot, node: &Node, range: ByteRange) {
        let key = inode.encode().0;
        let watched = match self.watched.get(&key) {
            Some(watched) => watched,
            None => {
                let fresh = Arc::new(Mutex::new(Readahead::default()));
                self.watched.insert(key, fresh.clone());
                fresh
            }
        };
        let ahead = {
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.note(range, node.size)
        };
        let (Some(ahead), Ok(permit)) = (ahead, self.readaheads.clone().try_acquire_owned()) else {
            return;
        };
        let (snapshot, node) = (snapshot.clone(), node.clone());
        tokio::spawn(async move {
            let _permit = permit;
            // A failure shows again, and is told, when the bytes are asked for.
            let _ = snapshot.read(&node, ahead, ahead.len()).await;
        });
    }

    /// What a directory holds, ready to be told without waiting.
    pub(super) async fn listing(&self, inode: Inode) -> Result<Listing, Failure> {
        let own = self.attr_of(inode).await?.0;
        let Some(found) = self.find(inode).await? else {
            let (_, ControlNode::Folder(entries)) = self.control_node(inode)? else {
                return Err(Failure::Plain(Errno::ENOTDIR));
            };
            let mut listed = Vec::with_capacity(entries.len());
            for (name, to) in entries {
                let (attr, ttl) = self.attr_of(*to).await?;
                listed.push((name.clone(), attr, ttl));
            }
            return Ok(Listing {
                own,
                entries: Entries::Control(listed),
            });
        };
        let entries = match found.node.kind {
            Kind::Submodule => Entries::Control(Vec::new()),
            _ => {
                let directory = found.snapshot.directory(&found.node).await?;
                Entries::Tree(found, directory, self.owner)
            }
        };
        Ok(Listing { own, entries })
    }

    pub(super) async fn xattr(&self, inode: Inode, name: &[u8]) -> Result<Vec<u8>, Failure> {
        let Some(known) = Extended::named(name) else {
            return Err(Failure::Plain(Errno::ENODATA));
        };
        let value = match self.find(inode).await? {
            Some(found) => known.value(&found.snapshot, &found.node).await?,
            None => None,
        };
        value
            .map(String::into_bytes)
            .ok_or(Failure::Plain(Errno::ENODATA))
    }

    /// Names of the attributes that a node has, each with a NUL after it. What
    /// is listed can be read: copying tools complain where it cannot.
    pub(super) async fn xattrs(&self, inode: Inode) -> Result<Vec<u8>, Failure> {
        let mut names = Vec::new();
        if let Some(found) = self.find(inode).await? {
            for known in Extended::ALL {
                if known.is_on(&found.snapshot, &found.node) {
                    names.extend_from_slice(known.name().as_bytes());
                    names.push(0);
                }
            }
        }
        Ok(names)
    }
}
