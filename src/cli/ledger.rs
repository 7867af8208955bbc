//! `ledger`: shows published blobs and until when they are paid for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::args::Keys;
use super::context::{self, Context};
use super::output;
use super::session::Session;
use crate::lifecycle::walk::{Dependency, Walk};
use crate::lifecycle::{EntryKind, Ledger, LedgerBlob, LedgerEntry};
use crate::repo::refs::{NamedRef, RefStoreError};
use crate::repo::{Access, Loader, Repository};
use walgit_durable::fault_point;
use walgit_format::Address;
use walgit_format::chunk::BlobId;
use walrus_client::StoredBlob;
use walrus_client::clock::unix_seconds;

/// Show published blobs, until when they are paid for, and which names need them
#[derive(Debug, Args)]
pub(super) struct LedgerCommand {
    #[command(flatten)]
    keys: Keys,
}

#[derive(Serialize)]
struct LedgerRow {
    blob: BlobId,
    #[serde(flatten)]
    known: LedgerBlob,
    /// Names whose heads need it.
    needed_by: Vec<String>,
}

impl LedgerCommand {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let blobs = LedgerBlob::latest_by_blob(&Ledger::of(&settings).entries()?);
        let session = Session::new(&settings, &self.keys)?;
        let NamedHeads { heads, unreadable } = context.run(NamedHeads::read(&session))?;
        for (name, why) in unreadable {
            warning!("{name} cannot be read: {why}");
        }
        let row = |(blob, known)| {
            let needs = |head: &&NamedHead| head.blobs.contains_key(&blob);
            let needed_by = heads.iter().filter(needs).map(|head| head.name.clone());
            LedgerRow {
                blob,
                known,
                needed_by: needed_by.collect(),
            }
        };
        let rows: Vec<LedgerRow> = blobs.into_iter().map(row).collect();
        context.report(&rows, || {
            if rows.is_empty() {
                return outln!("no publish is recorded here");
            }
            let headings = ["blob", "bytes", "until epoch", "published as", "needed by"];
            output::table_with_headings(headings, rows.iter().map(LedgerRow::cells))
        })
    }
}

impl LedgerRow {
    fn cells(&self) -> [String; 5] {
        let end = self.known.end_epoch;
        [
            self.blob.to_string(),
            output::bytes(self.known.len),
            end.map_or("?".into(), |end| end.saturating_sub(1).to_string()),
            self.known.name.clone(),
            if self.needed_by.is_empty() {
                "nothing".into()
            } else {
                self.needed_by.join(", ")
            },
        ]
    }
}

/// A name, and the blobs that it needs, with the known bytes of each.
pub(super) struct NamedHead {
    pub(super) name: String,
    address: Address,
    updated: u64,
    pub(super) blobs: BTreeMap<BlobId, u64>,
}

/// Blobs that names need, and names that cannot be read, with the reason.
pub(super) struct NamedHeads {
    pub(super) heads: Vec<NamedHead>,
    unreadable: Vec<(String, String)>,
}

impl NamedHeads {
    /// Reads which blobs names need.
    pub(super) async fn read(session: &Session<'_>) -> Result<Self> {
        let access = session.access()?;
        let mut found = NamedHeads {
            heads: Vec::new(),
            unreadable: Vec::new(),
        };
        for (name, named) in context::refs(session.settings).list_all()? {
            match head(&session.loader, &access, &name, named).await {
                Ok(head) => found.heads.push(head),
                Err(why) => found.unreadable.push((name, why.to_string())),
            }
        }
        Ok(found)
    }
}

async fn head(
    loader: &Arc<Loader>,
    access: &Access,
    name: &str,
    named: Result<NamedRef, RefStoreError>,
) -> Result<NamedHead> {
    let named = named?;
    let Address::Walrus { blob, root } = named.address.parse()? else {
        bail!("{} is not the address of a blob", named.address);
    };
    let repository = loader.open(access.clone(), blob, root).await?;
    Ok(NamedHead {
        name: name.into(),
        address: Address::Walrus { blob, root },
        updated: named.updated,
        blobs: needed(&repository).await?,
    })
}

async fn needed(repository: &Repository) -> Result<BTreeMap<BlobId, u64>> {
    let mut blobs = BTreeMap::new();
    let mut walk = Walk::of(repository);
    while let Some(stretch) = walk.next().await {
        for found in stretch {
            blobs.extend(found.blobs().map(|blob| (blob, 0)));
            if let Dependency::Unreadable(why) = found.dependency {
                bail!("{why}");
            }
        }
    }
    for (blob, len) in &mut blobs {
        *len = repository.store().len(*blob).await?.unwrap_or(0);
    }
    Ok(blobs)
}

/// Result of completing the ledger.
#[derive(Serialize)]
pub(super) struct Rebuilt {
    /// Blobs that names need.
    pub(super) blobs: usize,
    /// Entries that were added.
    pub(super) added: usize,
    /// Backup copy of the former ledger.
    pub(super) backup: Option<PathBuf>,
    /// Names that cannot be read; their ledger entries are unchanged.
    pub(super) unreadable: Vec<String>,
}

/// Completes the ledger from the needs of names and the replies of the store. Existing
/// entries stay: they are the only record of superseded heads, and of blobs that the
/// store does not report.
///
/// # Errors
/// If a name cannot be read, unless `partial` is set: its blobs would not be recorded.
pub(super) async fn rebuild(session: &Session<'_>, partial: bool) -> Result<Rebuilt> {
    let store = context::store(session.settings)?;
    let epoch = store.epoch().await?;
    let NamedHeads { heads, unreadable } = NamedHeads::read(session).await?;
    if let Some((name, why)) = unreadable.first().filter(|_| !partial) {
        let more = match unreadable.len() {
            1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        bail!(
            "{name} cannot be read: {why}{more}; the ledger is unchanged. Add --partial to \
             complete it from the other names"
        );
    }
    for (name, why) in &unreadable {
        warning!("{name} cannot be read, and its entries are unchanged: {why}");
    }
    let mut found = Vec::new();
    let mut blobs = BTreeSet::new();
    for head in heads {
        blobs.extend(head.blobs.keys().copied());
        let mut stored = Vec::new();
        for (blob, len) in head.blobs {
            let lifetime = store.lifetime(blob).await?;
            stored.push(StoredBlob {
                blob,
                len,
                end_epoch: lifetime.as_ref().map(|it| it.end_epoch),
                object_id: lifetime.and_then(|it| it.object_id),
            });
        }
        let address = head.address.to_string();
        found.push(LedgerEntry {
            at: match head.updated {
                0 => unix_seconds(),
                updated => updated,
            },
            kind: EntryKind::Rebuilt,
            epoch,
            ..LedgerEntry::of(&head.name, &address, &stored)
        });
    }
    // Oldest first, in the order of writing.
    found.sort_by_key(|entry| entry.at);
    // Publishes append concurrently.
    fault_point::reach("ledger.before_extend")?;
    let ledger = Ledger::of(session.settings);
    let add = move |known: &[LedgerEntry]| missing(known, found);
    let extended = tokio::task::block_in_place(|| ledger.extend(add))?;
    Ok(Rebuilt {
        blobs: blobs.len(),
        added: extended.added,
        backup: extended.backup,
        unreadable: unreadable.into_iter().map(|(name, _)| name).collect(),
    })
}

/// The part of `found` that is missing in the ledger: unknown heads, and blobs that it
/// knows less about.
fn missing(known: &[LedgerEntry], found: Vec<LedgerEntry>) -> Vec<LedgerEntry> {
    let mut blobs = LedgerBlob::latest_by_blob(known);
    let mut missing = Vec::new();
    for mut entry in found {
        let is_known = |it: &LedgerEntry| it.name == entry.name && it.address == entry.address;
        let is_known = known.iter().any(is_known);
        entry.blobs.retain(|stored| {
            blobs.get(&stored.blob).is_none_or(|known| {
                known.len < stored.len
                    || known.end_epoch < stored.end_epoch
                    || (stored.object_id.is_some() && known.object_id != stored.object_id)
            })
        });
        if !is_known || !entry.blobs.is_empty() {
            // Record blobs that several heads need only once.
            blobs.append(&mut LedgerBlob::latest_by_blob(std::slice::from_ref(
                &entry,
            )));
            missing.push(entry);
        }
    }
    missing
}
