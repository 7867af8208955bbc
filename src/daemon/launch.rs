//! Starts the daemon, and carries its messages to the command that starts it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::error::ClientError;
use super::process;
use crate::allocator;
use crate::config::{SettingOrigin, Settings};

const WARNING_PREFIX: &str = "warning: ";
const ERROR_PREFIX: &str = "error: ";

/// Returns the path of the daemon's log.
pub(super) fn log_file(settings: &Settings) -> PathBuf {
    settings.dirs.state.join("daemon.log")
}

/// A daemon that was started and has not answered yet. Its standard error is a pipe until
/// it is ready.
pub(super) struct Launch {
    child: Child,
    log: PathBuf,
}

impl Launch {
    /// Returns how the daemon ended before it became ready, if it has: with an error, or
    /// because another daemon was faster.
    pub(super) fn early_exit(&mut self) -> Option<Result<(), ClientError>> {
        // On error there is no status: if the caller ignores SIGCHLD, it is discarded.
        let status = self.child.try_wait().transpose()?.ok();
        let output = self.output();
        let mut errors = output
            .lines()
            .filter_map(|line| line.strip_prefix(ERROR_PREFIX));
        Some(match (errors.next_back(), status) {
            (Some(why), _) => Err(self.error(why.into())),
            (None, Some(status)) if !status.success() => {
                Err(self.error(format!("the process ended with {status}")))
            }
            (None, _) => Ok(()),
        })
    }

    /// Returns its warnings. Call only after it is ready: waits until it has written
    /// everything.
    pub(super) fn warnings(&mut self) -> Vec<String> {
        let output = self.output();
        let warnings = output
            .lines()
            .filter_map(|line| line.strip_prefix(WARNING_PREFIX));
        warnings.map(str::to_owned).collect()
    }

    /// Kills the daemon after a timeout.
    pub(super) fn kill(&mut self) -> ClientError {
        let _ = self.child.kill();
        self.error("the start took too long".into())
    }

    fn output(&mut self) -> String {
        let mut text = Vec::new();
        if let Some(mut output) = self.child.stderr.take() {
            let _ = output.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn error(&self, why: String) -> ClientError {
        let log = self.log.clone();
        ClientError::Start { why, log }
    }
}

/// Starts a daemon that outlives this process and inherits only the environment.
pub(super) fn start(settings: &Settings) -> Result<Launch, ClientError> {
    let log = log_file(settings);
    match spawn(settings) {
        Ok(child) => Ok(Launch { child, log }),
        Err(error) => {
            let why = error.to_string();
            Err(ClientError::Start { why, log })
        }
    }
}

fn spawn(settings: &Settings) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["daemon", "run"]);
    // Passes the flags of this command on to the daemon. The default config file need not
    // exist.
    if settings.file_is_given {
        let file = std::path::absolute(&settings.file)?;
        command.env("WALGIT_FS_CONFIG", file);
    }
    if settings.cache_disk.origin == SettingOrigin::Flag {
        let budget = settings.cache_disk.value.to_string();
        command.env("WALGIT_FS_CACHE_DISK", budget);
    }
    process::close_descriptors_on_exec();
    command
        .envs(allocator::DAEMON.iter().copied())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

/// The daemon's side of its connection to the command that starts it, which reads until
/// the daemon is ready or fails.
#[derive(Default)]
pub(super) struct StartupChannel {
    /// `None` if no command is waiting.
    output: Option<File>,
    /// Whether standard error is redirected to the log.
    is_logging: bool,
}

impl StartupChannel {
    /// The command reads from standard error.
    pub(super) fn at_stderr() -> Self {
        let copy = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3);
        StartupChannel {
            output: copy.ok().map(File::from),
            is_logging: false,
        }
    }

    pub(super) fn warn(&mut self, text: &str) {
        self.send(WARNING_PREFIX, text);
    }

    /// Reports why the daemon does not start. Without a log, `main` reports it.
    pub(super) fn fail(&mut self, why: &str) {
        if self.is_logging {
            self.send(ERROR_PREFIX, why);
        }
    }

    fn send(&mut self, kind: &str, text: &str) {
        if let Some(file) = &mut self.output {
            let _ = writeln!(file, "{kind}{}", walgit_format::text::line(text));
        }
    }

    /// Redirects logging to a file. If that fails, the daemon serves nevertheless.
    pub(super) fn log_to(&mut self, path: &Path) {
        self.is_logging = true;
        if let Err(error) = super::log::open(path) {
            self.warn(&format!(
                "the daemon cannot log to {}: {error}",
                path.display()
            ));
            if let Ok(null) = File::options().write(true).open("/dev/null") {
                let _ = rustix::stdio::dup2_stderr(null);
            }
        }
    }

    /// The daemon is ready: closes the connection.
    pub(super) fn close(&mut self) {
        self.output = None;
    }
}
