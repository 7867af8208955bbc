//! Log of everything published: JSON lines per network, one per publish and one per batch
//! of renewals. The state of a blob is the sum of its lines ([`LedgerBlob`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Dirs, Settings};
use walgit_durable::AppendLog;
use walgit_format::Address;
use walgit_format::chunk::{BlobId, ChunkHash};
use walrus_client::StoredBlob;

/// Kind of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A publish.
    #[default]
    Publish,
    /// Blobs whose storage was extended.
    Renewal,
    /// A head that was found when a lost ledger was rebuilt.
    Rebuilt,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// When the operation completed, in seconds since 1970.
    pub at: u64,
    /// The name of the publish; empty for renewals.
    pub name: String,
    /// The address of the head; empty for renewals.
    pub address: String,
    /// The blobs that were uploaded or renewed.
    pub blobs: Vec<StoredBlob>,
    /// Kind of the entry.
    #[serde(default, skip_serializing_if = "is_publish")]
    pub kind: EntryKind,
    /// The epoch at that time, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// Whether the blobs can be deleted before they expire, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletable: Option<bool>,
}

fn is_publish(kind: &EntryKind) -> bool {
    *kind == EntryKind::Publish
}

/// Summary of all lines about a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LedgerBlob {
    /// Length in bytes.
    pub len: u64,
    /// First epoch in which the blob may be gone, if known.
    pub end_epoch: Option<u32>,
    /// The Sui object that owns the storage, if known.
    pub object_id: Option<String>,
    /// Whether the blob can be deleted before it expires, if known.
    pub deletable: Option<bool>,
    /// When the blob was stored, in seconds since 1970.
    pub since: u64,
    /// The address that it was first stored for.
    pub stored_for: String,
    /// The name of that publish.
    pub name: String,
}

impl LedgerBlob {
    /// Summarizes these lines by blob.
    pub fn latest_by_blob(entries: &[LedgerEntry]) -> BTreeMap<BlobId, LedgerBlob> {
        let mut blobs: BTreeMap<BlobId, LedgerBlob> = BTreeMap::new();
        for entry in entries {
            for stored in &entry.blobs {
                let known = blobs.entry(stored.blob).or_insert_with(|| LedgerBlob {
                    since: entry.at,
                    stored_for: entry.address.clone(),
                    name: entry.name.clone(),
                    ..LedgerBlob::default()
                });
                known.len = known.len.max(stored.len);
                // An expired blob that was stored again also ends later.
                known.end_epoch = known.end_epoch.max(stored.end_epoch);
                known.object_id = stored.object_id.clone().or(known.object_id.take());
                known.deletable = entry.deletable.or(known.deletable);
            }
        }
        blobs
    }
}

impl LedgerEntry {
    /// Creates an entry for a publish that completes now.
    pub fn of(name: &str, address: &str, blobs: &[StoredBlob]) -> Self {
        LedgerEntry {
            at: walrus_client::clock::unix_seconds(),
            name: name.into(),
            address: address.into(),
            blobs: blobs.to_vec(),
            kind: EntryKind::Publish,
            epoch: None,
            deletable: None,
        }
    }

    /// Adds the present epoch and whether the blobs are deletable.
    pub fn stored_in(self, epoch: Option<u32>, deletable: bool) -> Self {
        LedgerEntry {
            epoch,
            deletable: Some(deletable),
            ..self
        }
    }

    /// Creates an entry for blobs that were renewed at `at`, in seconds since 1970.
    pub fn renewal(at: u64, epoch: Option<u32>, blobs: Vec<StoredBlob>) -> Self {
        LedgerEntry {
            at,
            kind: EntryKind::Renewal,
            epoch,
            ..LedgerEntry::of("", "", &blobs)
        }
    }

    /// Returns the blob and the hash of the published head.
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
    log: AppendLog,
}

/// Result of [`Ledger::extend`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// Number of added entries.
    pub added: usize,
    /// Backup of the previous file; `None` if nothing was added, or there was no file.
    pub backup: Option<PathBuf>,
}

/// Returns an unused path beside the ledger for a backup, with a timestamp.
fn free_backup(path: &Path) -> PathBuf {
    let now = walrus_client::clock::unix_seconds();
    let name = |more: String| path.with_extension(format!("jsonl.{now}{more}.bak"));
    let names = std::iter::once(String::new()).chain((1..).map(|more| format!("-{more}")));
    let mut free = names.map(name).filter(|name| !name.exists());
    free.next().unwrap_or_else(|| name(String::new()))
}

/// A log cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct LogError {
    path: PathBuf,
    source: std::io::Error,
}

impl LogError {
    /// Wraps an error of the log at `path`.
    pub(crate) fn at(path: &Path) -> impl Fn(std::io::Error) -> Self {
        |source| LogError {
            path: path.into(),
            source,
        }
    }
}

impl Ledger {
    /// The ledger of the network in force.
    pub fn of(settings: &Settings) -> Self {
        Ledger::at(settings.ledger_path())
    }

    /// Returns the directory of the ledgers of all networks.
    pub fn dir(dirs: &Dirs) -> PathBuf {
        dirs.data.join("ledger")
    }

    /// The ledger of `network` in `dir`, which need not exist yet.
    pub fn new(dir: &Path, network: &str) -> Self {
        Ledger {
            log: AppendLog::new(dir.join(format!("{network}.jsonl"))),
        }
    }

    /// The ledger in this file.
    pub fn at(file: PathBuf) -> Self {
        Ledger {
            log: AppendLog::new(file),
        }
    }

    /// Returns the path of its file.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    /// Appends an entry and waits until it is on disk.
    pub fn append(&self, entry: &LedgerEntry) -> Result<(), LogError> {
        self.log.append(entry).map_err(LogError::at(self.path()))
    }

    /// Appends entries that depend on the existing ones, under a lock. Existing entries
    /// are neither removed nor changed. The file is copied to a backup before entries are
    /// appended; returns its path.
    ///
    /// # Errors
    /// When a file cannot be read or written; then the ledger is unchanged.
    pub fn extend(
        &self,
        add: impl FnOnce(&[LedgerEntry]) -> Vec<LedgerEntry>,
    ) -> Result<Extended, LogError> {
        let extend = || -> std::io::Result<Extended> {
            let path = self.log.path();
            let mut log = self.log.lock()?;
            let new = add(&log.read()?.records);
            let mut extended = Extended {
                added: new.len(),
                backup: None,
            };
            if new.is_empty() {
                return Ok(extended);
            }
            if path.exists() {
                let backup = free_backup(path);
                walgit_durable::write_atomic(
                    &backup,
                    &walgit_durable::read_regular(path, u64::MAX)?,
                )?;
                extended.backup = Some(backup);
            }
            log.append_all(new)?;
            Ok(extended)
        };
        extend().map_err(LogError::at(self.path()))
    }

    /// Returns all entries, oldest first. A line truncated by a crash is skipped.
    ///
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn entries(&self) -> Result<Vec<LedgerEntry>, LogError> {
        let read = self.log.read().map_err(LogError::at(self.path()))?;
        if read.unreadable > 0 {
            tracing::warn!(
                "{} lines of ledger {} cannot be read: damaged, or of a newer version; \
                 `walgit-fs doctor --rebuild-ledger` adds what names need",
                read.unreadable,
                self.log.path().display()
            );
        }
        Ok(read.records)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn entries_are_read_in_order_and_a_torn_line_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&dir.path().join("ledger"), "local");
        assert!(ledger.entries().unwrap().is_empty());
        for name in ["a", "b"] {
            ledger
                .append(&LedgerEntry::of(name, "walrus://x", &[]))
                .unwrap();
        }
        let mut file = OpenOptions::new()
            .append(true)
            .open(ledger.log.path())
            .unwrap();
        file.write_all(b"{\"at\":1,\"na").unwrap();
        let names: Vec<_> = ledger
            .entries()
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn lines_of_a_blob_are_merged_and_old_lines_are_read() {
        let blob = BlobId::from_bytes([1; 32]);
        let stored = |end| StoredBlob {
            blob,
            len: 10,
            end_epoch: Some(end),
            object_id: Some("0x1".into()),
        };
        let first = LedgerEntry::of("it", "walrus://x", &[stored(3)]).stored_in(Some(2), true);
        let again = LedgerEntry::renewal(first.at + 5, Some(2), vec![stored(9)]);
        let blobs = LedgerBlob::latest_by_blob(&[first.clone(), again]);
        let merged = &blobs[&blob];
        assert_eq!((merged.end_epoch, merged.deletable), (Some(9), Some(true)));
        assert_eq!((merged.name.as_str(), merged.since), ("it", first.at));
        // The format before there were renewals.
        let old = r#"{"at":1,"name":"a","address":"walrus://x","blobs":[]}"#;
        let old: LedgerEntry = serde_json::from_str(old).unwrap();
        assert_eq!((old.kind, old.epoch), (EntryKind::Publish, None));
    }
}
