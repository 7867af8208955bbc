//! `doctor`: prints the effective settings and their origins, and checks the system.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::args::Keys;
use super::context::Context;
use super::progress::{FsckBar, byte_bar};
use super::session::Session;
use super::{fsck, ledger, output};
use crate::cache::{Cache, CacheConfig, CacheError};
use crate::config::{SettingOrigin, Settings};
use crate::daemon::{self, DaemonPhase, Overview};
use crate::lifecycle::fsck::{FsckOptions, FsckReport, ReadScope};
use walgit_format::Address;
use walrus_client::net::{FailureKind, Journal};
use walrus_client::network::NetworkPlace;
use walrus_client::{HttpStore, LocalDir};

/// Time limit for reaching a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
struct EffectiveSetting {
    name: String,
    value: String,
    origin: SettingOrigin,
}

#[derive(Serialize)]
struct HealthCheck {
    name: String,
    ok: bool,
    message: String,
}

impl HealthCheck {
    fn new<E: Display>(name: impl Into<String>, result: Result<impl Into<String>, E>) -> Self {
        let ok = result.is_ok();
        let message = result.map_or_else(|error| error.to_string(), Into::into);
        let name = name.into();
        HealthCheck { name, ok, message }
    }
}

impl Doctor {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        if self.rebuild_ledger {
            self.rebuild(context)?;
            return Ok(ExitCode::SUCCESS);
        }
        let (settings, problem) = match context.settings_or_default() {
            Ok((settings, problem)) => (Some(settings), problem.map(anyhow::Error::from)),
            Err(problem) => (None, Some(problem)),
        };
        let shown = settings.as_ref().map_or_else(Vec::new, effective);
        let mut checks = Vec::new();
        if let Some(problem) = problem {
            let rest = settings.as_ref().map_or("", |_| "; the defaults are shown");
            checks.push(failed("settings", format!("{problem}{rest}")));
        }
        let dirs = context.dirs();
        let overview = context.run(async { Ok(Overview::take(dirs.as_ref()).await) })?;
        checks.extend([fuse_device(), mount_rights()]);
        let mut daemon_runs = true;
        match &overview {
            Ok(overview) => {
                checks.extend(mounts(overview));
                daemon_runs = !matches!(overview.daemon.state, DaemonPhase::Absent);
            }
            Err(error) => checks.push(failed("mounts", error)),
        }
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
        let result = json!({
            "settings": shown,
            "checks": checks,
            "repository": report,
            "ok": ok,
        });
        context.report(&result, || {
            output::table(
                (shown.iter())
                    .map(|s| [s.name.clone(), s.value.clone(), format!("({})", s.origin)]),
            )?;
            output::line("")?;
            output::table(checks.iter().map(|c| {
                let mark = if c.ok { "ok" } else { "FAILED" };
                [mark.into(), c.name.clone(), c.message.clone()]
            }))?;
            match &report {
                Some(report) if !report.is_sound() => fsck::print_faults(report),
                _ => Ok(()),
            }
        })?;
        Ok(output::exit_code(ok))
    }

    fn rebuild(&self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let session = Session::new(&settings, &self.keys)?;
        let rebuilt = context.run(ledger::rebuild(&session, self.partial))?;
        context.report(&rebuilt, || {
            outln!(
                "the ledger has the {} blobs that names need; {} entries were added",
                rebuilt.blobs,
                rebuilt.added
            )?;
            match &rebuilt.backup {
                Some(backup) => outln!("the former ledger is in {}", backup.display()),
                None => Ok(()),
            }
        })
    }

    /// Whether a repository can be read, as far as that is known without reading its
    /// content.
    fn repository(
        &self,
        context: &Context,
        settings: &Settings,
        address: &Address,
        checks: &mut Vec<HealthCheck>,
    ) -> Result<Option<FsckReport>> {
        let session = Session::new(settings, &self.keys)?;
        let bar = FsckBar(byte_bar("checking"));
        let checked = context.run(async {
            let repository = session.open(address).await?;
            let options = FsckOptions::reading(ReadScope::Bases);
            Ok(crate::lifecycle::fsck::check(&repository, &options, &bar).await?)
        });
        bar.0.finish_and_clear();
        let result = match &checked {
            Ok(report) if report.is_sound() => Ok(format!("its {} blobs are stored", report.blobs)),
            Ok(report) => Err(format!(
                "{} faults, {} files and directories cannot be read (below)",
                report.faults.len(),
                report.affected_count
            )),
            Err(why) => Err(output::message(why.as_ref())),
        };
        checks.push(HealthCheck::new(address.to_string(), result));
        Ok(checked.ok())
    }
}

/// The effective settings and their origins.
fn effective(settings: &Settings) -> Vec<EffectiveSetting> {
    let (network, origin) = (&settings.network.value, &settings.network.origin);
    let path = |path: &Path| path.display().to_string();
    let mut rows = Vec::new();
    let mut add = |name: &str, value: String, origin: &SettingOrigin| {
        rows.push(EffectiveSetting {
            name: name.into(),
            value,
            origin: origin.clone(),
        });
    };
    let file = if settings.file.exists() {
        path(&settings.file)
    } else {
        format!("{} (missing)", path(&settings.file))
    };
    add("config file", file, &SettingOrigin::Default);
    add("network", network.name.clone(), origin);
    match &network.place {
        NetworkPlace::Local { dir } => add("blobs", path(dir), origin),
        NetworkPlace::Http {
            aggregators,
            publishers,
        } => {
            add("aggregators", aggregators.join(" "), origin);
            add("publishers", publishers.join(" "), origin);
        }
    }
    let sui = network.sui.clone().unwrap_or("none".into());
    add("Sui node", sui, origin);
    add("sign-in", network.auth.name().into(), origin);
    add("largest blob", output::bytes(network.max_body), origin);
    add("cache", path(&settings.dirs.cache), &SettingOrigin::Default);
    let disk = &settings.cache_disk;
    add("cache on disk", output::bytes(disk.value), &disk.origin);
    let memory = &settings.cache_memory;
    add(
        "cache in memory",
        output::bytes(memory.value),
        &memory.origin,
    );
    let deadline = &settings.deadline_s;
    let seconds = format!("{} s", deadline.value);
    add("deadline of an operation", seconds, &deadline.origin);
    rows.extend(policy(settings));
    rows.push(EffectiveSetting {
        name: "daemon's sockets".into(),
        value: path(&settings.dirs.daemon()),
        origin: SettingOrigin::Default,
    });
    rows
}

/// The `[net]` settings with their current values, by key.
fn policy(settings: &Settings) -> Vec<EffectiveSetting> {
    let policy = serde_json::to_value(&settings.network.value.policy);
    let values = policy.ok().and_then(|value| value.as_object().cloned());
    let setting = |(name, value): (String, Value)| EffectiveSetting {
        value: match value {
            Value::String(text) => text,
            Value::Null => "none".into(),
            value => value.to_string(),
        },
        origin: if settings.policy_set.contains(&name) {
            SettingOrigin::File
        } else {
            SettingOrigin::Default
        },
        name: format!("net.{name}"),
    };
    values.into_iter().flatten().map(setting).collect()
}

/// Checks the daemon and every mounted folder.
fn mounts(overview: &Overview) -> Vec<HealthCheck> {
    let daemon = &overview.daemon;
    let daemon_message = match (daemon.state, daemon.pid) {
        (DaemonPhase::Absent, _) => "none runs; the first mount starts it".into(),
        (DaemonPhase::Running, Some(pid)) => match &daemon.message {
            None => format!("process {pid} answers and has the cache open"),
            Some(message) => format!("process {pid} answers; {message}"),
        },
        _ => daemon.message.clone().unwrap_or_default(),
    };
    let mut checks = vec![HealthCheck {
        name: "daemon".into(),
        ok: daemon.is_healthy(),
        message: daemon_message,
    }];
    checks.extend(overview.folders.iter().map(|folder| HealthCheck {
        name: folder.mountpoint.clone(),
        ok: folder.is_healthy(),
        message: folder.message.clone().unwrap_or_else(|| "answers".into()),
    }));
    checks
}

async fn network(settings: &Settings) -> Vec<HealthCheck> {
    let network = &settings.network.value;
    let mut checks = Vec::new();
    let mut urls: Vec<&String> = Vec::new();
    match &network.place {
        NetworkPlace::Local { dir } => {
            let listed = LocalDir::open(dir, network.max_body).and_then(|dir| dir.list());
            let stored = listed.map(|blobs| format!("{} stored", blobs.len()));
            checks.push(HealthCheck::new("blobs", stored));
        }
        NetworkPlace::Http {
            aggregators,
            publishers,
        } => urls.extend(aggregators.iter().chain(publishers)),
    }
    urls.extend(&network.sui);
    let answers = urls.into_iter().map(|url| endpoint(url, settings));
    checks.extend(futures_util::future::join_all(answers).await);
    checks
}

fn failed(name: &str, why: impl Display) -> HealthCheck {
    HealthCheck::new(name, Err::<String, _>(why))
}

fn fuse_device() -> HealthCheck {
    let mut options = std::fs::File::options();
    let opened = options.read(true).write(true).open("/dev/fuse");
    let remedy = "load the `fuse` module, or give the container that device";
    let result = opened.map(|_| "can be opened");
    HealthCheck::new(
        "/dev/fuse",
        result.map_err(|error| format!("{error}; {remedy}")),
    )
}

fn mount_rights() -> HealthCheck {
    let name = "mount rights";
    if rustix::process::geteuid().is_root() {
        return HealthCheck::new(name, Ok::<_, &str>("root mounts directly"));
    }
    let found = std::process::Command::new("fusermount3")
        .arg("--version")
        .output();
    let version = found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let missing = "fusermount3 is not installed; install the package `fuse3`";
    HealthCheck::new(name, version.map_err(|_| missing))
}

fn directory(settings: &Settings) -> HealthCheck {
    let dir = daemon::directory(&settings.dirs);
    let result = dir.map(|dir| format!("{} is private", dir.display()));
    HealthCheck::new("daemon directory", result)
}

fn cache(settings: &Settings) -> HealthCheck {
    if let Err(error) = settings.check_cache() {
        return failed("cache", error);
    }
    let result = match Cache::open(&CacheConfig::of(settings)) {
        Err(CacheError::Busy { holder, .. }) => Ok(format!("in use by {holder}")),
        opened => opened.map(|cache| {
            let stats = cache.stats();
            let bytes = output::bytes(stats.disk_bytes);
            format!("{} entries, {bytes}", stats.disk_entries)
        }),
    };
    HealthCheck::new("cache", result)
}

async fn endpoint(url: &str, settings: &Settings) -> HealthCheck {
    let started = Instant::now();
    let ca = settings.network.value.policy.ca.as_deref();
    let status = HttpStore::reach(url, CONNECT_TIMEOUT, ca).await;
    let result = status.map(|status| {
        let ms = started.elapsed().as_millis();
        let note = ranges_ignored(url, settings);
        format!("answers {status} in {ms} ms{note}")
    });
    HealthCheck::new(url, result)
}

/// Warning about a server that ignored a range within the last week.
fn ranges_ignored(url: &str, settings: &Settings) -> &'static str {
    let failures = Journal::read(&settings.failures()).unwrap_or_default();
    let week = walrus_client::clock::unix_seconds().saturating_sub(7 * 24 * 3600);
    let ignored = failures.iter().any(|failure| {
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
