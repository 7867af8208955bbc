//! `status`: shows mounts and their health.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::context::Context;
use super::output;
use crate::cache::{CacheStats, Pin};
use crate::daemon::{
    DaemonReport, DaemonStatus, JobStatus, MountStatus, MountedFolder, NetworkStatus, Overview,
    mounted_folder, saved_statuses,
};
use crate::fuse::Liveness;
use walrus_client::clock::unix_seconds;
use walrus_client::net::Conditions;
use walrus_client::net::{BreakerState, EndpointHealth, Role};

/// Show mounts, cache hit rates and network traffic
///
/// Lists every mounted folder with the process that serves it, whether it responds, and a
/// remedy if it does not. Exit code: 0 if all is well, 1 if a folder is dead or does not
/// respond, or the daemon cannot be reached.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Show only this folder
    dir: Option<PathBuf>,
}

/// Output of `--json`: the same keys in every state of the daemon.
#[derive(Serialize)]
struct StatusReport<'a> {
    daemon: &'a DaemonReport,
    pid: Option<u32>,
    version: Option<&'a str>,
    uptime_s: Option<u64>,
    mounts: Vec<Value>,
    cache: Option<&'a CacheStats>,
    networks: &'a [NetworkStatus],
    pins: &'a [Pin],
    jobs: &'a [JobStatus],
}

impl Status {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let dirs = context.dirs();
        let jobs = match context.settings_or_default() {
            Ok((settings, problem)) => {
                if let Some(problem) = problem {
                    warning!("{problem}; the defaults are used");
                }
                saved_statuses(&settings)
            }
            Err(_) => Vec::new(),
        };
        let only = self.dir.map(|dir| mounted_folder(&dir)).transpose()?;
        let mut overview = context.run(async { Ok(Overview::take(dirs.as_ref()).await?) })?;
        if let Some(only) = &only {
            let only = only.display().to_string();
            overview.folders.retain(|folder| folder.mountpoint == only);
        }
        context.report(&report(&overview, &jobs)?, || {
            print(&overview, &jobs, only.is_some())
        })?;
        Ok(output::exit_code(overview.is_healthy()))
    }
}

fn report<'a>(overview: &'a Overview, jobs: &'a [JobStatus]) -> Result<StatusReport<'a>> {
    let status = overview.status.as_ref();
    let mounts: Result<_, _> = overview.folders.iter().map(folder_json).collect();
    Ok(StatusReport {
        daemon: &overview.daemon,
        pid: overview.daemon.pid,
        version: status.map(|status| status.version.as_str()),
        uptime_s: status.map(|status| status.uptime_s),
        mounts: mounts?,
        cache: status.map(|status| &status.cache),
        networks: status.map_or(&[], |status| &status.networks),
        pins: status.map_or(&[], |status| &status.pins),
        jobs: status.map_or(jobs, |status| &status.jobs),
    })
}

/// A folder with its details from the daemon; the keys are the same without them.
fn folder_json(folder: &MountedFolder) -> Result<Value, serde_json::Error> {
    let mut value = match &folder.details {
        Some(details) => serde_json::to_value(details)?,
        None => {
            let mut keys = serde_json::to_value(MountStatus::default())?;
            let values = keys.as_object_mut().into_iter().flatten();
            values.for_each(|(_, value)| *value = Value::Null);
            keys
        }
    };
    let known = serde_json::to_value(folder)?;
    if let (Value::Object(value), Value::Object(known)) = (&mut value, known) {
        value.extend(known);
    }
    Ok(value)
}

fn print(overview: &Overview, jobs: &[JobStatus], one_folder: bool) -> Result<()> {
    if let Some(message) = &overview.daemon.message {
        outln!("daemon: {message}")?;
    }
    if overview.folders.is_empty() {
        outln!("nothing is mounted")?;
    }
    let own_uid = rustix::process::getuid().as_raw();
    for folder in &overview.folders {
        print_folder(folder, own_uid)?;
    }
    if one_folder {
        return Ok(());
    }
    match &overview.status {
        Some(status) => print_daemon(status),
        None => {
            // Report failed jobs even if no daemon is running.
            for job in jobs.iter().filter(|job| job.error.is_some()) {
                print_job(job)?;
            }
            Ok(())
        }
    }
}

fn print_folder(folder: &MountedFolder, own_uid: u32) -> Result<()> {
    match &folder.details {
        Some(mount) if folder.state != Liveness::Dead => print_mount(mount)?,
        _ => outln!("{}  {}", folder.mountpoint, folder.label)?,
    }
    if let Some(user) = folder.user.filter(|&user| user != own_uid) {
        outln!("  mounted by user {user}")?;
    }
    match &folder.message {
        Some(message) => outln!("  {message}"),
        None => Ok(()),
    }
}

fn print_daemon(status: &DaemonStatus) -> Result<()> {
    let c = &status.cache;
    let reads = c.memory_hits + c.disk_hits + c.misses;
    let share = |part: u64| match reads {
        0 => "0 %".into(),
        reads => format!("{:.0} %", part as f64 * 100.0 / reads as f64),
    };
    let used = |bytes, budget, hits| {
        let (bytes, budget) = (output::bytes(bytes), output::bytes(budget));
        format!("{bytes} of {budget}, {} of reads", share(hits))
    };
    let fetched = format!(
        "{} in {} requests, {} of reads",
        output::bytes(c.fetched_bytes),
        c.fetches,
        share(c.misses)
    );
    outln!("cache")?;
    output::details([
        (
            "memory",
            used(c.memory_bytes, c.memory_budget, c.memory_hits),
        ),
        ("disk", used(c.disk_bytes, c.disk_budget, c.disk_hits)),
        ("fetched", fetched),
    ])?;
    if c.corrupt_dropped + c.disk_errors + c.failed_fetches > 0 {
        outln!(
            "  problems: {} corrupt entries dropped, {} fetches failed, {} disk errors",
            c.corrupt_dropped,
            c.failed_fetches,
            c.disk_errors
        )?;
    }
    for pin in &status.pins {
        let [name, state] = output::pin(pin);
        outln!("  pinned {name}: {state}")?;
    }
    for job in &status.jobs {
        print_job(job)?;
    }
    for network in &status.networks {
        print_network(network)?;
    }
    Ok(())
}

fn print_job(job: &JobStatus) -> Result<()> {
    let now = unix_seconds();
    let hours = |seconds: u64| match seconds {
        seconds if seconds < 3600 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds / 3600),
    };
    let last = match job.last {
        0 => "not yet".into(),
        last => format!("{} ago", hours(now.saturating_sub(last))),
    };
    let next = hours((job.last + job.every_s).saturating_sub(now));
    let what = job.error.as_ref().unwrap_or(&job.did);
    let colon = if what.is_empty() { "" } else { ": " };
    outln!(
        "job {}: last run {last}{colon}{what}; next in {next}",
        job.name
    )
}

fn print_network(network: &NetworkStatus) -> Result<()> {
    let health = &network.health;
    if health.endpoints.is_empty() {
        return Ok(());
    }
    let hedged = match health.hedges {
        0 => String::new(),
        hedges => format!(", {hedges} hedged reads ({} won)", health.hedges_won),
    };
    outln!(
        "network {}: {} requests, {} received, {} sent{hedged}",
        network.name,
        health.requests,
        output::bytes(health.received),
        output::bytes(health.sent)
    )?;
    output::table(health.endpoints.iter().map(endpoint_row))?;
    for failure in &health.failures {
        outln!(
            "  {} failed {} times ({}): {}",
            failure.endpoint,
            failure.count,
            failure.kind,
            failure.message
        )?;
    }
    if health.failures.is_empty() {
        Ok(())
    } else {
        outln!("  walgit-fs failures shows details and remedies")
    }
}

/// Formats an endpoint, its link conditions and its problems.
fn endpoint_row(endpoint: &EndpointHealth) -> [String; 3] {
    let mut notes = Vec::new();
    match (endpoint.breaker, endpoint.probe_in_s) {
        (BreakerState::Closed, _) => {}
        (BreakerState::Open, due) => notes.push(format!(
            "failing, next attempt in {} s",
            due.unwrap_or_default()
        )),
        (BreakerState::HalfOpen, _) => notes.push("was failing, is being tested".into()),
    }
    if let Some(left) = endpoint.quarantined_s {
        notes.push(format!(
            "sent corrupt data {} times, is used last for {} min",
            endpoint.integrity_violations,
            left.div_ceil(60)
        ));
    }
    match &endpoint.conditions {
        Some(conditions) => notes.push(conditions_of(conditions)),
        None if notes.is_empty() && endpoint.role == Role::Aggregator => {
            notes.push("not used yet".into());
        }
        None => {}
    }
    let role = match endpoint.role {
        Role::Aggregator => "  reads from",
        Role::Publisher => "  writes to",
    };
    [role.into(), endpoint.url.clone(), notes.join("; ")]
}

fn percent(part: Option<f64>) -> String {
    part.map_or("-".into(), |part| format!("{:.0} %", part * 100.0))
}

fn conditions_of(conditions: &Conditions) -> String {
    let bandwidth = match conditions.bandwidth {
        Some(bandwidth) => format!("{}/s", output::bytes(bandwidth)),
        None => "bandwidth unknown".into(),
    };
    format!(
        "round trip {:.1} ms, {bandwidth}, {:.1} % lost",
        conditions.round_trip_us as f64 / 1000.0,
        conditions.loss * 100.0
    )
}

fn print_mount(mount: &MountStatus) -> Result<()> {
    let commit = &mount.commit[..mount.commit.len().min(12)];
    outln!("{}  {}  {commit}", mount.mountpoint, mount.label)?;
    outln!(
        "  {} for {} s, {} files and directories, {}; {} requests, {} waited for the network",
        mount.network,
        unix_seconds().saturating_sub(mount.since),
        mount.nodes,
        output::bytes(mount.bytes),
        mount.stats.operations,
        mount.stats.waited
    )?;
    if let Some(ahead) = mount.prefetch.filter(|ahead| ahead.files > 0) {
        outln!(
            "  prefetched {} files in {} requests: {} were opened ({}, precision {}), {} not yet ({}); \
             coverage {}, about {:.1} s saved",
            ahead.files,
            ahead.requests,
            ahead.hits,
            output::bytes(ahead.useful_bytes),
            percent(ahead.precision),
            ahead.files.saturating_sub(ahead.hits),
            output::bytes(ahead.unused_bytes),
            percent(ahead.coverage),
            ahead.saved_s
        )?;
    }
    if let Some(follow) = &mount.follow {
        let trouble = match &follow.error {
            Some(error) => format!("; the last check failed: {error}"),
            None => String::new(),
        };
        outln!(
            "  follows its branch every {} s, moved {} times{trouble}",
            follow.every_s,
            follow.moves
        )?;
    }
    if mount.stats.failed + mount.stats.timed_out > 0 {
        outln!(
            "  {} requests failed ({} for bytes that did not verify), {} timed out",
            mount.stats.failed,
            mount.stats.integrity,
            mount.stats.timed_out
        )?;
    }
    Ok(())
}
