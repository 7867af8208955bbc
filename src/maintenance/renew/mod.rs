//! Renewal: extends the storage of needed blobs before their last epoch ends.
//!
//! Needed blobs are those that a collector would keep: blobs of heads and of retention
//! rules ([`super::reachability`]). Their expiry epochs come from the store or the ledger;
//! [`plan`] selects due blobs within a budget, the most urgent first. Each is renewed
//! by the first method that works (see the module `pay`): the store extends it, the user's `walrus`
//! client extends it, or it is read, verified and stored again for longer.
//!
//! The expiry epoch of each blob is queried again before payment, and payments are
//! written to the ledger after each batch. So a run can be interrupted at any time, and
//! the next one resumes without paying twice.

mod pay;
mod plan;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::context::{GcOptions, MaintenanceContext};
pub use super::epoch::PresentEpoch;
use super::epoch::present_epoch;
use super::error::MaintenanceError;
use super::journal::CollectionJournal;
use super::reachability::{Reachability, UnreadableHead};
use crate::config::Settings;
use crate::lifecycle::{LedgerBlob, LedgerEntry};
pub use pay::FailedRenewal;
use pay::pay;
use plan::plan_renewals;
pub use plan::{NeededBlob, PlannedRenewal, RenewalPlan, RenewalTerms};
use walgit_format::chunk::BlobId;
use walrus_client::clock::unix_seconds;
use walrus_client::{StoreError, StoredBlob};
use walrus_encoding::Price;

/// Concurrent lifetime queries.
const QUERY_CONCURRENCY: usize = 16;
/// Blobs that are renewed per ledger line.
const BATCH_SIZE: usize = 16;

/// Result of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RenewalReport {
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// The present epoch; `None` if unknown.
    pub present: Option<PresentEpoch>,
    /// Number of needed blobs.
    pub needed: u64,
    /// Renewals that were, or would be, done.
    pub plan: RenewalPlan,
    /// Number of renewed blobs.
    pub renewed: u64,
    /// Amount that was spent.
    pub spent: f64,
    /// Currency of the amount: `USD`, `WAL`.
    pub currency: String,
    /// Failed renewals, with reasons.
    pub failed: Vec<FailedRenewal>,
    /// Heads that could not be read, so that their needs are unknown.
    #[serde(rename = "refused")]
    pub unreadable: Vec<UnreadableHead>,
    /// Mount points whose heads are unknown.
    #[serde(rename = "unexplained", skip_serializing_if = "Vec::is_empty")]
    pub mounts_without_lease: Vec<PathBuf>,
}

impl RenewalReport {
    /// Returns a one-sentence warning for the user; `None` if all is well.
    pub fn warning(&self) -> Option<String> {
        if let Some(first) = self.failed.first() {
            let count = self.failed.len();
            return Some(format!("{count} blobs cannot be renewed: {}", first.why));
        }
        let plan = &self.plan;
        if let Some(first) = plan.over_budget.first() {
            let (count, end) = (plan.over_budget.len(), first.end);
            return Some(format!(
                "{count} blobs that end with epoch {end} or later are over the budget"
            ));
        }
        if !plan.expired.is_empty() {
            return Some(format!("{} needed blobs have expired", plan.expired.len()));
        }
        if self.present.is_none() && self.needed > 0 {
            let why = "the present epoch is unknown, so nothing was renewed; set epoch_days of the \
                       network";
            return Some(why.into());
        }
        (!plan.unknown.is_empty()).then(|| {
            format!(
                "the expiry epochs of {} blobs are unknown; walgit-fs doctor --rebuild-ledger reads \
                 them from the network and completes the ledger",
                plan.unknown.len()
            )
        })
    }
}

/// Options of a renewal.
#[derive(Clone, Debug)]
pub struct RenewalOptions {
    /// Reports without paying.
    pub dry_run: bool,
    /// Margin, target and budget.
    pub terms: RenewalTerms,
    /// Price of storage.
    pub price: Price,
    /// Path or name of the user's `walrus` command-line client.
    pub command: Option<String>,
    /// Length of an epoch, for networks that do not report the present epoch.
    pub epoch_length: Option<Duration>,
    /// Current time, in seconds since 1970.
    pub now: u64,
}

impl RenewalOptions {
    /// Options for the network in force.
    pub fn new(settings: &Settings, terms: RenewalTerms, dry_run: bool) -> Self {
        let network = &settings.network.value;
        let mut price = settings.price();
        // Storage on a local disk is free.
        if network.is_free() {
            price = Price {
                storage: 0.0,
                write: 0.0,
                ..Price::mainnet()
            };
        }
        RenewalOptions {
            dry_run,
            terms,
            price,
            command: settings.renewal.value.command.clone(),
            epoch_length: network.epoch_s.map(Duration::from_secs),
            now: unix_seconds(),
        }
    }
}

/// Renews all due blobs. Reports to `progress` the number of renewed blobs, and the total.
///
/// # Errors
/// [`MaintenanceError`]; completed renewals are in the ledger.
pub async fn renew(
    context: &MaintenanceContext,
    options: &RenewalOptions,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<RenewalReport, MaintenanceError> {
    let (store, now) = (&context.store, options.now);
    let found = needed(context, now).await?;
    let reported = store.epoch().await?;
    let needed = lifetimes(context, &found.blobs, reported.is_some()).await?;
    let present = present_epoch(reported, &context.entries, now, options.epoch_length);
    let mut report = RenewalReport {
        dry_run: options.dry_run,
        present,
        needed: needed.len() as u64,
        currency: options.price.currency.clone(),
        unreadable: found.unreadable,
        mounts_without_lease: found.mounts_without_lease,
        ..RenewalReport::default()
    };
    let Some(present) = present else {
        report.plan.unknown = needed.iter().map(|needed| needed.blob).collect();
        return Ok(report);
    };
    report.plan = plan_renewals(&needed, present.epoch, &options.terms, &options.price);
    if options.dry_run {
        return Ok(report);
    }
    let total = report.plan.renew.len() as u64;
    for batch in report.plan.renew.chunks(BATCH_SIZE) {
        let mut paid: Vec<StoredBlob> = Vec::new();
        for renewal in batch {
            match pay(store, options.command.as_deref(), renewal, present).await {
                Ok(stored) => {
                    report.renewed += 1;
                    report.spent += renewal.cost;
                    paid.push(stored);
                }
                Err(failed) => report.failed.push(failed),
            }
            progress(report.renewed, total);
        }
        if !paid.is_empty() {
            store.flush().await?;
            let epoch = (!present.estimated).then_some(present.epoch);
            let entry = LedgerEntry::renewal(now, epoch, paid);
            tokio::task::block_in_place(|| context.ledger.append(&entry))?;
        }
    }
    Ok(report)
}

/// Blobs that are needed, or retained by a rule.
#[derive(Clone, Debug, Default)]
pub struct NeededBlobs {
    /// The blobs.
    pub blobs: BTreeSet<BlobId>,
    /// Heads that could not be read, so that their needs are unknown.
    pub unreadable: Vec<UnreadableHead>,
    /// Mount points whose heads are unknown.
    pub mounts_without_lease: Vec<PathBuf>,
}

/// Returns the needed or retained blobs that expire between the epochs `from` and `to`.
///
/// # Errors
/// [`MaintenanceError`]: then they are unknown.
pub async fn expiring(
    context: &MaintenanceContext,
    (from, to): (u32, u32),
    now: u64,
) -> Result<NeededBlobs, MaintenanceError> {
    let mut needed = needed(context, now).await?;
    let lifetimes = lifetimes(context, &needed.blobs, true).await?;
    let expires =
        |needed_blob: &&NeededBlob| needed_blob.end.is_some_and(|end| end > from && end <= to);
    needed.blobs = lifetimes
        .iter()
        .filter(expires)
        .map(|needed_blob| needed_blob.blob)
        .collect();
    Ok(needed)
}

/// Returns needed or retained blobs.
async fn needed(context: &MaintenanceContext, now: u64) -> Result<NeededBlobs, MaintenanceError> {
    let options = GcOptions {
        dry_run: true,
        unknown: false,
        grace: 0,
        now,
    };
    context
        .activity
        .check()
        .map_err(MaintenanceError::Activity)?;
    let mut journal = CollectionJournal::open(&context.state_dir, "gc", true)?;
    let found = Reachability::scan(context, &options, &mut journal).await?;
    let mut blobs: BTreeSet<BlobId> = found.marks.live.iter().copied().collect();
    for stored in &found.unneeded {
        let retained = found.retained_until(&stored.blob, now).is_some();
        // No rule can restore an expired blob.
        if retained && !context.has_expired(stored.blob).await? {
            blobs.insert(stored.blob);
        }
    }
    Ok(NeededBlobs {
        blobs,
        unreadable: found.marks.unreadable,
        mounts_without_lease: found.without_lease,
    })
}

/// Returns the expiry epoch of each blob, from the store or the ledger;
/// `store_has_epochs` is whether the store reports epochs.
async fn lifetimes(
    context: &MaintenanceContext,
    blobs: &BTreeSet<BlobId>,
    store_has_epochs: bool,
) -> Result<Vec<NeededBlob>, MaintenanceError> {
    let (store, known) = (&context.store, LedgerBlob::latest_by_blob(&context.entries));
    let queries = blobs.iter().copied().map(|blob| {
        let known = known.get(&blob);
        async move {
            let lifetime = store.lifetime(blob).await?;
            let len = match known.map(|known| known.len).filter(|len| *len > 0) {
                Some(len) => len,
                None => store.len(blob).await?.unwrap_or(0),
            };
            let end = match &lifetime {
                Some(lifetime) => Some(lifetime.end_epoch),
                // The source of epochs may be a different service than the one that
                // stores blobs.
                None if store_has_epochs && store.len(blob).await?.is_none() => Some(0),
                None => known.and_then(|known| known.end_epoch),
            };
            let deletable = match &lifetime {
                Some(lifetime) => Some(lifetime.deletable),
                None => known.and_then(|known| known.deletable),
            };
            let object_id = lifetime.and_then(|lifetime| lifetime.object_id);
            Ok::<_, StoreError>(NeededBlob {
                blob,
                len,
                end,
                object_id: object_id.or_else(|| known?.object_id.clone()),
                deletable: deletable.unwrap_or(true),
            })
        }
    });
    let needed = futures_util::stream::iter(queries).buffered(QUERY_CONCURRENCY);
    Ok(needed.try_collect().await?)
}
