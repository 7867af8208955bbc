//! `ledger`: what was published and until when it is paid for.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::context::{self, Context};
use super::keys::Keys;
use super::{Failure, output};
use crate::chunk::BlobId;
use crate::clock::unix_seconds;
use crate::config::Settings;
use crate::lifecycle::walk::Walk;
use crate::lifecycle::{EntryKind, Ledger, LedgerBlob, LedgerEntry};
use crate::repo::refs::RefName;
use crate::repo::{Address, Repository};
use crate::walrus::StoredBlob;

/// Show what was published, until when it is paid for, and which names need it
#[derive(Debug, Args)]
pub(super) struct LedgerCommand {
    #[command(flatten)]
    keys: Keys,
}

#[derive(Serialize)]
struct Row {
    blob: BlobId,
    #[serde(flatten)]
    known: LedgerBlob,
    /// Names whose heads need it.
    needed_by: Vec<String>,
}

impl LedgerCommand {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let blobs = LedgerBlob::fold(&Ledger::of(&settings).entries()?);
        let needs = context.run(heads(&settings, &self.keys))?;
        let rows: Vec<Row> = blobs
            .into_iter()
            .map(|(blob, known)| {
                let of_it = needs.iter().filter(|head| head.blobs.contains_key(&blob));
                Row {
                    blob,
                    known,
                    needed_by: of_it.map(|head| head.name.to_string()).collect(),
                }
            })
            .collect();
        if context.json {
            output::json(&rows)?;
            return Ok(ExitCode::SUCCESS);
        }
        if rows.is_empty() {
            output::line("nothing was published here, to our knowledge")?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = vec![
            ["blob", "bytes", "until epoch", "published as", "needed by"]
                .map(String::from)
                .to_vec(),
        ];
        for row in &rows {
            let end = row.known.end_epoch;
            table.push(vec![
                row.blob.to_string(),
                output::bytes(row.known.len),
                end.map_or("?".into(), |end| end.saturating_sub(1).to_string()),
                row.known.name.clone(),
                match row.needed_by.is_empty() {
                    true => "nothing".into(),
                    false => row.needed_by.join(", "),
                },
            ]);
        }
        output::table(&table)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A name, and the blobs that it needs with the bytes of each that are known.
struct Head {
    name: RefName,
    address: Address,
    updated: u64,
    blobs: BTreeMap<BlobId, u64>,
}

/// What names need. One that cannot be read is told of and left out.
async fn heads(settings: &Settings, keys: &Keys) -> Result<Vec<Head>, Failure> {
    let cache = context::cache(settings)?;
    let loader = context::loader(&cache);
    let mut heads = Vec::new();
    for (name, named) in context::refs(settings).list()? {
        let address = named.address.parse::<Address>()?;
        match context::open_any(settings, &loader, &address, keys).await? {
            Ok(repository) => heads.push(Head {
                name,
                address,
                updated: named.updated,
                blobs: needed(&repository).await?,
            }),
            Err(why) => output::warning(&format!("{name} cannot be read: {why}")),
        }
    }
    Ok(heads)
}

async fn needed(repository: &Repository) -> Result<BTreeMap<BlobId, u64>, Failure> {
    let mut blobs = BTreeMap::new();
    let mut walk = Walk::of(repository);
    while let Some(stretch) = walk.next().await {
        for blob in stretch.iter().flat_map(|found| found.blobs()) {
            blobs.insert(blob, 0);
        }
    }
    for (blob, len) in &mut blobs {
        *len = repository.store().len(*blob).await?.unwrap_or(0);
    }
    Ok(blobs)
}

/// Makes the ledger anew from what names need and the store tells; how many blobs
/// it holds.
pub(super) async fn rebuild(settings: &Settings, keys: &Keys) -> Result<usize, Failure> {
    let store = context::store(settings)?;
    let epoch = store.epoch().await?;
    let ledger = Ledger::of(settings);
    // What it still says of blobs is not to be lost: when they end, what owns them.
    let before = LedgerBlob::fold(&ledger.entries()?);
    let mut entries = Vec::new();
    let mut count = 0;
    for head in heads(settings, keys).await? {
        let mut blobs = Vec::new();
        for (blob, len) in head.blobs {
            let told = store.lifetime(blob).await?;
            let known = before.get(&blob);
            let end = told.as_ref().map(|it| it.end_epoch);
            let object = told.and_then(|it| it.object_id);
            blobs.push(StoredBlob {
                blob,
                len,
                end_epoch: end.or_else(|| known.and_then(|it| it.end_epoch)),
                object_id: object.or_else(|| known.and_then(|it| it.object_id.clone())),
            });
        }
        count += blobs.len();
        let address = head.address.to_string();
        entries.push(LedgerEntry {
            at: match head.updated {
                0 => unix_seconds(),
                updated => updated,
            },
            kind: EntryKind::Rebuilt,
            epoch,
            ..LedgerEntry::of(head.name.as_str(), &address, &blobs)
        });
    }
    // Oldest first, as they were written.
    entries.sort_by_key(|entry| entry.at);
    ledger.replace(&entries)?;
    Ok(count)
}
