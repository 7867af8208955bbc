//! Text format of recorded opens and listed trees.
//!
//! A trace has one line per open, in order: seconds since the first open, task ID,
//! path, size in bytes, separated by tabs. A tree has one line per file, in pack
//! order: path, size. Empty lines and lines that start with `#` are ignored.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use super::super::model::TaskId;

/// Maximum length of a line in bytes: a path and three numbers.
const MAX_LINE_BYTES: usize = 8192;
/// Maximum length of a path in bytes: the kernel's limit.
const MAX_PATH_BYTES: usize = 4096;

/// One recorded open.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// Seconds since the first open.
    pub at: f64,
    /// Task that opened it.
    pub task: TaskId,
    /// Path from the root of the tree.
    pub path: String,
    /// Size in bytes, as read.
    pub size: u64,
}

/// Reason why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// A line is invalid.
    #[error("{}:{line}: {why}", path.display())]
    Line {
        /// Path of the file.
        path: PathBuf,
        /// Line number, starting at 1.
        line: usize,
        /// Description of the problem.
        why: String,
    },
}

/// Reads a trace.
pub fn read_trace(path: &Path) -> Result<Vec<Open>, TraceError> {
    let mut opens = Vec::new();
    each_line(path, |line| {
        let [at, task, name, size] = fields(line, "seconds, task, path, size")?;
        let seconds = (at.parse::<f64>().ok()).filter(|at| at.is_finite() && at.abs() < 1e9);
        opens.push(Open {
            at: seconds.ok_or(format!("{at:?} is not a time in seconds"))?,
            task: TaskId(number(task, "a task ID")?),
            path: path_of(name)?,
            size: number(size, "a size in bytes")?,
        });
        Ok(())
    })?;
    Ok(opens)
}

/// Reads a tree: paths and sizes in the order of the pack.
pub fn read_tree(path: &Path) -> Result<Vec<(String, u64)>, TraceError> {
    let mut files = Vec::new();
    each_line(path, |line| {
        let [name, size] = fields(line, "path, size")?;
        files.push((path_of(name)?, number(size, "a size in bytes")?));
        Ok(())
    })?;
    Ok(files)
}

fn each_line(
    path: &Path,
    mut parse: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), TraceError> {
    let read_error = |source| TraceError::Read {
        path: path.to_owned(),
        source,
    };
    let mut reader = BufReader::new(File::open(path).map_err(read_error)?);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let mut limited = std::io::Read::take(&mut reader, MAX_LINE_BYTES as u64 + 1);
        if limited.read_until(b'\n', &mut bytes).map_err(read_error)? == 0 {
            break;
        }
        let line_error = |why: String| TraceError::Line {
            path: path.to_owned(),
            line,
            why,
        };
        if bytes.len() > MAX_LINE_BYTES {
            return Err(line_error(format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| line_error("not UTF-8".into()))?;
        let text = text.trim_end_matches(['\n', '\r']);
        if !text.is_empty() && !text.starts_with('#') {
            parse(text).map_err(line_error)?;
        }
    }
    Ok(())
}

fn fields<'a, const N: usize>(line: &'a str, what: &str) -> Result<[&'a str; N], String> {
    let found: Vec<&str> = line.split('\t').collect();
    let count = found.len();
    let mismatch = |_| format!("{count} fields, expected {N}, separated by tabs: {what}");
    found.try_into().map_err(mismatch)
}

fn number(text: &str, what: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not {what}"))
}

fn path_of(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("the path is empty".into()),
        1..=MAX_PATH_BYTES => Ok(text.to_owned()),
        _ => Err(format!("the path is longer than {MAX_PATH_BYTES} bytes")),
    }
}
