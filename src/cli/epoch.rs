//! `epoch`: shows or advances the epoch of a network.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;

use super::args::Keys;
use super::context::{self, Context};
use super::ledger::{NamedHead, NamedHeads};
use super::output;
use super::session::Session;
use crate::config::Settings;
use crate::maintenance::MaintenanceContext;
use crate::maintenance::renew::{NeededBlobs, expiring};
use walgit_format::chunk::BlobId;
use walrus_client::BlobStore;
use walrus_client::network::MAX_EPOCHS;

/// Maximum number of names that an error lists.
const MAX_NAMES: usize = 8;

/// Show the current epoch of the network, or end epochs of a local network
///
/// Blobs are paid for until an epoch ends: an epoch takes two weeks on mainnet, a day on
/// testnet. The networks `local` and `devnet` have no clock: their epochs end with
/// --advance. Blobs that are paid for until then expire and become unreadable; use
/// `renew` before that to extend them.
#[derive(Debug, Args)]
pub(super) struct Epoch {
    /// End this many epochs
    #[arg(long, value_name = "N")]
    advance: Option<u32>,
    /// End epochs even if needed blobs expire or cannot be checked
    #[arg(long, requires = "advance")]
    force: bool,
    #[command(flatten)]
    keys: Keys,
}

impl Epoch {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let name = &settings.network.value.name;
        let store = context::store(&settings)?;
        let (epoch, expired) = context.run(async {
            let now = store.epoch().await?;
            let Some(epochs) = self.advance else {
                let now = now.with_context(|| {
                    format!(
                        "{name} does not report its epoch: neither aggregators nor publishers do; \
                         a devnet does with --admin URL"
                    )
                })?;
                return Ok((now, None));
            };
            let not_ours = || {
                format!(
                    "the network ends the epochs of {name}; this command ends only those of \
                     `local` and of a devnet (--admin URL)"
                )
            };
            let now = now.with_context(not_ours)?;
            let expired = match self.check(&settings, &store, now, epochs).await {
                Ok(expired) => expired,
                Err(why) if self.force => {
                    output::warning(&output::message(why.as_ref()));
                    BTreeSet::new()
                }
                Err(why) => return Err(why),
            };
            let epoch = store.advance(epochs).await?.with_context(not_ours)?;
            Ok((epoch, Some(expired.len())))
        })?;
        let report = json!({"network": name, "epoch": epoch, "expired": expired});
        context.report(&report, || {
            outln!("{name} is in epoch {epoch}")?;
            match expired {
                None | Some(0) => Ok(()),
                Some(expired) => outln!("{expired} needed blobs have expired"),
            }
        })
    }

    /// Returns the needed blobs that expire when this many epochs end. An error without
    /// --force.
    async fn check(
        &self,
        settings: &Settings,
        store: &Arc<dyn BlobStore>,
        now: u32,
        epochs: u32,
    ) -> Result<BTreeSet<BlobId>> {
        let session = Session::new(settings, &self.keys)?;
        let access = session.access()?;
        let inputs =
            MaintenanceContext::new(settings, session.loader.clone(), access, store.clone())?;
        let between = (now, now.saturating_add(epochs));
        let at = walrus_client::clock::unix_seconds();
        let found = expiring(&inputs, between, at).await?;
        if self.force {
            return Ok(found.blobs);
        }
        if let Some(unreadable) = found.unreadable.first() {
            bail!(
                "{} cannot be read ({}), so the blobs that it needs are unknown; no epoch was ended. \
                 --force ends it anyway",
                unreadable.head,
                unreadable.why
            );
        }
        if let Some(folder) = found.mounts_without_lease.first() {
            bail!(
                "the mount on {} has no lease, so the blobs that it needs are unknown; no epoch was \
                 ended. Unmount it, or add --force",
                folder.display()
            );
        }
        if !found.blobs.is_empty() {
            bail!(explain(&session, &found, epochs).await?);
        }
        Ok(found.blobs)
    }
}

/// Explains which names need the expiring blobs.
async fn explain(session: &Session<'_>, found: &NeededBlobs, epochs: u32) -> Result<String> {
    let heads = NamedHeads::read(session).await?.heads;
    let needs = |head: &&NamedHead| head.blobs.keys().any(|it| found.blobs.contains(it));
    let names: Vec<&String> = heads.iter().filter(needs).map(|head| &head.name).collect();
    let of_names = heads.iter().flat_map(|head| head.blobs.keys().copied());
    let of_names: BTreeSet<BlobId> = of_names.collect();
    let listed = names.iter().take(MAX_NAMES);
    let mut needed_by: Vec<String> = listed.map(ToString::to_string).collect();
    if names.len() > MAX_NAMES {
        needed_by.push(format!("{} more names", names.len() - MAX_NAMES));
    }
    if !found.blobs.is_subset(&of_names) {
        needed_by.push("mounts or retention rules".into());
    }
    let remedy = if epochs < MAX_EPOCHS {
        let until = epochs + 1;
        format!("walgit-fs renew --margin {epochs} --epochs {until} pays for them first, ")
    } else {
        String::new()
    };
    Ok(format!(
        "{} blobs would expire that are needed by {}; no epoch was ended: {remedy}--force lets \
         them expire",
        found.blobs.len(),
        needed_by.join(", "),
    ))
}
