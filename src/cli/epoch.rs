//! `epoch`: shows or advances the epoch of a network.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::context::{self, Context};
use super::keys::Keys;
use super::{Failure, ledger, output};
use crate::config::Settings;
use crate::maintenance::MaintenanceContext;
use crate::maintenance::renew::{NeededBlobs, expiring};
use walgit_format::chunk::BlobId;
use walrus_client::BlobStore;
use walrus_client::network::MAX_EPOCHS;

/// Number of names that an error lists.
const LISTED: usize = 8;

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
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let name = &settings.network.value.name;
        let store = context::store(&settings)?;
        let (epoch, expired) = context.run(async {
            let Some(epochs) = self.advance else {
                let told = store.epoch().await?.ok_or_else(|| {
                    format!("{name} does not tell its epoch: neither aggregators nor publishers do; of a devnet, --admin URL does")
                })?;
                return Ok((told, None));
            };
            let by_itself = || {
                format!("epochs of {name} end by themselves; only those of `local` and of a devnet (--admin URL) are ended by hand")
            };
            let now = store.epoch().await?.ok_or_else(by_itself)?;
            let checked = self.check(&settings, &store, now, epochs).await;
            let expired = match checked {
                Ok(expired) => expired,
                Err(why) if self.force => {
                    output::warning(&why.to_string());
                    BTreeSet::new()
                }
                Err(why) => return Err(why),
            };
            let epoch = store.advance(epochs).await?.ok_or_else(by_itself)?;
            Ok((epoch, Some(expired.len())))
        })?;
        if context.json {
            output::json(&json!({"network": name, "epoch": epoch, "expired": expired}))?;
            return Ok(ExitCode::SUCCESS);
        }
        output::line(&format!("{name} is in epoch {epoch}"))?;
        if let Some(expired) = expired.filter(|count| *count > 0) {
            output::line(&format!("{expired} blobs that are needed have expired"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Returns the needed blobs that expire when this many epochs end. An error without
    /// --force.
    async fn check(
        &self,
        settings: &Settings,
        store: &Arc<dyn BlobStore>,
        now: u32,
        epochs: u32,
    ) -> Result<BTreeSet<BlobId>, Failure> {
        let found = self.expiring(settings, store, now, epochs).await?;
        if self.force {
            return Ok(found.blobs);
        }
        if let Some(unreadable) = found.unreadable.first() {
            return Err(format!(
                "{} cannot be read ({}), so the blobs that it needs are unknown; no epoch was ended. \
                 --force ends it anyway",
                unreadable.head, unreadable.why
            )
            .into());
        }
        if let Some(folder) = found.mounts_without_lease.first() {
            return Err(format!(
                "the mount on {} has no lease, so the blobs that it needs are unknown; no epoch was \
                 ended. Unmount it, or add --force",
                folder.display()
            )
            .into());
        }
        if found.blobs.is_empty() {
            return Ok(found.blobs);
        }
        Err(self.explain(settings, &found, epochs).await?.into())
    }

    async fn expiring(
        &self,
        settings: &Settings,
        store: &Arc<dyn BlobStore>,
        now: u32,
        epochs: u32,
    ) -> Result<NeededBlobs, Failure> {
        let cache = context::cache(settings)?;
        let loader = context::loader(&cache);
        let access = context::access(settings, &self.keys)?;
        let inputs = MaintenanceContext::new(settings, loader, access, store.clone())?;
        let between = (now, now.saturating_add(epochs));
        let at = walrus_client::clock::unix_seconds();
        Ok(expiring(&inputs, between, at).await?)
    }

    /// Explains which names need the expiring blobs.
    async fn explain(
        &self,
        settings: &Settings,
        found: &NeededBlobs,
        epochs: u32,
    ) -> Result<String, Failure> {
        let heads = ledger::heads(settings, &self.keys).await?.heads;
        let needs = |head: &&ledger::Head| head.blobs.keys().any(|it| found.blobs.contains(it));
        let names: Vec<String> = (heads.iter().filter(needs))
            .map(|head| head.name.clone())
            .collect();
        let by_names: BTreeSet<BlobId> = heads
            .iter()
            .flat_map(|head| head.blobs.keys().copied())
            .collect();
        let mut needed_by = names.iter().take(LISTED).cloned().collect::<Vec<_>>();
        if names.len() > LISTED {
            needed_by.push(format!("{} more names", names.len() - LISTED));
        }
        if !found.blobs.is_subset(&by_names) {
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
}
