//! Output: errors, tables, sizes.
//!
//! All output of the program passes through this module, which escapes it regardless of
//! its origin (see [`walgit_format::text`]).

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use indicatif::HumanBytes;
use serde::Serialize;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::system_error;
use crate::cache::Pin;
use crate::maintenance::reachability::UnreadableHead;
use walgit_durable::AtomicFile;
use walgit_format::text;

/// Like `println!`, with the output escaped.
macro_rules! outln {
    ($($text:tt)*) => { $crate::cli::output::line(&format!($($text)*)) };
}

/// Like `eprintln!`, with the output escaped.
macro_rules! errln {
    ($($text:tt)*) => { $crate::cli::output::note(&format!($($text)*)) };
}

/// Prints a formatted warning; see [`warning`].
macro_rules! warning {
    ($($text:tt)*) => { $crate::cli::output::warning(&format!($($text)*)) };
}

/// Exit code of a command that ran to its end, by whether all of its work succeeded.
pub(super) fn exit_code(ok: bool) -> ExitCode {
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Returns the message of an error with its causes, each once.
pub(super) fn message(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let message = next.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = next.source();
    }
    text
}

/// Prints an error and its causes on one line.
pub(super) fn error(error: &(dyn Error + 'static)) {
    let text = message(error);
    note(&format!("error: {}", system_error::explain(&text)));
}

/// Prints a warning, unless the same one was printed before.
pub(super) fn warning(text: &str) {
    let line = format!("warning: {}", system_error::explain(text));
    if is_new(&line) {
        note(&line);
    }
}

/// Warns about heads that cannot be read and mounts without a lease, whose needs a command
/// cannot know, with the consequence of each.
pub(super) fn warn_of_unknown_needs(
    unreadable: &[UnreadableHead],
    if_unreadable: &str,
    without_lease: &[PathBuf],
    if_without_lease: &str,
) {
    for head in unreadable {
        warning!(
            "{} cannot be read, so {if_unreadable}: {}",
            head.head,
            head.why
        );
    }
    for dir in without_lease {
        let dir = dir.display();
        warning!("the mount on {dir} has no lease, so {if_without_lease}");
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
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let value = serde_json::to_string_pretty(value)?;
    print(&text::json(&value))
}

/// Prints a line to standard output.
pub(super) fn line(line: &str) -> Result<()> {
    print(&text::line(line))
}

/// Prints a generated script verbatim.
pub(super) fn script(script: &[u8]) -> Result<()> {
    print(String::from_utf8_lossy(script).trim_end())
}

/// A reader that closed its end (`| head`) is not an error.
fn print(safe: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{safe}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        done => Ok(done?),
    }
}

/// Prints rows with aligned columns; the last column is not padded.
pub(super) fn table<R: AsRef<[String]>>(rows: impl IntoIterator<Item = R>) -> Result<()> {
    // Escape before measuring the width.
    let escaped = |row: R| {
        row.as_ref()
            .iter()
            .map(|cell| text::line(cell).into())
            .collect()
    };
    let rows: Vec<Vec<String>> = rows.into_iter().map(escaped).collect();
    let mut widths = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(padded.join("  ").trim_end())?;
    }
    Ok(())
}

/// Prints rows with aligned columns below their headings.
pub(super) fn table_with_headings<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Result<()> {
    table([headings.map(String::from)].into_iter().chain(rows))
}

/// Prints named values, indented below a title.
pub(super) fn details<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> Result<()> {
    table((rows.into_iter()).map(|(name, value)| [format!("  {name}"), value]))
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
    let state = if pin.is_complete() {
        format!("complete, {}", bytes(pin.bytes))
    } else {
        format!(
            "{} of {}; pin it again to complete it",
            bytes(pin.held_bytes),
            bytes(pin.bytes)
        )
    };
    [pin.name.clone(), state]
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
