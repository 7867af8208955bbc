//! Output: errors, tables, sizes, progress.
//!
//! All output of the program passes through this module, which escapes it regardless of
//! its origin (see [`walgit_format::text`]).

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::system_error;
use crate::cache::Pin;
use walgit_durable::AtomicFile;
use walgit_format::text;

/// Prints an error and its causes on one line, without repetition.
pub(super) fn error(error: &(dyn Error + 'static)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    note(&format!("error: {}", system_error::explain(&text)));
}

/// Prints a warning, unless the same one was printed before.
pub(super) fn warning(text: &str) {
    let line = format!("warning: {}", system_error::explain(text));
    if is_new(&line) {
        note(&line);
    }
}

/// Whether this process prints a warning for the first time.
pub(super) fn is_new(line: &str) -> bool {
    static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    printed.insert(line.to_owned())
}

/// Formats log events: with a timestamp in a log, otherwise like other warnings.
pub(super) struct Events {
    log: Option<Format>,
}

impl Events {
    /// `serves` is set for a process that serves mounts, which may have a log.
    pub(super) fn of(serves: bool) -> Self {
        let log = serves.then(|| Format::default().with_ansi(false).with_target(false));
        Events { log }
    }
}

impl<S, N> FormatEvent<S, N> for Events
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if let Some(log) = &self.log {
            return log.format_event(context, writer, event);
        }
        let kind = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let mut line = format!("{kind}: ");
        context.format_fields(Writer::new(&mut line), event)?;
        let line = system_error::explain(&line);
        match kind {
            "warning" if !is_new(&line) => Ok(()),
            _ => writeln!(writer, "{line}"),
        }
    }
}

/// Prints a line to standard error.
pub(super) fn note(line: &str) {
    // Nothing is left to report a failure to.
    let _ = writeln!(std::io::stderr().lock(), "{}", text::line(line));
}

/// Prints multi-line text to standard error.
pub(super) fn notes(lines: &str) {
    let _ = write!(std::io::stderr().lock(), "{}", text::lines(lines));
}

/// Prints a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), super::Failure> {
    let value = serde_json::to_string_pretty(value)?;
    print(&text::json(&value))
}

/// Prints a line to standard output.
pub(super) fn line(line: &str) -> Result<(), super::Failure> {
    print(&text::line(line))
}

/// Prints a generated script verbatim.
pub(super) fn script(script: &[u8]) -> Result<(), super::Failure> {
    print(String::from_utf8_lossy(script).trim_end())
}

/// A reader that closed its end (`| head`) is not an error.
fn print(safe: &str) -> Result<(), super::Failure> {
    match writeln!(std::io::stdout().lock(), "{safe}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        done => Ok(done?),
    }
}

/// Prints rows with aligned columns; the last column is not padded.
pub(super) fn table(rows: &[Vec<String>]) -> Result<(), super::Failure> {
    // Escape before measuring the width.
    let rows: Vec<Vec<_>> = (rows.iter())
        .map(|row| row.iter().map(|cell| text::line(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let mut text = String::new();
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let pad = widths[column] - cell.chars().count() + 2;
                text.extend(std::iter::repeat_n(' ', pad));
            }
        }
        line(text.trim_end())?;
    }
    Ok(())
}

/// Formats a time in seconds since 1970.
pub(super) fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok();
    let time = time.and_then(|time| jiff::Timestamp::from_second(time).ok());
    time.map_or_else(
        || format!("{seconds} s after 1970"),
        |time| time.strftime("%F %T UTC").to_string(),
    )
}

/// Formats a size: `1.25 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Formats an amount of money with three significant figures.
pub(super) fn money(amount: f64, currency: &str) -> String {
    if amount == 0.0 {
        return format!("0 {currency}");
    }
    let before = amount.abs().max(1e-9).log10().floor() as i32;
    let digits = (2 - before).clamp(2, 9) as usize;
    format!("{amount:.digits$} {currency}")
}

/// Formats a pin and how complete it is.
pub(super) fn pin(pin: &Pin) -> [String; 2] {
    let state = match pin.is_complete() {
        true => format!("complete, {}", bytes(pin.bytes)),
        false => format!(
            "{} of {}; pin it again to complete it",
            bytes(pin.held_bytes),
            bytes(pin.bytes)
        ),
    };
    [pin.name.clone(), state]
}

/// A progress bar over bytes on standard error, if that is a terminal. Appears only if
/// the work takes longer than a moment.
pub(super) fn byte_bar(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    );
    let bar = ProgressBar::new(0).with_message(what);
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A progress bar over a count of items.
pub(super) fn count_bar(what: &'static str) -> ProgressBar {
    let bar = byte_bar(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {eta}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// Writes an output file atomically, following links; writes directly to other file
/// types, such as a pipe.
pub(super) fn to_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let there = std::fs::metadata(path);
    if there.as_ref().is_ok_and(|there| !there.is_file()) {
        return File::options().write(true).open(path)?.write_all(bytes);
    }
    let target = match there {
        Ok(_) => path.canonicalize()?,
        Err(_) => path.to_owned(),
    };
    let dir = target.parent().filter(|dir| *dir != Path::new(""));
    std::fs::metadata(dir.unwrap_or(Path::new(".")))?;
    let mode = there.map_or(0o666, |there| there.permissions().mode() & 0o777);
    let mut file = AtomicFile::create(&target, mode)?;
    file.write_all(bytes)?;
    file.commit()
}
