//! The lower bound: a driver that answers from constants.
//!
//! It serves a tree of equal files with the same flags as walgit-fs, so its time is
//! that of the kernel and the protocol.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectoryPlus, ReplyEntry,
    ReplyOpen, ReplyXattr, Request, Session, SessionACL,
};
use walgit_fs::fuse::{MountOptions, Mountpoint, mount, unmount};

const CACHE_TTL: Duration = Duration::from_secs(86_400);

/// Number of directories, of files per directory, and of bytes per file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) folders: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// The name of directory or file number `n`.
pub(crate) fn name(n: u64) -> String {
    format!("n{n:06}")
}

struct Null {
    shape: Shape,
    content: Vec<u8>,
}

enum Node {
    Root,
    Folder(u64),
    File,
    None,
}

impl Null {
    fn node(&self, ino: u64) -> Node {
        match ino {
            1 => Node::Root,
            n if n < 2 + self.shape.folders => Node::Folder(n - 2),
            n if n < 2 + self.shape.folders * (1 + self.shape.files) => Node::File,
            _ => Node::None,
        }
    }

    fn file(&self, folder: u64, number: u64) -> u64 {
        2 + self.shape.folders + folder * self.shape.files + number
    }

    fn attr(&self, ino: u64) -> FileAttr {
        let file = matches!(self.node(ino), Node::File);
        FileAttr {
            ino: INodeNo(ino),
            size: if file { self.shape.bytes } else { 0 },
            blocks: if file {
                self.shape.bytes.div_ceil(512)
            } else {
                0
            },
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if file {
                FileType::RegularFile
            } else {
                FileType::Directory
            },
            perm: if file { 0o644 } else { 0o755 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 128 << 10,
        }
    }
}

impl Filesystem for Null {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_PARALLEL_DIROPS,
        ] {
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_readahead(1 << 20);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix('n')?.parse().ok());
        let ino = match (self.node(parent.0), number) {
            (Node::Root, Some(n)) if n < self.shape.folders => 2 + n,
            (Node::Folder(folder), Some(n)) if n < self.shape.files => self.file(folder, n),
            _ => return reply.error(Errno::ENOENT),
        };
        reply.entry_with_ttls(&CACHE_TTL, &CACHE_TTL, &self.attr(ino), Generation(0));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&CACHE_TTL, &self.attr(ino.0));
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
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let start = (offset as usize).min(self.content.len());
        let end = (start + size as usize).min(self.content.len());
        reply.data(&self.content[start..end]);
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let (count, folder) = match self.node(ino.0) {
            Node::Root => (self.shape.folders, None),
            Node::Folder(folder) => (self.shape.files, Some(folder)),
            Node::File | Node::None => return reply.error(Errno::ENOTDIR),
        };
        for n in offset..count {
            let child = folder.map_or(2 + n, |folder| self.file(folder, n));
            let attr = self.attr(child);
            if reply.add(
                INodeNo(child),
                n + 1,
                name(n),
                &CACHE_TTL,
                &attr,
                Generation(0),
            ) {
                break;
            }
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }
}

/// A mount of the driver; dropping it unmounts.
pub(crate) struct NullMount {
    dir: tempfile::TempDir,
    served: Option<std::thread::JoinHandle<()>>,
}

impl NullMount {
    pub(crate) fn new(shape: Shape) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = MountOptions {
            name: "null".into(),
            allow_other: false,
        };
        let mountpoint = Mountpoint::open(dir.path()).unwrap();
        let mut mounted = mount(mountpoint, &options).unwrap();
        let device = mounted.take_device().unwrap();
        mounted.keep();
        let null = Null {
            shape,
            content: vec![b'x'; shape.bytes as usize],
        };
        let mut config = fuser::Config::default();
        config.n_threads = Some(2);
        config.clone_fd = true;
        let session = Session::from_fd(null, device, SessionACL::Owner, config).unwrap();
        let served = std::thread::spawn(move || drop(session.run()));
        rustix::fs::statvfs(dir.path()).unwrap();
        NullMount {
            dir,
            served: Some(served),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for NullMount {
    fn drop(&mut self) {
        let _ = unmount(self.dir.path(), true);
        if let Some(served) = self.served.take() {
            let _ = served.join();
        }
    }
}
