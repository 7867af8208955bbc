//! Attributes of the daemon's process: resets those that it inherits from the command
//! that starts it.
//!
//! The daemon outlives that command and serves others too, so it must not keep limits,
//! priorities and open files of one shell. Attributes that the system does not allow to
//! reset are reported once, when the daemon starts.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::fuse::proc_field;

/// Limits that sooner or later stop a daemon if set.
const UNLIMITED_RESOURCES: [(Resource, &str); 5] = [
    (Resource::As, "address space"),
    (Resource::Cpu, "CPU time"),
    (Resource::Data, "data size"),
    (Resource::Fsize, "file size"),
    (Resource::Rss, "resident memory"),
];
/// Desired number of open files, and the minimum.
const WANTED_OPEN_FILES: u64 = 1 << 20;
const MIN_OPEN_FILES: u64 = 1024;
/// Highest `oom_score_adj` that a session has by default.
const SESSION_OOM_SCORE: i32 = 200;

/// Marks inherited descriptors close-on-exec: otherwise a lock or a pipe of the caller
/// would stay open as long as the daemon lives.
pub(super) fn close_descriptors_on_exec() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// Resets limits and priorities of this process, as far as permitted; returns those that
/// remain. Must run before threads start, because they inherit them.
pub(super) fn reset() -> Vec<String> {
    let mut unchanged = limits();
    let _ = rustix::process::setpriority_process(None, 0);
    if let Ok(nice) = rustix::process::getpriority_process(None)
        && nice > 0
    {
        unchanged.push(format!("niceness {nice}"));
    }
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::MAX_CPU {
        all.set(cpu);
    }
    // Limits of the cpuset remain.
    let _ = sched_setaffinity(None, &all);
    scheduling(&mut unchanged);
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    let score: i32 = score.trim().parse().unwrap_or(0);
    if score > SESSION_OOM_SCORE {
        unchanged.push(format!("oom_score_adj {score}"));
    }
    unchanged
}

fn limits() -> Vec<String> {
    let mut unchanged = Vec::new();
    for (resource, name) in UNLIMITED_RESOURCES {
        if let Some(limit) = raise(resource, None) {
            unchanged.push(format!("{name} limited to {limit}"));
        }
    }
    // For these, a lower limit is not worth a warning.
    raise(Resource::Nproc, None);
    raise(Resource::Memlock, None);
    if let Some(files) =
        raise(Resource::Nofile, Some(WANTED_OPEN_FILES)).filter(|&it| it < MIN_OPEN_FILES)
    {
        unchanged.push(format!("{files} open files"));
    }
    unchanged
}

/// Raises a limit to `wanted`, or as far as permitted; returns the remaining limit. The
/// limit on core dumps is not changed: keys must not be dumped.
fn raise(resource: Resource, wanted: Option<u64>) -> Option<u64> {
    let is_enough =
        |limit: Option<u64>| limit.is_none_or(|limit| wanted.is_some_and(|it| limit >= it));
    let set = |maximum| {
        let current = maximum;
        setrlimit(resource, Rlimit { current, maximum })
    };
    let found = getrlimit(resource);
    if !is_enough(found.current) {
        let maximum = found.maximum;
        let target = if is_enough(maximum) { maximum } else { wanted };
        let _ = set(target).or_else(|_| set(maximum));
    }
    getrlimit(resource).current
}

/// Resets scheduling policy and I/O priority with external tools, because no safe API
/// exists; if they were changed, these tools are installed.
fn scheduling(unchanged: &mut Vec<String>) {
    let pid = std::process::id().to_string();
    // Class `none`: derived from niceness, as for every new process.
    run("ionice", &["-c", "0", "-p", &pid]);
    let policy = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields = stat.rsplit_once(") ")?.1;
        // Field 41 of all; the third follows the name.
        fields.split(' ').nth(41 - 3)?.parse::<u32>().ok()
    };
    if policy().is_some_and(|policy| policy != 0) {
        run("chrt", &["--other", "--pid", "0", &pid]);
    }
    if let Some(policy) = policy().filter(|&policy| policy != 0) {
        unchanged.push(format!("scheduling policy {policy}"));
    }
}

fn run(program: &str, args: &[&str]) {
    let _ = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Returns the resident bytes of this process; `None` if the system does not report them.
pub(super) fn resident_bytes() -> Option<u64> {
    let resident = proc_field(Path::new("/proc/self/status"), "VmRSS:")?;
    let kib: u64 = resident.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_has_resident_memory() {
        let resident = super::resident_bytes().unwrap();
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
    }
}
