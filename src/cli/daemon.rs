//! `daemon`: the background process that serves mounts.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::{Failure, output};
use crate::config::Dirs;
use crate::daemon::{self, Client, DaemonState, DaemonStatus, Stopped};

/// Show, stop or restart the background process that serves mounts
///
/// The first mount starts it. It ends by itself some time after the last unmount.
#[derive(Debug, Args)]
pub(super) struct Daemon {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
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
        matches!(self.action, Action::Run)
    }

    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match self.action {
            Action::Status => status(context)?,
            Action::Stop => stop(context)?,
            Action::Restart => return restart(context),
            Action::Run => daemon::run(context.settings()?, None)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn status(context: &Context) -> Result<(), Failure> {
    // A broken config file must not hide a running daemon.
    let dirs = Dirs::from_environment()?;
    let state = context.run(async {
        Ok(match Client::probe(&dirs).await? {
            DaemonState::Absent => None,
            DaemonState::Running(client) => Some(client.status().await?),
            state => return Err(state.into_error().into()),
        })
    })?;
    match (state, context.json) {
        (Some(status), true) => output::json(&json!({
            "running": true,
            "pid": status.pid,
            "version": status.version,
            "uptime_s": status.uptime_s,
            "mounts": status.mounts.len(),
            "settings": status.settings,
            "warning": status.warning,
            "directory": dirs.daemon(),
        })),
        (None, true) => output::json(&json!({ "running": false })),
        (Some(status), false) => print(&status, &dirs),
        (None, false) => output::line("no daemon runs; the first mount starts one"),
    }
}

fn print(status: &DaemonStatus, dirs: &Dirs) -> Result<(), Failure> {
    if let Some(warning) = &status.warning {
        output::warning(warning);
    }
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("process", status.pid.to_string()),
        row("version", status.version.clone()),
        row("running for", format!("{} s", status.uptime_s)),
        row("mounts", status.mounts.len().to_string()),
        row("sockets", dirs.daemon().display().to_string()),
    ];
    if let Some(settings) = &status.settings {
        let seconds = |value: u64| format!("{value} s");
        rows.extend([
            row("config file", settings.config.display().to_string()),
            row("cache on disk", output::bytes(settings.cache_disk.value)),
            row(
                "cache in memory",
                output::bytes(settings.cache_memory.value),
            ),
            row(
                "deadline of an operation",
                seconds(settings.deadline_s.value),
            ),
            row("ends when idle for", seconds(settings.idle_exit_s.value)),
        ]);
    }
    output::table(&rows)
}

fn stop(context: &Context) -> Result<(), Failure> {
    let dirs = Dirs::from_environment()?;
    let stopped = context.run(async { Ok(daemon::stop(&dirs).await?) })?;
    match (&stopped, context.json) {
        (Stopped::Absent, true) => output::json(&json!({ "stopped": false })),
        (Stopped::Ended { pid }, true) => output::json(&json!({ "stopped": true, "pid": pid })),
        (stopped, false) => output::line(words(stopped)),
    }
}

fn words(stopped: &Stopped) -> &'static str {
    match stopped {
        Stopped::Absent => "no daemon runs",
        Stopped::Ended { .. } => "the daemon has ended; nothing of it stays mounted",
    }
}

fn restart(context: &Context) -> Result<ExitCode, Failure> {
    let settings = context.settings()?;
    let (stopped, mounted) = context.run(async { Ok(daemon::restart(&settings).await?) })?;
    let mut code = ExitCode::SUCCESS;
    for (dir, done) in &mounted {
        for warning in done.iter().flat_map(|mounted| &mounted.warnings) {
            output::warning(&format!("{}: {warning}", dir.display()));
        }
        match done {
            Ok(_) if context.json => {}
            Ok(_) => output::line(&format!("{} is mounted again", dir.display()))?,
            Err(error) => {
                output::error(error);
                code = ExitCode::FAILURE;
            }
        }
    }
    if context.json {
        let again = mounted.iter().filter(|(_, done)| done.is_ok());
        let dirs: Vec<_> = again.map(|(dir, _)| dir).collect();
        output::json(&json!({ "stopped": stopped != Stopped::Absent, "mounted": dirs }))?;
    } else if mounted.is_empty() {
        output::line(words(&stopped))?;
        output::line("the next mount starts one with the settings in force")?;
    }
    Ok(code)
}
