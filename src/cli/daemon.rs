//! `daemon`: the background process that serves mounts.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::output;
use crate::config::Dirs;
use crate::daemon::{self, Client, DaemonState, DaemonStatus, StopOutcome};

/// Show, stop or restart the background process that serves mounts
///
/// The first mount starts it. It exits some time after the last unmount.
#[derive(Debug, Args)]
pub(super) struct Daemon {
    #[command(subcommand)]
    action: DaemonAction,
}

#[derive(Debug, Subcommand)]
enum DaemonAction {
    /// Show the process and its settings
    Status,
    /// Unmount everything and stop the daemon
    ///
    /// Detaches folders that are in use: their open files are no longer readable.
    /// Succeeds if no daemon is running.
    Stop,
    /// Restart the daemon and its mounts with the current settings
    Restart,
    /// Serve mounts in the background (started by `mount` when needed)
    #[command(hide = true)]
    Run,
}

impl Daemon {
    /// Whether this process becomes the daemon.
    pub(super) fn serves(&self) -> bool {
        matches!(self.action, DaemonAction::Run)
    }

    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        match self.action {
            DaemonAction::Status => status(context)?,
            DaemonAction::Stop => stop(context)?,
            DaemonAction::Restart => return restart(context),
            DaemonAction::Run => daemon::run(context.settings()?, None)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn status(context: &Context) -> Result<()> {
    // A broken config file must not hide a running daemon.
    let dirs = Dirs::from_environment()?;
    let state = context.run(async {
        Ok(match Client::probe(&dirs).await? {
            DaemonState::Absent => None,
            DaemonState::Running(client) => Some(client.status().await?),
            DaemonState::Unavailable(error) => return Err(error.into()),
        })
    })?;
    let Some(status) = state else {
        return context.report(&json!({ "running": false }), || {
            outln!("no daemon is running; the first mount starts one")
        });
    };
    let report = json!({
        "running": true,
        "pid": status.pid,
        "version": status.version,
        "uptime_s": status.uptime_s,
        "mounts": status.mounts.len(),
        "settings": status.settings,
        "warning": status.warning,
        "directory": dirs.daemon(),
    });
    context.report(&report, || print(&status, &dirs))
}

fn print(status: &DaemonStatus, dirs: &Dirs) -> Result<()> {
    if let Some(warning) = &status.warning {
        output::warning(warning);
    }
    let mut rows = vec![
        ("process", status.pid.to_string()),
        ("version", status.version.clone()),
        ("running for", format!("{} s", status.uptime_s)),
        ("mounts", status.mounts.len().to_string()),
        ("sockets", dirs.daemon().display().to_string()),
    ];
    if let Some(settings) = &status.settings {
        rows.extend([
            ("config file", settings.config.display().to_string()),
            ("cache on disk", output::bytes(settings.cache_disk.value)),
            (
                "cache in memory",
                output::bytes(settings.cache_memory.value),
            ),
            (
                "deadline of an operation",
                format!("{} s", settings.deadline_s.value),
            ),
            (
                "ends when idle for",
                format!("{} s", settings.idle_exit_s.value),
            ),
        ]);
    }
    output::table(
        rows.into_iter()
            .map(|(name, value)| [name.to_owned(), value]),
    )
}

fn stop(context: &Context) -> Result<()> {
    let dirs = Dirs::from_environment()?;
    let stopped = context.wait(daemon::stop(&dirs))?;
    let report = match &stopped {
        StopOutcome::Absent => json!({ "stopped": false }),
        StopOutcome::Ended { pid } => json!({ "stopped": true, "pid": pid }),
    };
    context.report(&report, || output::line(describe(&stopped)))
}

fn describe(stopped: &StopOutcome) -> &'static str {
    match stopped {
        StopOutcome::Absent => "no daemon is running",
        StopOutcome::Ended { .. } => "the daemon has ended, and its mounts are unmounted",
    }
}

fn restart(context: &Context) -> Result<ExitCode> {
    let settings = context.settings()?;
    let (stopped, mounted) = context.wait(daemon::restart(&settings))?;
    let mut dirs = Vec::new();
    for (dir, done) in &mounted {
        for warning in done.iter().flat_map(|mounted| &mounted.warnings) {
            warning!("{}: {warning}", dir.display());
        }
        match done {
            Ok(_) => dirs.push(dir),
            Err(error) => output::error(error.as_ref()),
        }
    }
    let report = json!({ "stopped": stopped != StopOutcome::Absent, "mounted": dirs });
    context.report(&report, || {
        for dir in &dirs {
            outln!("{} is mounted again", dir.display())?;
        }
        if mounted.is_empty() {
            output::line(describe(&stopped))?;
            outln!("the next mount starts one with the current settings")?;
        }
        Ok(())
    })?;
    Ok(output::exit_code(dirs.len() == mounted.len()))
}
