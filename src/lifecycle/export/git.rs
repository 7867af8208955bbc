//! Runs the `git` program to check out, repack or verify an export.
//!
//! Git executes nothing that comes from the repository: the user's settings, which may
//! define filters, are not read, and the hooks path is `/dev/null`.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::Command;

/// Result of a checkout.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckoutOutcome {
    /// The files are checked out.
    Done,
    /// A bare repository has no checkout.
    #[default]
    Bare,
    /// The `git` program is not installed.
    NoGit,
    /// `git` failed with this message.
    Failed(String),
}

fn git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"GIT_") {
            git.env_remove(name);
        }
    }
    git.env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .args([
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
        ])
        .arg("-C")
        .arg(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    git
}

/// Checks out `HEAD`.
pub(super) async fn check_out(dir: &Path) -> CheckoutOutcome {
    let done = git(dir).args(["checkout", "--quiet", "--force"]).output();
    match done.await {
        Ok(done) if done.status.success() => CheckoutOutcome::Done,
        Ok(done) => CheckoutOutcome::Failed(message(&done)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => CheckoutOutcome::NoGit,
        Err(error) => CheckoutOutcome::Failed(error.to_string()),
    }
}

/// Lets git find deltas among all objects; returns the reason if that fails.
pub(super) async fn repack(dir: &Path) -> Result<(), String> {
    let flags = ["-a", "-d", "-f", "-q"];
    match git(dir).arg("repack").args(flags).output().await {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(message(&done)),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs `git fsck` on everything; returns its complaints.
pub async fn fsck(dir: &Path) -> std::io::Result<Option<String>> {
    let flags = ["--full", "--no-progress", "--no-dangling"];
    let done = git(dir).arg("fsck").args(flags).output().await?;
    Ok((!done.status.success()).then(|| message(&done)))
}

/// Returns the output of git on one line.
fn message(done: &Output) -> String {
    let text = [&done.stderr[..], &done.stdout[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines
        .next()
        .unwrap_or("git failed without a message")
        .trim();
    match lines.count() {
        0 => first.to_owned(),
        more => format!("{first} (and {more} more lines)"),
    }
}
