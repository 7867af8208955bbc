//! Processes that serve or use a mount, according to `/proc`.
//!
//! Reads only links and small files: reading `maps` of a process that waits for a
//! mount may block as well.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::mount_table::MountEntry;

/// Maximum number of processes in an error message.
const MAX_LISTED_PROCESSES: usize = 5;
/// The name of this program in `/proc`.
const PROGRAM_NAME: &str = "walgit-fs";

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.pid)
    }
}

fn proc(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(proc(pid).join("stat")).ok()?;
    // The preceding process name may contain any characters.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Whether a process was stopped by a signal or a debugger.
pub fn is_stopped(pid: u32) -> bool {
    matches!(stat(pid), Some(('T' | 't', _)))
}

/// Other processes with a working directory or an open file in a folder, as far as
/// this user has permission to see them.
pub(super) fn using(dir: &Path) -> Vec<Process> {
    let inside = |link: PathBuf| fs::read_link(link).is_ok_and(|to| to.starts_with(dir));
    let uses = |process: &Path| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten();
        inside(process.join("cwd"))
            || inside(process.join("root"))
            || inside(process.join("exe"))
            || open.flatten().any(|file| inside(file.path()))
    };
    all()
        .filter(|&pid| pid != std::process::id() && uses(&proc(pid)))
        .filter_map(|pid| {
            let name = fs::read_to_string(proc(pid).join("comm")).ok()?;
            let name = name.trim().to_owned();
            Some(Process { pid, name })
        })
        .take(MAX_LISTED_PROCESSES)
        .collect()
}

/// Whether `pid` is an ancestor of this process.
pub(super) fn is_ancestor(pid: u32) -> bool {
    let parents = std::iter::successors(Some(std::process::id()), |&pid| Some(stat(pid)?.1));
    parents
        .skip(1)
        .take_while(|&parent| parent > 1)
        .any(|parent| parent == pid)
}

/// Processes that may serve mounts, by FUSE connection.
#[derive(Debug, Default)]
pub struct Servers {
    by_device: HashMap<u32, Vec<u32>>,
}

impl Servers {
    /// Finds the processes that hold FUSE connections open, as far as this user has
    /// permission and the kernel reports them (6.15 and later).
    pub fn find() -> Self {
        let mut by_device: HashMap<u32, Vec<u32>> = HashMap::new();
        for pid in all() {
            let open = fs::read_dir(proc(pid).join("fd")).into_iter().flatten();
            for file in open.flatten() {
                if fs::read_link(file.path()).is_ok_and(|to| to.ends_with("fuse"))
                    && let Some(device) = connection(pid, &file.file_name().to_string_lossy())
                {
                    let pids = by_device.entry(device).or_default();
                    if pids.last() != Some(&pid) {
                        pids.push(pid);
                    }
                }
            }
        }
        Servers { by_device }
    }

    /// The process that serves a mount. Returns several if it is ambiguous: a process
    /// may still hold a connection that has ended and whose number was reused, and a
    /// process with private memory does not reveal its descriptors.
    pub fn of(&self, mount: &MountEntry) -> Vec<u32> {
        match self.by_device.get(&mount.device) {
            Some(pids) => pids.clone(),
            None => mount.uid.map_or(Vec::new(), daemons),
        }
    }
}

fn connection(pid: u32, descriptor: &str) -> Option<u32> {
    let file = proc(pid).join("fdinfo").join(descriptor);
    proc_field(&file, "fuse_connection:")?.parse().ok()
}

/// The value of a field in a file such as `/proc/PID/status`.
pub(crate) fn proc_field(file: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

/// Processes of a user that run this program to serve mounts.
fn daemons(uid: u32) -> Vec<u32> {
    let serves = |&pid: &u32| {
        let name = fs::read_to_string(proc(pid).join("comm")).unwrap_or_default();
        if name.trim() != PROGRAM_NAME || pid == std::process::id() || real_uid(pid) != Some(uid) {
            return false;
        }
        let arguments = fs::read(proc(pid).join("cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|&byte| byte == 0).skip(1);
        arguments.any(|argument| argument == b"daemon" || argument == b"--foreground")
    };
    all().filter(serves).collect()
}

/// Reads `status`, because root owns `/proc/PID` itself for a process with private
/// memory.
fn real_uid(pid: u32) -> Option<u32> {
    let users = proc_field(&proc(pid).join("status"), "Uid:")?;
    users.split_whitespace().next()?.parse().ok()
}
