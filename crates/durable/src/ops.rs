//! System calls that change files.
//!
//! Each one is a fault point (`durable.NAME`). In tests, a [`power_loss`] recording
//! observes them and may inject errors.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::fault_point;
use super::power_loss::{self, DiskEvent};

/// Fails if a test requested it.
fn step(name: &str, path: &Path) -> io::Result<()> {
    power_loss::step(path)?;
    fault_point::reach(name)
}

pub(super) fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    step("durable.create_dir", path)?;
    DirBuilder::new().mode(mode).create(path)?;
    power_loss::record(path, || DiskEvent::CreateDir(path.into()));
    Ok(())
}

/// Creates a new file for reading and appending.
pub(super) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    step("durable.create", path)?;
    let mut options = File::options();
    let file = (options.read(true).append(true).create_new(true).mode(mode)).open(path)?;
    power_loss::record(path, || DiskEvent::CreateFile(path.into(), inode(&file)));
    Ok(file)
}

/// Appends. A failed write may have written a part, for example on a full disk.
pub(super) fn write_all(mut file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let step = step("durable.write", path);
    let bytes = if step.is_ok() {
        bytes
    } else {
        &bytes[..bytes.len() / 2]
    };
    power_loss::record(path, || DiskEvent::Write(inode(file), bytes.into()));
    file.write_all(bytes)?;
    step
}

pub(super) fn truncate(file: &File, path: &Path, len: u64) -> io::Result<()> {
    step("durable.truncate", path)?;
    file.set_len(len)?;
    power_loss::record(path, || DiskEvent::Truncate(inode(file), len as usize));
    Ok(())
}

/// Flushes the content and length of a file.
pub(super) fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    step("durable.sync_file", path)?;
    file.sync_data()?;
    power_loss::record(path, || DiskEvent::SyncFile(inode(file)));
    Ok(())
}

/// Flushes the names in a directory.
pub(super) fn sync_names(dir: &File, path: &Path) -> io::Result<()> {
    step("durable.sync_dir", path)?;
    match dir.sync_all() {
        // The file system does not support it.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
        synced => synced?,
    }
    power_loss::record(path, || DiskEvent::SyncDir(path.into()));
    Ok(())
}

/// Flushes everything on the file system that `path` is on.
pub(super) fn sync_file_system(path: &Path) -> io::Result<()> {
    step("durable.sync_file_system", path)?;
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step("durable.rename", to)?;
    fs::rename(from, to)?;
    power_loss::record(to, || DiskEvent::Rename(from.into(), to.into()));
    Ok(())
}

/// Renames a file to an unused name; [`io::ErrorKind::AlreadyExists`] if it is in use.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    step("durable.rename", to)?;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Network file systems do not support this call.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)?;
        }
        renamed => renamed?,
    }
    power_loss::record(to, || DiskEvent::Rename(from.into(), to.into()));
    Ok(())
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    step("durable.remove", path)?;
    fs::remove_file(path)?;
    power_loss::record(path, || DiskEvent::Remove(path.into()));
    Ok(())
}

/// Returns the inode number, for recordings.
fn inode(file: &File) -> u64 {
    file.metadata().map_or(0, |it| it.ino())
}
