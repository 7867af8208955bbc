//! Implements the operations of the kernel.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fuser::{
    Errno, FileAttr, FileHandle, Filesystem, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, Notifier, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use serde::Serialize;
use tokio::runtime::Handle;

use super::answer::{Answerer, Outcomes, Reply, Subject};
use super::attributes::Owner;
use super::control::StatusSource;
use super::errno::Failure;
use super::identity::Change;
use super::inode::Inode;
use super::refuse::refuse_changes;
use super::trees::TreeStats;
use super::view::{FOREVER, Listing, View};
use crate::prefetch::{Guide, Learning, PrefetchStats};
use crate::repo::{RepoError, Snapshot};
use walgit_format::chunk::BlobId;
use walgit_format::chunk::ByteRange;

/// Maximum size of a read request in bytes.
const MAX_READ: u32 = 1 << 20;
/// Maximum number of read-ahead requests that the kernel keeps in flight.
const BACKGROUND: u16 = 64;

/// Settings of a mount.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Maximum duration of an operation.
    pub deadline: Duration,
    /// Owner of the files.
    pub uid: u32,
    /// Group of the files.
    pub gid: u32,
    /// Whether the mount may move to another tree: see [`Mover`].
    pub may_move: bool,
    /// Data that may be used to predict file opens.
    pub learning: Learning,
    /// Stable identifier of the repository across sessions, for its learned profile.
    pub identity: String,
}

/// Statistics of one mount since it was created.
#[derive(Clone, Copy, Debug, Default, Serialize, serde::Deserialize)]
pub struct DriverStats {
    /// Requests from the kernel.
    pub operations: u64,
    /// Operations that waited for the network.
    pub waited: u64,
    /// Operations that failed because of a read error.
    pub failed: u64,
    /// Failed operations whose content did not pass verification.
    pub integrity: u64,
    /// Operations that exceeded the deadline.
    pub timed_out: u64,
}

/// Serves one mount.
#[derive(Debug)]
pub struct Driver {
    answerer: Answerer,
    view: Arc<View>,
}

/// Access to a driver's counters while it serves.
#[derive(Clone, Debug)]
pub struct DriverCounters(Arc<Outcomes>);

impl DriverCounters {
    /// Returns the current values.
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
    /// Creates a driver for a mount of `snapshot`; operations that wait run on
    /// `runtime`.
    pub fn new(
        snapshot: Snapshot,
        config: &DriverConfig,
        runtime: Handle,
        status: Arc<dyn StatusSource>,
    ) -> Self {
        let owner = Owner {
            uid: config.uid,
            gid: config.gid,
        };
        let guide = {
            let _entered = runtime.enter();
            Guide::new(&snapshot, &config.identity, config.learning)
        };
        let view = View::new(snapshot, owner, config.may_move, status, guide);
        Driver {
            answerer: Answerer {
                runtime,
                deadline: config.deadline,
                outcomes: Arc::default(),
            },
            view: Arc::new(view),
        }
    }

    /// Returns the part of a [`Mover`] that exists before the session.
    pub fn moves(&self) -> Moves {
        Moves(self.view.clone())
    }

    /// Answers a request about `inode`.
    fn answer<R: Reply, T: Send + 'static>(
        &self,
        verb: &'static str,
        inode: Inode,
        reply: R,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
        send: impl FnOnce(R, T) + Send + 'static,
    ) {
        let view = self.view.clone();
        let path = async move { view.path(inode).await };
        self.answerer
            .answer(reply, Subject { verb, path }, work, send);
    }

    /// Returns access to the counters.
    pub fn counters(&self) -> DriverCounters {
        DriverCounters(self.answerer.outcomes.clone())
    }
}

/// A [`Mover`] without a connection to the kernel.
#[derive(Clone, Debug)]
pub struct Moves(Arc<View>);

impl Moves {
    /// Adds the connection to the kernel.
    pub fn through(self, notifier: Notifier) -> Mover {
        Mover {
            view: self.0,
            notifier,
        }
    }
}

/// Moves a mount to another tree, without a remount.
#[derive(Clone, Debug)]
pub struct Mover {
    view: Arc<View>,
    notifier: Notifier,
}

impl Mover {
    /// The mounted tree.
    pub fn snapshot(&self) -> Snapshot {
        self.view.snapshot()
    }

    /// Prefetch statistics, if prefetching is enabled.
    pub fn prefetch_stats(&self) -> Option<PrefetchStats> {
        self.view.prefetch_stats()
    }

    /// Statistics of the trees of the mount.
    pub fn tree_stats(&self) -> TreeStats {
        self.view.tree_stats()
    }

    /// The blobs of the heads that processes may still read from through the mount.
    pub fn heads_in_use(&self) -> HashSet<BlobId> {
        self.view.heads_in_use()
    }

    /// Number of detected walks.
    pub fn walks(&self) -> u64 {
        self.view.walks()
    }

    /// The guide that observes file opens of the mount, if any.
    pub fn guide(&self) -> Option<&Guide> {
        self.view.guide()
    }

    /// Moves the mount to `snapshot`; returns the number of names that changed.
    /// Unchanged content stays in the kernel's cache, and open files keep their
    /// version.
    ///
    /// # Errors
    /// Fails if a changed directory cannot be read; then the mount does not move.
    pub async fn move_to(&self, snapshot: Snapshot) -> Result<u64, RepoError> {
        let changes = self.view.move_to(snapshot).await?;
        let notifier = self.notifier.clone();
        let told = tokio::task::spawn_blocking(move || {
            // The kernel blocks until lookups in progress in a directory complete:
            // never call this on a thread that serves requests.
            let mut names = 0;
            for change in &changes {
                let told = match change {
                    Change::Name { directory, name } => {
                        names += 1;
                        notifier.inval_entry(INodeNo(*directory), OsStr::from_bytes(name))
                    }
                    Change::Listing { directory } => {
                        notifier.inval_inode(INodeNo(*directory), 0, 0)
                    }
                };
                if let Err(error) = told {
                    tracing::debug!("the kernel does not forget {change:?}: {error}");
                }
            }
            names
        });
        Ok(told.await.unwrap_or(0))
    }
}

impl Filesystem for Driver {
    refuse_changes!();

    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Unconditional READDIRPLUS: AUTO falls back to READDIR, and then each `stat`
        // is a request. Capabilities that the kernel lacks are optional.
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
        let (view, name) = (self.view.clone(), name.to_owned());
        let parent = Inode::decode(parent);
        let work = async move {
            let found = view.lookup(parent, name.as_bytes()).await?;
            view.held(found.0.ino);
            Ok(found)
        };
        let send = |reply: ReplyEntry, (attr, ttl): (FileAttr, Duration)| {
            reply.entry_with_ttls(&ttl, &FOREVER, &attr, Generation(0));
        };
        self.answer("lookup in", parent, reply, work, send);
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.view.forgotten(ino, nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let (view, inode) = (self.view.clone(), Inode::decode(ino));
        let work = async move { view.attr_of(inode).await };
        let send = |reply: ReplyAttr, (attr, ttl): (FileAttr, Duration)| reply.attr(&ttl, &attr);
        self.answer("stat", inode, reply, work, send);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let (view, inode) = (self.view.clone(), Inode::decode(ino));
        let work = async move { view.readlink(inode).await };
        let send = |reply: ReplyData, target: Bytes| reply.data(&target);
        self.answer("readlink", inode, reply, work, send);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let range = ByteRange::new(offset, u64::from(size));
        let inode = Inode::decode(ino);
        let work = self.view.clone().read(inode, request.pid(), range);
        let send = |reply: ReplyData, bytes: Bytes| reply.data(&bytes);
        self.answer("read", inode, reply, work, send);
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let (view, inode) = (self.view.clone(), Inode::decode(ino));
        let work = view.clone().listing(inode, request.pid());
        let send = move |mut reply: ReplyDirectoryPlus, listing: Listing| {
            listing.tell(offset, |name, next, attr, ttl| {
                let name = OsStr::from_bytes(name);
                let full = reply.add(attr.ino, next, name, &ttl, attr, Generation(0));
                // An entry counts as a lookup of its inode, except for the dots.
                if !full && !matches!(name.as_bytes(), b"." | b"..") {
                    view.held(attr.ino);
                }
                full
            });
            reply.ok();
        };
        self.answer("list", inode, reply, work, send);
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let (view, inode) = (self.view.clone(), Inode::decode(ino));
        let work = view.listing(inode, request.pid());
        let send = move |mut reply: ReplyDirectory, listing: Listing| {
            listing.tell(offset, |name, next, attr, _| {
                reply.add(attr.ino, next, attr.kind, OsStr::from_bytes(name))
            });
            reply.ok();
        };
        self.answer("list", inode, reply, work, send);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let snapshot = self.view.snapshot();
        let commit = snapshot.commit();
        let blocks = commit.bytes.div_ceil(4096);
        reply.statfs(blocks, 0, 0, commit.nodes, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (view, name) = (self.view.clone(), name.to_owned());
        let inode = Inode::decode(ino);
        let work = async move { view.xattr(inode, name.as_bytes()).await };
        let send = move |reply, value: Vec<u8>| sized(reply, &value, size);
        self.answer("getxattr", inode, reply, work, send);
    }

    /// Lists no attributes: `cp -a`, `rsync -X` and `tar --xattrs` copy the listed
    /// attributes, and a modified copy would keep the hash and the blob of the
    /// original content. A value can be read by name.
    fn listxattr(&self, _: &Request, _: INodeNo, size: u32, reply: ReplyXattr) {
        sized(reply, &[], size);
    }
}

/// Replies with the value of an extended attribute, or with its size on request.
fn sized(reply: ReplyXattr, value: &[u8], size: u32) {
    match size as usize {
        0 => reply.size(value.len() as u32),
        room if room < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}
