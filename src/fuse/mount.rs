//! Making and undoing mounts, in the namespace and with the rights of whoever
//! calls.
//!
//! Root mounts directly; everybody else through `fusermount3`, which is there
//! to do so for them.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::handover::receive_descriptor;

/// Type of our mounts in `/proc/mounts`.
pub(super) const FS_TYPE: &str = "fuse.walgit-fs";
const DEVICE: &str = "/dev/fuse";
const FUSERMOUNT: &str = "fusermount3";

/// How a mount is made.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What `/proc/mounts` shows as its source.
    pub name: String,
    /// Whether other users may enter.
    pub allow_other: bool,
}

/// Why a mount cannot be made or undone.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// No such device.
    #[error(
        "{DEVICE} cannot be opened ({0}); load the `fuse` module, or give the container that device"
    )]
    Device(io::Error),
    /// No helper.
    #[error("{FUSERMOUNT} is not installed; install the package `fuse3`")]
    NoFusermount,
    /// The helper said no.
    #[error("{FUSERMOUNT} could not {what} {}: {why}", dir.display())]
    Fusermount {
        /// `mount` or `unmount`.
        what: &'static str,
        /// The mount point.
        dir: PathBuf,
        /// Its words.
        why: String,
    },
    /// The kernel said no.
    #[error("cannot {what} {}: {source}", dir.display())]
    System {
        /// `mount` or `unmount`.
        what: &'static str,
        /// The mount point.
        dir: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Somebody has a file open in it, or is in it.
    #[error("{} is in use{users}; leave it, or use --lazy to detach it now", dir.display())]
    Busy {
        /// The mount point.
        dir: PathBuf,
        /// Who, as ` by NAME (PID)`; empty where that is not known.
        users: String,
    },
}

/// What is at a path that may be a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountState {
    /// A mount of ours that answers.
    Ours,
    /// A mount of ours whose daemon is gone.
    Stale,
    /// Something else: a folder, or another's mount.
    Other,
}

/// What is at `dir`, an absolute path without links in it.
pub fn mount_state(dir: &Path) -> MountState {
    if !is_ours(dir) {
        return MountState::Other;
    }
    // The kernel may keep attributes and whole directories for a day, so
    // `stat` and even `ls` go on working after the daemon died. It never
    // answers `statfs` by itself.
    match rustix::fs::statfs(dir) {
        Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED) => MountState::Stale,
        _ => MountState::Ours,
    }
}

/// Whether the mount that is seen at `dir`, the topmost of those stacked
/// there, is one of ours. Asks only `/proc`, so it cannot hang.
pub fn is_ours(dir: &Path) -> bool {
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    topmost_type(&mounted, dir) == Some(FS_TYPE)
}

/// Type of the mount on top at `dir`, of a `mountinfo` text; later lines were
/// mounted over earlier ones.
fn topmost_type<'a>(mountinfo: &'a str, dir: &Path) -> Option<&'a str> {
    let at = |line: &str| unescape(line.split(' ').nth(4).unwrap_or_default());
    let line = mountinfo
        .lines()
        .rfind(|line| at(line) == dir.as_os_str().as_bytes())?;
    line.split(" - ").nth(1)?.split(' ').next()
}

/// Paths in `mountinfo` have spaces and the like as `\040`.
fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// Mounts on `dir`; the descriptor through which the kernel will ask.
///
/// # Errors
/// When the kernel or the helper refuses; nothing is mounted then.
pub fn mount(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    match rustix::process::geteuid().is_root() {
        true => mount_as_root(dir, options),
        false => mount_as_user(dir, options),
    }
}

fn mount_as_root(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let device = File::options()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(MountError::Device)?;
    let failed = |source| MountError::System {
        what: "mount",
        dir: dir.into(),
        source,
    };
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let mut data = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions",
        device.as_raw_fd()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).map_err(|error| failed(error.into()))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(options.name.as_str(), dir, FS_TYPE, flags, data.as_c_str())
        .map_err(|error| failed(error.into()))?;
    Ok(device.into())
}

fn mount_as_user(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let failed = |why: String| MountError::Fusermount {
        what: "mount",
        dir: dir.into(),
        why,
    };
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| failed(error.to_string()))?;
    // The helper inherits its end and nothing else: a copy of ours in it, or
    // of either in a child of another thread, would keep us waiting for it.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())
        .map_err(|error| failed(error.to_string()))?;
    let mut list = format!(
        "ro,nosuid,nodev,default_permissions,subtype=walgit-fs,fsname={}",
        options.name.replace('\\', "\\\\").replace(',', "\\,")
    );
    if options.allow_other {
        list.push_str(",allow_other");
    }
    let child = Command::new(FUSERMOUNT)
        .args(["-o", &list, "--"])
        .arg(dir)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| helper_missing(error, failed))?;
    drop(theirs);
    let received = receive_descriptor(ours.as_fd(), 1);
    let said = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    match received {
        Ok((_, Some(device))) if said.status.success() => Ok(device),
        _ => Err(failed(words(&said.stderr))),
    }
}

fn helper_missing(error: io::Error, failed: impl Fn(String) -> MountError) -> MountError {
    match error.kind() {
        io::ErrorKind::NotFound => MountError::NoFusermount,
        _ => failed(error.to_string()),
    }
}

/// What the helper said, without its own name before it.
fn words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    let text = text.strip_prefix("fusermount3: ").unwrap_or(text);
    match text.is_empty() {
        true => "it gave no reason".into(),
        false => text.replace('\n', "; "),
    }
}

/// Undoes the mount on `dir`. `lazy` detaches it even when it is in use.
///
/// # Errors
/// [`MountError::Busy`], naming who uses it where that can be told.
pub fn unmount(dir: &Path, lazy: bool) -> Result<(), MountError> {
    if rustix::process::geteuid().is_root() {
        let mut flags = UnmountFlags::NOFOLLOW;
        if lazy {
            flags |= UnmountFlags::DETACH;
        }
        return match rustix::mount::unmount(dir, flags) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::BUSY) => Err(busy(dir)),
            Err(error) => Err(MountError::System {
                what: "unmount",
                dir: dir.into(),
                source: error.into(),
            }),
        };
    }
    let failed = |why: String| MountError::Fusermount {
        what: "unmount",
        dir: dir.into(),
        why,
    };
    let said = Command::new(FUSERMOUNT)
        .args(match lazy {
            true => &["-u", "-z", "--"][..],
            false => &["-u", "--"],
        })
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| helper_missing(error, failed))?;
    match said.status.success() {
        true => Ok(()),
        false if words(&said.stderr).contains("busy") => Err(busy(dir)),
        false => Err(failed(words(&said.stderr))),
    }
}

fn busy(dir: &Path) -> MountError {
    let users = users_of(dir);
    MountError::Busy {
        dir: dir.into(),
        users: match users.is_empty() {
            true => String::new(),
            false => format!(" by {}", users.join(", ")),
        },
    }
}

/// Processes that are in a folder or have a file open there, as far as we may
/// look.
fn users_of(dir: &Path) -> Vec<String> {
    let inside = |link: PathBuf| std::fs::read_link(link).is_ok_and(|to| to.starts_with(dir));
    let uses = |process: &Path| {
        let open = std::fs::read_dir(process.join("fd")).into_iter().flatten();
        inside(process.join("cwd"))
            || inside(process.join("root"))
            || inside(process.join("exe"))
            || open.flatten().any(|file| inside(file.path()))
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| {
            let pid: u32 = process.file_name().to_str()?.parse().ok()?;
            let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
            uses(&process.path()).then(|| format!("{} ({pid})", name.trim()))
        })
        .take(5)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Others choose the names that are in it.
        #[test]
        fn any_list_of_mounts_can_be_read(text in r"([a-z0-9\\ /:-]{0,20}( - )?\PC?\n?){0,12}") {
            let _ = topmost_type(&text, Path::new("/mnt"));
            prop_assert!(unescape(&text).len() <= text.len());
        }
    }

    #[test]
    fn paths_with_spaces_are_read_as_they_are() {
        assert_eq!(unescape(r"/mnt/a\040b\134c"), b"/mnt/a b\\c");
        assert_eq!(unescape(r"/plain\"), b"/plain\\");
    }

    #[test]
    fn of_stacked_mounts_the_topmost_counts() {
        let under = "30 1 0:9 / /mnt/a\\040b rw - fuse.walgit-fs it rw\n";
        let over = "31 30 0:10 / /mnt/a\\040b rw shared:1 - tmpfs none rw\n";
        let dir = Path::new("/mnt/a b");
        assert_eq!(topmost_type(under, dir), Some(FS_TYPE));
        assert_eq!(topmost_type(&format!("{under}{over}"), dir), Some("tmpfs"));
        assert_eq!(topmost_type(under, Path::new("/mnt")), None);
    }

    #[test]
    fn a_plain_folder_is_no_mount() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(mount_state(dir.path()), MountState::Other);
    }
}
