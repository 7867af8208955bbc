//! `doctor`: prints the effective settings and their origins, and checks the system.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::context::{self, Context};
use super::keys::Keys;
use super::{Failure, fsck, ledger, output};
use crate::cache::{Cache, CacheConfig, CacheError};
use crate::config::{Origin, Settings};
use crate::daemon::{self, DaemonPhase, Overview};
use crate::lifecycle::fsck::{Options, Read, Report};
use walgit_format::Address;
use walrus_client::net::{FailureKind, Journal};
use walrus_client::network::NetworkPlace;
use walrus_client::{HttpStore, LocalDir};

/// Print the effective settings and check that mounting can work
///
/// Also checks every mounted folder, and reports each problem as FAILED with a remedy.
/// For a repository, also checks that its blobs are stored, and reads the data that
/// decoding depends on; use `fsck` for a complete check.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Repository to check as well
    address: Option<Address>,
    /// Complete the ledger with the blobs that names need. Keeps existing entries and a
    /// copy of the file
    #[arg(long, conflicts_with = "address")]
    rebuild_ledger: bool,
    /// Skip names that cannot be read; the ledger keeps its entries for them
    #[arg(long, requires = "rebuild_ledger")]
    partial: bool,
    #[command(flatten)]
    keys: Keys,
}

#[derive(Serialize)]
struct Setting {
    name: String,
    value: String,
    origin: Origin,
}

#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
    message: String,
}

impl Doctor {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        if self.rebuild_ledger {
            let settings = context.settings()?;
            let rebuilt = context.run(ledger::rebuild(&settings, &self.keys, self.partial))?;
            if context.json {
                output::json(&rebuilt)?;
            } else {
                output::line(&format!(
                    "the ledger knows the {} blobs that names need; {} entries were added",
                    rebuilt.blobs, rebuilt.added
                ))?;
                if let Some(backup) = &rebuilt.backup {
                    let backup = backup.display();
                    output::line(&format!("the ledger as it was before is in {backup}"))?;
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        let (settings, problem) = match context.settings_or_default() {
            Ok((settings, problem)) => (Some(settings), problem.map(Failure::from)),
            Err(problem) => (None, Some(problem)),
        };
        let shown = settings.as_ref().map_or_else(Vec::new, show);
        let mut checks = Vec::new();
        if let Some(problem) = problem {
            let rest = settings.as_ref().map_or("", |_| "; the defaults are shown");
            checks.push(bad("settings", &format!("{problem}{rest}")));
        }
        let dirs = context.dirs();
        let overview = context.run(async { Ok(Overview::take(dirs.as_ref()).await) })?;
        checks.extend([fuse_device(), mount_rights()]);
        let daemon_runs = match &overview {
            Ok(overview) => {
                checks.extend(mounts(overview));
                !matches!(overview.daemon.state, DaemonPhase::Absent)
            }
            Err(error) => {
                checks.push(bad("mounts", &error.to_string()));
                true
            }
        };
        let mut report = None;
        if let Some(settings) = &settings {
            checks.push(directory(settings));
            if !daemon_runs {
                checks.push(cache(settings));
            }
            checks.extend(context.run(async { Ok(network(settings).await) })?);
            if let Some(address) = &self.address {
                report = self.repository(context, settings, address, &mut checks)?;
            }
        }
        let ok = checks.iter().all(|check| check.ok);
        if context.json {
            output::json(&serde_json::json!({
                "settings": shown,
                "checks": checks,
                "repository": report,
                "ok": ok,
            }))?;
        } else {
            let row =
                |s: &Setting| vec![s.name.clone(), s.value.clone(), format!("({})", s.origin)];
            output::table(&shown.iter().map(row).collect::<Vec<_>>())?;
            output::line("")?;
            let row = |c: &Check| {
                let mark = if c.ok { "ok" } else { "FAILED" };
                vec![mark.into(), c.name.clone(), c.message.clone()]
            };
            output::table(&checks.iter().map(row).collect::<Vec<_>>())?;
            if let Some(report) = report.as_ref().filter(|report| !report.is_sound()) {
                fsck::tell(report)?;
            }
        }
        Ok(match ok {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

impl Doctor {
    /// Whether a repository can be read, as far as that is known without reading its
    /// content.
    fn repository(
        &self,
        context: &Context,
        settings: &Settings,
        address: &Address,
        checks: &mut Vec<Check>,
    ) -> Result<Option<Report>, Failure> {
        let cache = context::cache(settings)?;
        let loader = context::loader(&cache);
        let bar = fsck::Bar(output::byte_bar("checking"));
        let looked = context.run(async {
            let repository = context::open(settings, &loader, address, &self.keys).await?;
            let options = Options::reading(Read::Bases);
            Ok(crate::lifecycle::fsck::check(&repository, &options, &bar).await?)
        });
        bar.0.finish_and_clear();
        let name = address.to_string();
        Ok(match looked {
            Ok(report) if report.is_sound() => {
                let blobs = report.blobs;
                checks.push(good(&name, &format!("its {blobs} blobs are stored")));
                Some(report)
            }
            Ok(report) => {
                let (faults, affected) = (report.faults.len(), report.affected_count);
                let said = format!(
                    "{faults} faults, {affected} files and directories cannot be read (below)"
                );
                checks.push(bad(&name, &said));
                Some(report)
            }
            Err(why) => {
                checks.push(bad(&name, &why.to_string()));
                None
            }
        })
    }
}

fn show(settings: &Settings) -> Vec<Setting> {
    let network = &settings.network;
    let row = |name: &str, value: String, origin: &Origin| Setting {
        name: name.into(),
        value,
        origin: origin.clone(),
    };
    let path = |path: &std::path::Path| path.display().to_string();
    let file = match settings.file.exists() {
        true => path(&settings.file),
        false => format!("{} (not there)", path(&settings.file)),
    };
    let mut rows = vec![
        row("config file", file, &Origin::Default),
        row("network", network.value.name.clone(), &network.origin),
    ];
    match &network.value.place {
        NetworkPlace::Local { dir } => rows.push(row("blobs", path(dir), &network.origin)),
        NetworkPlace::Http {
            aggregators,
            publishers,
        } => {
            rows.push(row("aggregators", aggregators.join(" "), &network.origin));
            rows.push(row("publishers", publishers.join(" "), &network.origin));
        }
    }
    let sui = network.value.sui.clone();
    rows.push(row(
        "Sui node",
        sui.unwrap_or("none".into()),
        &network.origin,
    ));
    let method = network.value.auth.name().to_owned();
    rows.push(row("sign-in", method, &network.origin));
    let max_body = output::bytes(network.value.max_body);
    rows.push(row("largest blob", max_body, &network.origin));
    rows.push(row("cache", path(&settings.dirs.cache), &Origin::Default));
    let disk = &settings.cache_disk;
    rows.push(row(
        "cache on disk",
        output::bytes(disk.value),
        &disk.origin,
    ));
    let memory = &settings.cache_memory;
    let value = output::bytes(memory.value);
    rows.push(row("cache in memory", value, &memory.origin));
    let deadline = &settings.deadline_s;
    let value = format!("{} s", deadline.value);
    rows.push(row("deadline of an operation", value, &deadline.origin));
    rows.extend(policy(settings));
    let daemon = path(&settings.dirs.daemon());
    rows.push(row("daemon's sockets", daemon, &Origin::Default));
    rows
}

/// The `[net]` settings with their current values, by key.
fn policy(settings: &Settings) -> Vec<Setting> {
    let policy = serde_json::to_value(&settings.network.value.policy);
    let values = policy.ok().and_then(|value| value.as_object().cloned());
    let one = |(name, value): (String, serde_json::Value)| Setting {
        value: match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => "none".into(),
            value => value.to_string(),
        },
        origin: match settings.policy_set.contains(&name) {
            true => Origin::File,
            false => Origin::Default,
        },
        name: format!("net.{name}"),
    };
    values.into_iter().flatten().map(one).collect()
}

/// Checks the daemon and every mounted folder.
fn mounts(overview: &Overview) -> Vec<Check> {
    let daemon = &overview.daemon;
    let said = match (daemon.state, daemon.pid) {
        (DaemonPhase::Absent, _) => "none runs; the first mount starts it".into(),
        (DaemonPhase::Running, Some(pid)) => match &daemon.message {
            None => format!("process {pid} answers and has the cache open"),
            Some(message) => format!("process {pid} answers; {message}"),
        },
        _ => daemon.message.clone().unwrap_or_default(),
    };
    let mut checks = vec![Check {
        name: "daemon".into(),
        ok: daemon.is_well(),
        message: said,
    }];
    checks.extend(overview.folders.iter().map(|folder| Check {
        name: folder.mountpoint.clone(),
        ok: folder.is_well(),
        message: folder.message.clone().unwrap_or_else(|| "answers".into()),
    }));
    checks
}

async fn network(settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut urls: Vec<&String> = Vec::new();
    match &settings.network.value.place {
        NetworkPlace::Local { dir } => {
            let opened = LocalDir::open(dir, settings.network.value.max_body);
            checks.push(match opened.and_then(|dir| dir.list()) {
                Ok(blobs) => good("blobs", &format!("{} stored", blobs.len())),
                Err(error) => bad("blobs", &error.to_string()),
            });
        }
        NetworkPlace::Http {
            aggregators,
            publishers,
        } => {
            urls.extend(aggregators.iter().chain(publishers));
        }
    }
    urls.extend(&settings.network.value.sui);
    let answers = urls.into_iter().map(|url| endpoint(url, settings));
    checks.extend(futures_util::future::join_all(answers).await);
    checks
}

fn good(name: &str, message: &str) -> Check {
    Check {
        name: name.into(),
        ok: true,
        message: message.into(),
    }
}

fn bad(name: &str, message: &str) -> Check {
    Check {
        ok: false,
        ..good(name, message)
    }
}

fn fuse_device() -> Check {
    let opened = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    match opened {
        Ok(_) => good("/dev/fuse", "can be opened"),
        Err(error) => bad(
            "/dev/fuse",
            &format!("{error}; load the `fuse` module, or give the container that device"),
        ),
    }
}

fn mount_rights() -> Check {
    if rustix::process::geteuid().is_root() {
        return good("mount rights", "root mounts directly");
    }
    let found = std::process::Command::new("fusermount3")
        .arg("--version")
        .output();
    match found {
        Ok(said) => good("mount rights", String::from_utf8_lossy(&said.stdout).trim()),
        Err(_) => bad(
            "mount rights",
            "fusermount3 is not installed; install the package `fuse3`",
        ),
    }
}

fn directory(settings: &Settings) -> Check {
    match daemon::directory(&settings.dirs) {
        Ok(dir) => good("daemon directory", &format!("{} is private", dir.display())),
        Err(error) => bad("daemon directory", &error.to_string()),
    }
}

fn cache(settings: &Settings) -> Check {
    if let Err(error) = settings.check_cache() {
        return bad("cache", &error.to_string());
    }
    match Cache::open(&CacheConfig::of(settings)) {
        Ok(cache) => {
            let stats = cache.stats();
            let held = format!(
                "{} entries, {}",
                stats.disk_entries,
                output::bytes(stats.disk_bytes)
            );
            good("cache", &held)
        }
        Err(CacheError::Busy { holder, .. }) => good("cache", &format!("in use by {holder}")),
        Err(error) => bad("cache", &error.to_string()),
    }
}

async fn endpoint(url: &str, settings: &Settings) -> Check {
    let started = Instant::now();
    let ca = settings.network.value.policy.ca.as_deref();
    match HttpStore::reach(url, Duration::from_secs(5), ca).await {
        Ok(status) => {
            let took = started.elapsed().as_millis();
            let noted = ranges_ignored(url, settings);
            good(url, &format!("answers {status} in {took} ms{noted}"))
        }
        Err(error) => bad(url, &error.to_string()),
    }
}

/// Warning about a server that ignored a range within the last week.
fn ranges_ignored(url: &str, settings: &Settings) -> &'static str {
    let kept = Journal::read(&settings.failures()).unwrap_or_default();
    let week = walrus_client::clock::unix_seconds().saturating_sub(7 * 24 * 3600);
    let ignored = kept.iter().any(|failure| {
        failure.kind == FailureKind::NoRanges
            && failure.time >= week
            && failure.endpoint.trim_end_matches('/') == url.trim_end_matches('/')
    });
    if ignored {
        "; it ignores range requests, so each read transfers a blob from its start"
    } else {
        ""
    }
}
