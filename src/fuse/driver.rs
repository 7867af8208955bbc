//! Implements the operations of the kernel.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fuser::{
    Errno, FileAttr, FileHandle, Filesystem, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use super::dispatch::{Dispatcher, Reply};
use super::errno::OpError;
use super::inode::Inode;
use super::readonly::reject_changes;
use super::view::{Listing, TTL_MAX, View};
use walgit_format::chunk::ByteRange;

/// Maximum size of a read request in bytes.
const MAX_READ_BYTES: u32 = 1 << 20;
/// Maximum number of read-ahead requests that the kernel keeps in flight.
const MAX_BACKGROUND_REQUESTS: u16 = 64;

/// Serves one mount.
#[derive(Debug)]
pub struct Driver {
    pub(super) dispatcher: Dispatcher,
    pub(super) view: Arc<View>,
}

impl Driver {
    /// Replies to a request about an inode: passes the result of `work` to `send`.
    fn answer<R: Reply, T: Send + 'static, W>(
        &self,
        op: &'static str,
        ino: INodeNo,
        reply: R,
        work: impl FnOnce(Arc<View>, Inode) -> W,
        send: impl FnOnce(R, T) + Send + 'static,
    ) where
        W: Future<Output = Result<T, OpError>> + Send + 'static,
    {
        let inode = Inode::decode(ino);
        let view = self.view.clone();
        let path = async move { view.path(inode).await };
        let work = work(self.view.clone(), inode);
        self.dispatcher.dispatch(op, path, reply, work, send);
    }
}

impl Filesystem for Driver {
    reject_changes!();

    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Unconditional READDIRPLUS: AUTO falls back to READDIR, and then each `stat`
        // is a request. Capabilities that the kernel lacks are optional.
        for capability in [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_PARALLEL_DIROPS,
        ] {
            let _ = config.add_capabilities(capability);
        }
        let _ = config.set_max_readahead(MAX_READ_BYTES);
        let _ = config.set_max_background(MAX_BACKGROUND_REQUESTS);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        let work = |view: Arc<View>, parent| async move {
            let found = view.lookup(parent, name.as_bytes()).await?;
            view.count_lookup(found.0.ino);
            Ok(found)
        };
        let send = |reply: ReplyEntry, (attr, ttl): (FileAttr, Duration)| {
            reply.entry_with_ttls(&ttl, &TTL_MAX, &attr, Generation(0));
        };
        self.answer("lookup in", parent, reply, work, send);
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.view.snapshots.forget(Inode::decode(ino), nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let work = |view: Arc<View>, inode| async move { view.attr_of(inode).await };
        let send = |reply: ReplyAttr, (attr, ttl): (FileAttr, Duration)| reply.attr(&ttl, &attr);
        self.answer("stat", ino, reply, work, send);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let work = |view: Arc<View>, inode| async move { view.readlink(inode).await };
        self.answer("readlink", ino, reply, work, send_data);
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
        let (range, task) = (ByteRange::new(offset, u64::from(size)), request.pid());
        let work = |view: Arc<View>, inode| view.read(inode, task, range);
        self.answer("read", ino, reply, work, send_data);
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let (view, task) = (self.view.clone(), request.pid());
        let send = move |mut reply: ReplyDirectoryPlus, listing: Listing| {
            listing.for_each(offset, |name, next, attr, ttl| {
                let name = OsStr::from_bytes(name);
                let full = reply.add(attr.ino, next, name, &ttl, attr, Generation(0));
                // An entry counts as a lookup of its inode, except for the dots.
                if !full && !matches!(name.as_bytes(), b"." | b"..") {
                    view.count_lookup(attr.ino);
                }
                full
            });
            reply.ok();
        };
        let work = |view: Arc<View>, inode| view.listing(inode, task);
        self.answer("list", ino, reply, work, send);
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let task = request.pid();
        let send = move |mut reply: ReplyDirectory, listing: Listing| {
            listing.for_each(offset, |name, next, attr, _| {
                reply.add(attr.ino, next, attr.kind, OsStr::from_bytes(name))
            });
            reply.ok();
        };
        let work = |view: Arc<View>, inode| view.listing(inode, task);
        self.answer("list", ino, reply, work, send);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let current = self.view.snapshots.current();
        let commit = current.snapshot.commit();
        let blocks = commit.bytes.div_ceil(4096);
        reply.statfs(blocks, 0, 0, commit.nodes, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.to_owned();
        let work = |view: Arc<View>, inode| async move { view.xattr(inode, name.as_bytes()).await };
        let send = move |reply, value: Vec<u8>| send_xattr(reply, &value, size);
        self.answer("getxattr", ino, reply, work, send);
    }

    /// Lists no attributes: `cp -a`, `rsync -X` and `tar --xattrs` copy the listed
    /// attributes, and a modified copy would keep the hash and the blob of the
    /// original content. A value can be read by name.
    fn listxattr(&self, _: &Request, _: INodeNo, size: u32, reply: ReplyXattr) {
        send_xattr(reply, &[], size);
    }
}

fn send_data(reply: ReplyData, bytes: Bytes) {
    reply.data(&bytes);
}

/// Replies with the value of an extended attribute, or with its size on request.
fn send_xattr(reply: ReplyXattr, value: &[u8], size: u32) {
    match size as usize {
        0 => reply.size(value.len() as u32),
        capacity if capacity < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}
