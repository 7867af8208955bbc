//! The record of everything published: one JSON line a publish, per network.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::chunk::{BlobId, ChunkHash};
use crate::repo::Address;
use crate::walrus::StoredBlob;

/// One publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// The name it was published under.
    pub name: String,
    /// Its address.
    pub address: String,
    /// The blobs that were uploaded for it.
    pub blobs: Vec<StoredBlob>,
}

impl LedgerEntry {
    /// A publish that ended now.
    pub fn of(name: &str, address: &str, blobs: &[StoredBlob]) -> Self {
        LedgerEntry {
            at: crate::clock::unix_seconds(),
            name: name.into(),
            address: address.into(),
            blobs: blobs.to_vec(),
        }
    }
}

impl LedgerEntry {
    /// The blob and the hash of the head that was published.
    pub fn head(&self) -> Option<(BlobId, Option<ChunkHash>)> {
        match self.address.parse() {
            Ok(Address::Walrus { blob, root }) => Some((blob, root)),
            _ => None,
        }
    }
}

/// The ledger of one network.
#[derive(Clone, Debug)]
pub struct Ledger {
    file: PathBuf,
}

/// The ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("ledger {}: {source}", path.display())]
pub struct LedgerError {
    path: PathBuf,
    source: std::io::Error,
}

impl Ledger {
    /// The ledger of `network` in `dir`, which need not exist yet.
    pub fn new(dir: &Path, network: &str) -> Self {
        Ledger {
            file: dir.join(format!("{network}.jsonl")),
        }
    }

    /// Adds an entry and waits until it is on disk.
    pub fn append(&self, entry: &LedgerEntry) -> Result<(), LedgerError> {
        let write = || -> std::io::Result<()> {
            if let Some(dir) = self.file.parent() {
                std::fs::create_dir_all(dir)?;
            }
            let mut line = serde_json::to_vec(entry)?;
            line.push(b'\n');
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.file)?;
            file.write_all(&line)?;
            file.sync_all()
        };
        write().map_err(|source| LedgerError {
            path: self.file.clone(),
            source,
        })
    }

    /// All entries, oldest first. A line cut short by a crash is passed over.
    pub fn entries(&self) -> Result<Vec<LedgerEntry>, LedgerError> {
        match std::fs::read_to_string(&self.file) {
            Ok(text) => Ok(text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(LedgerError {
                path: self.file.clone(),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_order_and_a_torn_line_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&dir.path().join("ledger"), "local");
        assert!(ledger.entries().unwrap().is_empty());
        for name in ["a", "b"] {
            ledger
                .append(&LedgerEntry::of(name, "walrus://x", &[]))
                .unwrap();
        }
        let mut file = OpenOptions::new().append(true).open(&ledger.file).unwrap();
        file.write_all(b"{\"at\":1,\"na").unwrap();
        let names: Vec<_> = ledger
            .entries()
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
    }
}
