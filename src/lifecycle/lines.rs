//! Records that only grow: files of one JSON line each.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Adds a line and waits until it is on disk.
///
/// # Errors
/// When the disk refuses.
pub(super) fn append(file: &Path, record: &impl Serialize) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(file)?;
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(at) = len.checked_sub(1) {
        file.read_exact_at(&mut last, at)?;
    }
    // On a line of its own, whatever a crash left before it.
    let mut line = match last {
        [b'\n'] => Vec::new(),
        _ => b"\n".to_vec(),
    };
    serde_json::to_writer(&mut line, record)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_all()
}

/// All of them, the oldest first; none where there is no file. A line cut short by
/// a crash is passed over.
///
/// # Errors
/// When the file is there and cannot be read.
pub(super) fn read<T: DeserializeOwned>(file: &Path) -> io::Result<Vec<T>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_torn_line_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("not there yet/lines");
        assert!(read::<u32>(&file).unwrap().is_empty());
        append(&file, &1).unwrap();
        let mut torn = OpenOptions::new().append(true).open(&file).unwrap();
        torn.write_all(b"{\"cut\":").unwrap();
        append(&file, &2).unwrap();
        assert_eq!(read::<u32>(&file).unwrap(), [1, 2]);
    }
}
