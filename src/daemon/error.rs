//! Errors of the daemon and of its clients.

use std::fmt;
use std::path::PathBuf;

use anyhow::anyhow;

use super::daemon_dir::DaemonDirError;
use super::lock::Phase;
use crate::fuse::is_stopped;

/// Reason why the daemon did not serve a request.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of a variant describes it")]
pub enum ClientError {
    #[error("{0}")]
    Rejected(String),
    #[error("{}", unresponsive(*pid, why))]
    Unresponsive { pid: Option<u32>, why: String },
    #[error("the walgit-fs daemon{} is {phase}; try again in a moment", process(*pid))]
    InTransition { pid: Option<u32>, phase: Phase },
    #[error(
        "the running walgit-fs daemon{} is version {version}, this is {}; replace it with `walgit-fs daemon restart`",
        process(*pid),
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion { pid: Option<u32>, version: String },
    #[error("the walgit-fs daemon did not complete the request ({0}); try again")]
    Gone(String),
    #[error("the walgit-fs daemon did not start: {why} (its log: {})", log.display())]
    Start { why: String, log: PathBuf },
    #[error("the walgit-fs daemon{} did not stop; end it with `kill -KILL {}`", process(*pid), pid.map_or("PID".into(), |pid| pid.to_string()))]
    DidNotStop { pid: Option<u32> },
    #[error(transparent)]
    Dir(#[from] DaemonDirError),
}

impl ClientError {
    /// The error for a daemon whose process is stopped (SIGSTOP), or else `why`.
    pub(super) fn unresponsive(pid: Option<u32>, why: String) -> Self {
        let is_stopped = pid.is_some_and(is_stopped);
        let why = if is_stopped {
            STOPPED_REASON.into()
        } else {
            why
        };
        ClientError::Unresponsive { pid, why }
    }

    /// The error for a request that was interrupted.
    pub(super) fn interrupted(error: impl ToString) -> Self {
        ClientError::Gone(error.to_string())
    }
}

const STOPPED_REASON: &str = "it is stopped";

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn unresponsive(pid: Option<u32>, why: &str) -> String {
    let remedy = match pid {
        Some(pid) if why == STOPPED_REASON => {
            format!("resume it with `kill -CONT {pid}`, or end it")
        }
        _ => "end it".into(),
    };
    let or_kill = pid.map_or_else(String::new, |pid| format!(" or `kill -KILL {pid}`"));
    format!(
        "the walgit-fs daemon{} does not answer: {why}; {remedy} with `walgit-fs daemon stop`{or_kill} and mount again",
        process(pid)
    )
}

/// The error for a mount that cannot be served.
pub(super) fn not_served(error: impl fmt::Display) -> anyhow::Error {
    anyhow!("the mount could not be served: {error}")
}
