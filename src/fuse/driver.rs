//! One function for each operation of the kernel.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::answer::{Answerer, Outcomes};
use super::attributes::{self, Owner};
use super::control::{self, Control, ControlNode};
use super::errno::Failure;
use super::inode::Inode;
use crate::chunk::ByteRange;
use crate::prefetch::Readahead;
use crate::repo::{Directory, Kind, Node, NodeIndex, Snapshot};

/// How long the kernel may keep what never changes.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// What changes is not kept.
const NEVER: Duration = Duration::ZERO;
/// Largest read the kernel is asked for, in bytes.
const MAX_READ: u32 = 1 << 20;
/// Stored bytes of neighbours that come with a chunk that has to be fetched:
/// at 20 Mbit/s they take 50 ms, a round trip to a far gateway.
const NEIGHBOURS: u64 = 128 << 10;
/// Requests that the kernel keeps in flight for read-ahead.
const BACKGROUND: u16 = 64;
/// Files whose reads are watched for a sequence.
const WATCHED_FILES: usize = 256;
/// Files below this size come whole with their first chunk.
const WATCHED_SIZE: u64 = 1 << 20;
/// Read-aheads under way at once in one mount; with windows of at most 8 MiB
/// this bounds their memory.
const READAHEADS: usize = 4;

/// What a mount needs beside its snapshot.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Longest time one operation may take.
    pub deadline: Duration,
    /// Who owns the files.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
}

/// Who knows what `.walgit/status` says.
pub trait StatusSource: Send + Sync {
    /// A JSON text.
    fn status(&self) -> Vec<u8>;
}

/// Figures of one mount since it was made.
#[derive(Clone, Copy, Debug, Default, Serialize, serde::Deserialize)]
pub struct DriverStats {
    /// Requests of the kernel.
    pub operations: u64,
    /// Those that had to wait for the network.
    pub waited: u64,
    /// Those that failed because something could not be read.
    pub failed: u64,
    /// Of these, those whose bytes were refused.
    pub integrity: u64,
    /// Those that took longer than they may.
    pub timed_out: u64,
}

/// Serves one mount.
#[derive(Debug)]
pub struct Driver {
    answerer: Answerer,
    core: Arc<Core>,
}

/// What operations share.
#[derive(Debug)]
struct Core {
    snapshot: Snapshot,
    control: Control,
    owner: Owner,
    mounted: SystemTime,
    watched: quick_cache::sync::Cache<u64, Arc<Mutex<Readahead>>>,
    readaheads: Arc<Semaphore>,
}

/// Counts a driver's operations while it serves.
#[derive(Clone, Debug)]
pub struct DriverCounters(Arc<Outcomes>);

impl DriverCounters {
    /// The figures now.
    pub fn stats(&self) -> DriverStats {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        DriverStats {
            operations: get(&self.0.operations),
            waited: get(&self.0.waited),
            failed: get(&self.0.failed),
            integrity: get(&self.0.integrity),
            timed_out: get(&self.0.timed_out),
        }
    }
}

impl Driver {
    /// A driver for a mount of `snapshot`, doing its waiting on `runtime`.
    pub fn new(
        snapshot: Snapshot,
        config: &DriverConfig,
        runtime: Handle,
        status: Arc<dyn StatusSource>,
    ) -> Self {
        Driver {
            answerer: Answerer {
                runtime,
                deadline: config.deadline,
                outcomes: Arc::default(),
            },
            core: Arc::new(Core {
                control: Control::new(&snapshot, status),
                snapshot,
                owner: Owner {
                    uid: config.uid,
                    gid: config.gid,
                },
                mounted: SystemTime::now(),
                watched: quick_cache::sync::Cache::new(WATCHED_FILES),
                readaheads: Arc::new(Semaphore::new(READAHEADS)),
            }),
        }
    }

    /// Counts its operations, also while it serves.
    pub fn counters(&self) -> DriverCounters {
        DriverCounters(self.answerer.outcomes.clone())
    }
}

/// A node of some tree, with the tree.
struct Found {
    inode: Inode,
    snapshot: Snapshot,
    node: Node,
}

/// A directory, ready to be told to the kernel from any offset.
struct Listing {
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
    fn tell(&self, offset: u64, mut add: impl FnMut(&[u8], u64, &FileAttr, Duration) -> bool) {
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

impl Core {
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

    async fn attr_of(&self, inode: Inode) -> Result<(FileAttr, Duration), Failure> {
        match self.find(inode).await? {
            Some(found) => Ok((self.attr(&found), FOREVER)),
            None => self.control_attr(inode),
        }
    }

    async fn lookup(&self, parent: Inode, name: &[u8]) -> Result<(FileAttr, Duration), Failure> {
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

    async fn readlink(&self, inode: Inode) -> Result<Bytes, Failure> {
        match self.find(inode).await? {
            Some(found) => Ok(found.snapshot.target(&found.node)?),
            None => Err(Failure::Plain(Errno::EINVAL)),
        }
    }

    async fn read(self: Arc<Self>, inode: Inode, range: ByteRange) -> Result<Bytes, Failure> {
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
    async fn listing(&self, inode: Inode) -> Result<Listing, Failure> {
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

    async fn xattr(&self, inode: Inode, name: &[u8]) -> Result<Vec<u8>, Failure> {
        let found = self.find(inode).await?;
        let value = found.and_then(|f| attributes::extended(&f.snapshot, &f.node, name));
        value
            .map(String::into_bytes)
            .ok_or(Failure::Plain(Errno::ENODATA))
    }
}

impl Filesystem for Driver {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Plain READDIRPLUS, never AUTO: that falls back to READDIR, and then
        // each `stat` is a message. What a kernel lacks it does without.
        for wish in [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_PARALLEL_DIROPS,
        ] {
            let _ = config.add_capabilities(wish);
        }
        let _ = config.set_max_readahead(MAX_READ);
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (core, name) = (self.core.clone(), name.to_owned());
        let work = async move { core.lookup(Inode::decode(parent), name.as_bytes()).await };
        self.answerer.answer(reply, work, |reply, (attr, ttl)| {
            reply.entry_with_ttls(&ttl, &FOREVER, &attr, Generation(0));
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let core = self.core.clone();
        let work = async move { core.attr_of(Inode::decode(ino)).await };
        let send = |reply: ReplyAttr, (attr, ttl): (FileAttr, Duration)| reply.attr(&ttl, &attr);
        self.answerer.answer(reply, work, send);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let core = self.core.clone();
        let work = async move { core.readlink(Inode::decode(ino)).await };
        let send = |reply: ReplyData, target: Bytes| reply.data(&target);
        self.answerer.answer(reply, work, send);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let range = ByteRange::new(offset, u64::from(size));
        let work = self.core.clone().read(Inode::decode(ino), range);
        let send = |reply: ReplyData, bytes: Bytes| reply.data(&bytes);
        self.answerer.answer(reply, work, send);
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let core = self.core.clone();
        let work = async move { core.listing(Inode::decode(ino)).await };
        self.answerer.answer(
            reply,
            work,
            move |mut reply: ReplyDirectoryPlus, listing| {
                listing.tell(offset, |name, next, attr, ttl| {
                    let name = OsStr::from_bytes(name);
                    reply.add(attr.ino, next, name, &ttl, attr, Generation(0))
                });
                reply.ok();
            },
        );
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let core = self.core.clone();
        let work = async move { core.listing(Inode::decode(ino)).await };
        self.answerer
            .answer(reply, work, move |mut reply: ReplyDirectory, listing| {
                listing.tell(offset, |name, next, attr, _| {
                    reply.add(attr.ino, next, attr.kind, OsStr::from_bytes(name))
                });
                reply.ok();
            });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let commit = self.core.snapshot.commit();
        let blocks = commit.bytes.div_ceil(4096);
        reply.statfs(blocks, 0, 0, commit.nodes, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (core, name) = (self.core.clone(), name.to_owned());
        let work = async move { core.xattr(Inode::decode(ino), name.as_bytes()).await };
        self.answerer
            .answer(reply, work, move |reply, value| sized(reply, &value, size));
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match Inode::decode(ino) {
            Inode::Control(_) => sized(reply, &[], size),
            Inode::Mounted(_) | Inode::Commit(..) => sized(reply, attributes::NAMES, size),
        }
    }
}

/// An extended attribute's value, or its size where that is asked for.
fn sized(reply: ReplyXattr, value: &[u8], size: u32) {
    match size as usize {
        0 => reply.size(value.len() as u32),
        room if room < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}
