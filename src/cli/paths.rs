//! Paths that a user gives.

use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Result, bail};
use rustix::fs::{Mode, OFlags};

use walgit_format::names::RefName;

/// Derives a name from the last component of a path.
pub(super) fn name_for(path: &Path) -> Option<RefName> {
    let path = std::fs::canonicalize(path).ok()?;
    let last = path.file_name()?.to_str()?;
    last.trim_end_matches(".git").parse().ok()
}

/// Checks that a path leads to a folder that has not been removed. To processes that are
/// in a removed folder or have it open, the kernel shows it as empty.
///
/// # Errors
/// If the path is relative and the current directory was removed, or if the folder that
/// it leads to was removed.
pub(super) fn folder_exists(path: &Path) -> Result<()> {
    let shown = path.display();
    let is_missing = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    if path.is_relative() && std::env::current_dir().is_err_and(is_missing) {
        bail!("{shown}: the current directory was removed; change to one that exists");
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(folder) = rustix::fs::open(path, flags, Mode::empty()) {
        // Some file systems report no link count for folders; for those, the kernel marks
        // the path of a removed one.
        let has_links = rustix::fs::fstat(&folder).is_ok_and(|found| found.st_nlink > 0);
        let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let is_deleted = |path: &Path| path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)");
        if !has_links && !std::fs::read_link(link).is_ok_and(|path| !is_deleted(&path)) {
            bail!("{shown}: that folder was removed; choose one that exists");
        }
    }
    Ok(())
}
