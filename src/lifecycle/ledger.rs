//! The record of everything published: one JSON line a publish, per network; and
//! one for each batch of renewals. What it says of a blob is the sum of its lines
//! ([`LedgerBlob`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Dirs, Settings};
use walgit_durable::AppendLog;
use walgit_format::Address;
use walgit_format::chunk::{BlobId, ChunkHash};
use walrus_client::StoredBlob;

/// What a line is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A publish.
    #[default]
    Publish,
    /// Blobs that were paid for longer.
    Renewal,
    /// A head that was found when the ledger was lost.
    Rebuilt,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// The name it was published under; empty for renewals.
    pub name: String,
    /// Its address; empty for renewals.
    pub address: String,
    /// The blobs that were uploaded for it, or paid for.
    pub blobs: Vec<StoredBlob>,
    /// What it is of.
    #[serde(default, skip_serializing_if = "is_publish")]
    pub kind: EntryKind,
    /// The epoch it was then, where that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// Whether the blobs may be deleted before they end, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletable: Option<bool>,
}

fn is_publish(kind: &EntryKind) -> bool {
    *kind == EntryKind::Publish
}

/// What all lines say of a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LedgerBlob {
    /// Its length in bytes.
    pub len: u64,
    /// First epoch in which it may be gone, where that is known.
    pub end_epoch: Option<u32>,
    /// The Sui object that owns its storage, where that is known.
    pub object_id: Option<String>,
    /// Whether it may be deleted before, where that is known.
    pub deletable: Option<bool>,
    /// When it was stored, in seconds since 1970.
    pub since: u64,
    /// The address that it was first stored for.
    pub stored_for: String,
    /// The name that was published under.
    pub name: String,
}

impl LedgerBlob {
    /// What these lines say, by blob.
    pub fn fold(entries: &[LedgerEntry]) -> BTreeMap<BlobId, LedgerBlob> {
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
                // A blob that expired and was stored anew ends later, too.
                known.end_epoch = known.end_epoch.max(stored.end_epoch);
                known.object_id = stored.object_id.clone().or(known.object_id.take());
                known.deletable = entry.deletable.or(known.deletable);
            }
        }
        blobs
    }
}

impl LedgerEntry {
    /// A publish that ended now.
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

    /// The same, with the epoch it is and how its blobs were stored.
    pub fn stored_in(self, epoch: Option<u32>, deletable: bool) -> Self {
        LedgerEntry {
            epoch,
            deletable: Some(deletable),
            ..self
        }
    }

    /// Blobs that were paid for longer at `at`, in seconds since 1970.
    pub fn renewal(at: u64, epoch: Option<u32>, blobs: Vec<StoredBlob>) -> Self {
        LedgerEntry {
            at,
            kind: EntryKind::Renewal,
            epoch,
            ..LedgerEntry::of("", "", &blobs)
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
    log: AppendLog,
}

/// What was added to a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// Entries.
    pub added: usize,
    /// The copy of the file as it was before; `None` where nothing was added, or there
    /// was none.
    pub backup: Option<PathBuf>,
}

/// A name beside the ledger for a copy of it, with the time in it.
fn free_backup(path: &Path) -> PathBuf {
    let now = walrus_client::clock::unix_seconds();
    let name = |more: String| path.with_extension(format!("jsonl.{now}{more}.bak"));
    let names = std::iter::once(String::new()).chain((1..).map(|more| format!("-{more}")));
    let mut free = names.map(name).filter(|name| !name.exists());
    free.next().unwrap_or_else(|| name(String::new()))
}

/// The ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("ledger {}: {source}", path.display())]
pub struct LedgerError {
    path: PathBuf,
    source: std::io::Error,
}

impl Ledger {
    /// The ledger of the network in force.
    pub fn of(settings: &Settings) -> Self {
        Ledger::new(&Ledger::dir(&settings.dirs), &settings.network.value.name)
    }

    /// Where the ledgers of all networks are.
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

    /// Its file.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    fn failed(&self, source: std::io::Error) -> LedgerError {
        LedgerError {
            path: self.log.path().into(),
            source,
        }
    }

    /// Adds an entry and waits until it is on disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append(&self, entry: &LedgerEntry) -> Result<(), LedgerError> {
        self.log.append(entry).map_err(|source| self.failed(source))
    }

    /// Adds entries that depend on those that are there; nobody appends in between.
    /// Nothing that is there is removed or changed. Before something is added, the file
    /// is copied; where to.
    ///
    /// # Errors
    /// When the disk refuses; then everything is as it was.
    pub fn extend(
        &self,
        add: impl FnOnce(&[LedgerEntry]) -> Vec<LedgerEntry>,
    ) -> Result<Extended, LedgerError> {
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
        extend().map_err(|source| self.failed(source))
    }

    /// All entries, oldest first. A line cut short by a crash is passed over.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn entries(&self) -> Result<Vec<LedgerEntry>, LedgerError> {
        let read = self.log.read().map_err(|source| self.failed(source))?;
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
    fn entries_come_back_in_order_and_a_torn_line_is_passed_over() {
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
    fn lines_of_a_blob_add_up_and_old_ones_are_read() {
        let blob = BlobId::from_bytes([1; 32]);
        let stored = |end| StoredBlob {
            blob,
            len: 10,
            end_epoch: Some(end),
            object_id: Some("0x1".into()),
        };
        let first = LedgerEntry::of("it", "walrus://x", &[stored(3)]).stored_in(Some(2), true);
        let again = LedgerEntry::renewal(first.at + 5, Some(2), vec![stored(9)]);
        let blobs = LedgerBlob::fold(&[first.clone(), again]);
        let one = &blobs[&blob];
        assert_eq!((one.end_epoch, one.deletable), (Some(9), Some(true)));
        assert_eq!((one.name.as_str(), one.since), ("it", first.at));
        // As they were written before there were renewals.
        let old = r#"{"at":1,"name":"a","address":"walrus://x","blobs":[]}"#;
        let old: LedgerEntry = serde_json::from_str(old).unwrap();
        assert_eq!((old.kind, old.epoch), (EntryKind::Publish, None));
    }
}
