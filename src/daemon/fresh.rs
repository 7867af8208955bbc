//! What a daemon sheds of the command that happened to start it.
//!
//! It outlives that command and serves others too, so limits, priorities and open
//! files of one shell must not be its own. What the system does not allow to reset
//! is reported once, where the daemon is started.

use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Limits that stop a daemon sooner or later where they are set at all.
const UNLIMITED: [(Resource, &str); 5] = [
    (Resource::As, "address space"),
    (Resource::Cpu, "CPU time"),
    (Resource::Data, "data size"),
    (Resource::Fsize, "file size"),
    (Resource::Rss, "resident memory"),
];
/// Files that a daemon should be able to open, and those it can do with.
const FILES: u64 = 1 << 20;
const FEWEST_FILES: u64 = 1024;
/// Value of `oom_score_adj` that a session may have by default.
const SESSION_OOM_SCORE: i32 = 200;

/// Descriptors that this process inherited do not go on to what it starts: a lock or
/// a pipe of the caller would stay held as long as a daemon lives.
pub(super) fn keep_descriptors_back() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// Gives this process limits and priorities of its own, as far as that is allowed;
/// what could not be reset. Before there are threads, which inherit them.
pub(super) fn reset() -> Vec<String> {
    let mut kept = limits();
    let _ = rustix::process::setpriority_process(None, 0);
    match rustix::process::getpriority_process(None) {
        Ok(nice) if nice > 0 => kept.push(format!("niceness {nice}")),
        _ => {}
    }
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::MAX_CPU {
        all.set(cpu);
    }
    // Those of the cpuset remain.
    let _ = sched_setaffinity(None, &all);
    scheduling(&mut kept);
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let score = std::fs::read_to_string("/proc/self/oom_score_adj");
    let score: i32 = score
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    if score > SESSION_OOM_SCORE {
        kept.push(format!("oom_score_adj {score}"));
    }
    kept
}

fn limits() -> Vec<String> {
    let mut kept = Vec::new();
    for (resource, name) in UNLIMITED {
        if let Some(limit) = raise(resource, None) {
            kept.push(format!("{name} limited to {limit}"));
        }
    }
    // Of these, many is enough.
    raise(Resource::Nproc, None);
    raise(Resource::Memlock, None);
    if let Some(files) = raise(Resource::Nofile, Some(FILES)).filter(|&it| it < FEWEST_FILES) {
        kept.push(format!("{files} open files"));
    }
    kept
}

/// Raises a limit to `wish`, or as far as allowed; what limits it still. The limit on
/// core dumps is not touched: keys must not get into one.
fn raise(resource: Resource, wish: Option<u64>) -> Option<u64> {
    let enough = |limit: Option<u64>| match (limit, wish) {
        (None, _) => true,
        (Some(limit), Some(wish)) => limit >= wish,
        (Some(_), None) => false,
    };
    let found = getrlimit(resource);
    if !enough(found.current) {
        let maximum = if enough(found.maximum) {
            found.maximum
        } else {
            wish
        };
        let wished = Rlimit {
            current: maximum,
            maximum,
        };
        if setrlimit(resource, wished).is_err() {
            let _ = setrlimit(
                resource,
                Rlimit {
                    current: found.maximum,
                    maximum: found.maximum,
                },
            );
        }
    }
    getrlimit(resource).current
}

/// Scheduling policy and I/O priority. No safe interface exists to set them, but who
/// changed them had the tools for it.
fn scheduling(kept: &mut Vec<String>) {
    let pid = std::process::id().to_string();
    // Class `none`: by niceness, as for every new process.
    run("ionice", &["-c", "0", "-p", &pid]);
    let policy = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields = stat.rsplit_once(") ")?.1;
        // Field 41 of all, and the third follows the name.
        fields.split(' ').nth(41 - 3)?.parse::<u32>().ok()
    };
    if policy().is_some_and(|policy| policy != 0) {
        run("chrt", &["--other", "--pid", "0", &pid]);
    }
    match policy() {
        Some(policy) if policy != 0 => kept.push(format!("scheduling policy {policy}")),
        _ => {}
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
