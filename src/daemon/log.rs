//! The daemon's log: limited in size and in repeated messages.
//!
//! During an outage thousands of reads fail with the same message. So a few messages a
//! minute are written for each call site in the program, and the rest are counted
//! ([`Repeats`]). The file is rotated when it is large ([`Writer`]), so there are at most
//! two files of [`MAX_LOG_BYTES`].

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use walgit_durable::open_regular_with;

/// Size at which the log is rotated, in bytes.
pub const MAX_LOG_BYTES: u64 = 5 << 20;
/// Maximum number of messages of one call site per [`SUMMARY_INTERVAL`].
pub const MAX_MESSAGES: u64 = 10;
/// Interval of the summaries of suppressed messages.
pub const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);

/// Target of the summaries, which are never suppressed.
const SUMMARY_TARGET: &str = "walgit_fs::log::summary";

static LOG: Mutex<Option<LogFile>> = Mutex::new(None);
static REPEATED: Mutex<Option<HashMap<Identifier, RepeatCount>>> = Mutex::new(None);

struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// Whether standard error is redirected, too: panics and output of libraries.
    takes_stderr: bool,
}

impl LogFile {
    /// Opens the log for appending.
    fn open(path: &Path, takes_stderr: bool) -> io::Result<Self> {
        let mut options = File::options();
        let file = open_regular_with(options.create(true).append(true).mode(0o600), path)?;
        if takes_stderr {
            rustix::stdio::dup2_stderr(&file)?;
        }
        Ok(LogFile {
            path: path.into(),
            size: file.metadata()?.len(),
            file,
            takes_stderr,
        })
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + text.len() as u64 > MAX_LOG_BYTES {
            std::fs::rename(&self.path, previous(&self.path))?;
            *self = LogFile::open(&self.path, self.takes_stderr)?;
        }
        self.file.write_all(text)?;
        self.size += text.len() as u64;
        Ok(())
    }
}

/// Returns the path of the rotated log.
fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Redirects the log of this process to a file.
pub(super) fn open(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        // The log lists mounts: it is private to its user.
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(dir)?;
    }
    *LOG.lock() = Some(LogFile::open(path, true)?);
    Ok(())
}

/// Writes to the log file if there is one, otherwise to standard error.
#[derive(Clone, Copy, Debug)]
pub struct Writer;

impl Write for Writer {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match &mut *LOG.lock() {
            // A full disk must not cause more messages about it.
            Some(log) => drop(log.write(text)),
            None => io::stderr().write_all(text)?,
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Suppresses repeated messages of one call site.
#[derive(Clone, Copy, Debug)]
pub struct Repeats;

#[derive(Default)]
struct RepeatCount {
    seen: u64,
    /// The first suppressed message.
    sample: String,
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let about = event.metadata();
        // Levels below warnings are requested explicitly and not suppressed.
        if *about.level() > Level::WARN || about.target() == SUMMARY_TARGET {
            return true;
        }
        let mut repeated = REPEATED.lock();
        let entries = repeated.get_or_insert_default();
        let entry = entries.entry(about.callsite()).or_default();
        entry.seen += 1;
        if entry.seen == MAX_MESSAGES + 1 {
            event.record(&mut Message(&mut entry.sample));
        }
        entry.seen <= MAX_MESSAGES
    }
}

/// Formats the text of an event.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// Logs the number of messages suppressed since the last summary.
pub(super) fn summarize() {
    let repeated = REPEATED.lock().take().unwrap_or_default();
    for entry in repeated.into_values().filter(|it| it.seen > MAX_MESSAGES) {
        let suppressed = entry.seen - MAX_MESSAGES;
        tracing::warn!(
            target: SUMMARY_TARGET,
            "{suppressed} similar messages suppressed: {}",
            entry.sample
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_is_rotated_into_one_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let line = vec![b'x'; 1 << 20];
        // Reopened, as when daemons restart.
        for _ in 0..4 {
            let mut log = LogFile::open(&path, false).unwrap();
            for _ in 0..7 {
                log.write(&line).unwrap();
                assert!(std::fs::metadata(&path).unwrap().len() <= MAX_LOG_BYTES);
            }
        }
        assert!(std::fs::metadata(previous(&path)).unwrap().len() <= MAX_LOG_BYTES);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
