//! Starting the daemon.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::client::ClientError;
use crate::config::Settings;

/// Settings of the system's allocator, for programs whose buffers are large and
/// short-lived. By itself it keeps an arena a thread and, after a while, every
/// large buffer it has seen: hundreds of MB.
const FRUGAL: [(&str, &str); 2] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
];

/// A daemon that was started and has not answered yet.
pub(super) struct Launched {
    child: Child,
    log: PathBuf,
}

impl Launched {
    /// Why it ended, if it has.
    pub(super) fn failure(&mut self) -> Option<ClientError> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(_)) => Some(self.error(last_line(&self.log))),
            Err(error) => Some(self.error(error.to_string())),
        }
    }

    /// Ends it, because it takes too long.
    pub(super) fn give_up(&mut self) -> ClientError {
        let _ = self.child.kill();
        self.error("it took too long".into())
    }

    fn error(&self, why: String) -> ClientError {
        let log = self.log.clone();
        ClientError::Start { why, log }
    }
}

/// Starts a daemon that outlives this process; [`super::run`] parts it from the
/// terminal.
///
/// # Errors
/// When no process can be started.
pub(super) fn start(settings: &Settings) -> Result<Launched, ClientError> {
    let log = settings.dirs.state.join("daemon.log");
    match spawn(settings, &log) {
        Ok(child) => Ok(Launched { child, log }),
        Err(error) => Err(ClientError::Start {
            why: error.to_string(),
            log,
        }),
    }
}

fn spawn(settings: &Settings, log: &std::path::Path) -> std::io::Result<Child> {
    use std::os::unix::fs::DirBuilderExt as _;
    if let Some(dir) = log.parent() {
        // It tells what is mounted: nobody else's business.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    let output = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)?;
    Command::new(std::env::current_exe()?)
        .arg("daemon")
        .env(
            "WALGIT_FS_CACHE_DISK",
            settings.cache_disk.value.to_string(),
        )
        .envs(FRUGAL)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
}

fn last_line(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text
        .trim_end()
        .lines()
        .last()
        .unwrap_or("it gave no reason");
    last.trim_start_matches("error: ").into()
}
