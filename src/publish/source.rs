//! Files of a plain folder under concurrent modification.
//!
//! A file is published with its size at the time of opening: later appends are not read.
//! Files that vanish, shrink during the read, or change their type are skipped and
//! reported. No symbolic link is followed on the path to a file, so nothing outside the
//! folder is published, even if directories are replaced.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use serde::Serialize;

use walgit_durable::fault_point;

/// Maximum attempts to read a file that shrinks during the read.
const MAX_READ_ATTEMPTS: usize = 2;

/// Reason for not publishing an entry of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// It vanished after its directory was listed, or changed its type.
    Vanished,
    /// It kept shrinking during reads.
    Changing,
    /// It is a socket, pipe or device.
    Unsupported,
    /// It cannot be read.
    Unreadable,
}

impl SkipReason {
    /// Describes the reason.
    pub fn word(self) -> &'static str {
        match self {
            SkipReason::Vanished => "vanished",
            SkipReason::Changing => "kept changing",
            SkipReason::Unsupported => "socket, pipe or device",
            SkipReason::Unreadable => "unreadable",
        }
    }
}

/// An entry of a folder that is not published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its path relative to the folder.
    pub path: String,
    /// The reason.
    pub why: SkipReason,
}

/// Reason for skipping an entry, and the system error.
#[derive(Debug)]
pub(super) struct Skip {
    pub(super) why: SkipReason,
    pub(super) error: io::Error,
}

impl From<io::Error> for Skip {
    fn from(error: io::Error) -> Self {
        let why = match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::STALE) => {
                SkipReason::Vanished
            }
            _ => SkipReason::Unreadable,
        };
        Skip { why, error }
    }
}

impl From<Errno> for Skip {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl Skip {
    fn because(why: SkipReason) -> Self {
        let error = io::Error::other(why.word());
        Skip { why, error }
    }
}

/// The folder to publish.
#[derive(Debug)]
pub(super) struct Folder {
    root: OwnedFd,
    path: PathBuf,
}

/// A directory entry at the time of listing.
pub(super) struct Listed {
    pub(super) name: Vec<u8>,
    pub(super) found: Result<EntryType, Skip>,
}

/// Type of an entry.
pub(super) enum EntryType {
    Directory,
    File { size: u64, executable: bool },
    Link(Vec<u8>),
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Arc<Self>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Arc::new(Folder {
            root: rustix::fs::open(path, flags, Mode::empty())?,
            path: path.into(),
        }))
    }

    /// The full path of an entry of the folder.
    pub(super) fn path(&self, relative: &[u8]) -> PathBuf {
        self.path.join(std::ffi::OsStr::from_bytes(relative))
    }

    /// Opens an entry of the folder without following links.
    fn open_in(&self, relative: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let relative: &[u8] = if relative.is_empty() { b"." } else { relative };
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&self.root, relative, flags, Mode::empty(), resolve) {
            // Before Linux 5.6, or in a sandbox that rejects the system call.
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::openat(&self.root, relative, flags, Mode::empty())
            }
            opened => opened,
        }
    }

    /// Lists a directory, unordered.
    pub(super) fn list(&self, directory: &[u8]) -> Result<Vec<Listed>, Skip> {
        let opened = self.open_in(directory, OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&opened)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            let found = entry_type(&opened, &name);
            entries.push(Listed { name, found });
        }
        Ok(entries)
    }
}

/// Type of an entry of an open directory.
fn entry_type(directory: &OwnedFd, name: &[u8]) -> Result<EntryType, Skip> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(EntryType::Directory),
        FileType::RegularFile => Ok(EntryType::File {
            size: size(&stat),
            executable: stat.st_mode & 0o111 != 0,
        }),
        FileType::Symlink => match rustix::fs::readlinkat(directory, name, Vec::new()) {
            // It is no longer a link.
            Err(Errno::INVAL) => Err(Skip::because(SkipReason::Vanished)),
            target => Ok(EntryType::Link(target?.into_bytes())),
        },
        _ => Err(Skip::because(SkipReason::Unsupported)),
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// A file of a folder.
#[derive(Clone, Debug)]
pub(super) struct FolderFile {
    pub(super) folder: Arc<Folder>,
    /// Relative to the root of the folder.
    pub(super) relative: Vec<u8>,
}

impl FolderFile {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path(&self.relative)
    }

    /// Opens the file; also returns its size.
    pub(super) fn open(&self) -> Result<(File, u64), Skip> {
        // If a pipe has replaced it, the open must not wait for a writer.
        let opened = self.folder.open_in(&self.relative, OFlags::NONBLOCK)?;
        let stat = rustix::fs::fstat(&opened)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Skip::because(SkipReason::Vanished)),
            _ => return Err(Skip::because(SkipReason::Unsupported)),
        }
        fault_point::reach("publish.file_opened")?;
        Ok((File::from(opened), size(&stat)))
    }

    /// Reads the file up to its size at the time of opening; `None` if that exceeds `max`
    /// bytes.
    pub(super) fn read(&self, max: u64) -> Result<Option<Bytes>, Skip> {
        self.stream(|mut input, len| {
            if len > max {
                return Ok((len, None));
            }
            let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
            input.read_to_end(&mut bytes)?;
            Ok((bytes.len() as u64, Some(Bytes::from(bytes))))
        })
    }

    /// Processes the file up to its size at the time of opening, and retries if it
    /// shrank: `read` returns the number of bytes that it found.
    pub(super) fn stream<T, E: From<Skip>>(
        &self,
        mut read: impl FnMut(Box<dyn io::Read>, u64) -> Result<(u64, T), E>,
    ) -> Result<T, E> {
        for _ in 0..MAX_READ_ATTEMPTS {
            let (file, len) = self.open()?;
            let (found, done) = read(Box::new(file.take(len)), len)?;
            if found == len {
                return Ok(done);
            }
        }
        Err(Skip::because(SkipReason::Changing).into())
    }
}
