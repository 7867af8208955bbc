//! Renewal: extends the storage of needed blobs before their last epoch ends.
//!
//! Needed blobs are those that a collector would keep: blobs of heads and of retention
//! rules ([`super::gc`]). Their expiry epochs come from the store or the ledger;
//! [`plan()`] selects due blobs within a budget, the most urgent first. Each is renewed
//! by the first method that works ([`pay`]): the store extends it, the user's `walrus`
//! client extends it, or it is read, verified and stored again for longer.
//!
//! The expiry epoch of each blob is queried again before payment, and payments are
//! written to the ledger after each batch. So a run can be interrupted at any time, and
//! the next one resumes without paying twice.

mod epoch;
mod pay;
mod plan;

pub use epoch::{Present, present};
pub use pay::{Failed, Payer};
pub use plan::{Needed, Plan, Renewal, Terms, plan};

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;

use super::gc::{self, Fate, GcError, Ground, Kept, Refused};
use super::{Ledger, LedgerBlob, LedgerEntry, LedgerError};
use walgit_format::chunk::BlobId;
use walrus_client::{BlobStore, StoreError, StoredBlob};

/// Concurrent lifetime queries, and blobs that are renewed per ledger line.
const AT_ONCE: usize = 16;
const BATCH: usize = 16;

/// Result of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// The present epoch; `None` if unknown.
    pub present: Option<Present>,
    /// Number of needed blobs.
    pub needed: u64,
    /// Renewals that were, or would be, done.
    pub plan: Plan,
    /// Number of renewed blobs.
    pub renewed: u64,
    /// Amount that was spent.
    pub spent: f64,
    /// Currency of the amount: `USD`, `WAL`.
    pub currency: String,
    /// Failed renewals, with reasons.
    pub failed: Vec<Failed>,
    /// Heads that could not be read, so that their needs are unknown.
    pub refused: Vec<Refused>,
    /// Mount points whose heads are unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unexplained: Vec<PathBuf>,
}

impl Report {
    /// Returns a one-sentence warning for the user; `None` if all is well.
    pub fn warning(&self) -> Option<String> {
        if let Some(first) = self.failed.first() {
            let count = self.failed.len();
            return Some(format!("{count} blobs cannot be renewed: {}", first.why));
        }
        let over = &self.plan.over_budget;
        if let Some(first) = over.first() {
            let count = over.len();
            let end = first.end;
            return Some(format!(
                "{count} blobs that end with epoch {end} or later are over the budget"
            ));
        }
        match self.plan.gone.len() {
            0 => {}
            gone => return Some(format!("{gone} blobs that are needed have expired")),
        }
        match (self.present, self.plan.unknown.len()) {
            (None, _) if self.needed > 0 => Some(
                "nobody tells which epoch it is, so nothing is renewed; set epoch_days of the \
                 network"
                    .into(),
            ),
            (_, unknown) if unknown > 0 => Some(format!(
                "it is unknown until when {unknown} blobs are paid for; doctor --rebuild-ledger \
                 asks the network and completes the ledger"
            )),
            _ => None,
        }
    }
}

/// Reason why nothing could be renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The needed blobs are unknown.
    #[error(transparent)]
    Needed(#[from] GcError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Options of a renewal.
#[derive(Clone, Debug)]
pub struct Options {
    /// Reports without paying.
    pub dry_run: bool,
    /// Margin, target and budget.
    pub terms: Terms,
    /// Length of an epoch, for networks that do not report the present epoch.
    pub epoch_length: Option<Duration>,
    /// Current time, in seconds since 1970.
    pub now: u64,
}

/// Receives progress: the number of renewed blobs, and the total.
pub type Watch<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Renews all due blobs.
///
/// # Errors
/// [`RenewError`]; completed renewals are in the ledger.
pub async fn renew(
    ground: &Ground<'_>,
    ledger: &Ledger,
    store: &Arc<dyn BlobStore>,
    payer: &Payer,
    options: &Options,
    watch: Watch<'_>,
) -> Result<Report, RenewError> {
    let (live, kept) = needed(ground, options.now).await?;
    let told = store.epoch().await?;
    let needed = lifetimes(&live, ground.ledger, store, told.is_some()).await?;
    let present = present(told, ground.ledger, options.now, options.epoch_length);
    let mut report = Report {
        dry_run: options.dry_run,
        present,
        needed: needed.len() as u64,
        currency: ground.price.currency.clone(),
        refused: kept.refused,
        unexplained: kept.unexplained,
        ..Report::default()
    };
    let Some(present) = present else {
        report.plan.unknown = needed.iter().map(|one| one.blob).collect();
        return Ok(report);
    };
    report.plan = plan(&needed, present.epoch, &options.terms, ground.price);
    if options.dry_run {
        return Ok(report);
    }
    let of = report.plan.renew.len() as u64;
    for batch in report.plan.renew.chunks(BATCH) {
        let mut paid: Vec<StoredBlob> = Vec::new();
        for renewal in batch {
            match payer.pay(store, renewal, present).await {
                Ok(stored) => {
                    report.renewed += 1;
                    report.spent += renewal.cost;
                    paid.push(stored);
                }
                Err(failed) => report.failed.push(failed),
            }
            watch(report.renewed, of);
        }
        if !paid.is_empty() {
            store.flush().await?;
            let epoch = (!present.estimated).then_some(present.epoch);
            let entry = LedgerEntry::renewal(options.now, epoch, paid);
            tokio::task::block_in_place(|| ledger.append(&entry))?;
        }
    }
    Ok(report)
}

/// Blobs that are needed, or retained by a rule, and expire within a range of epochs.
#[derive(Clone, Debug, Default)]
pub struct Expiring {
    /// The blobs.
    pub blobs: BTreeSet<BlobId>,
    /// Heads that could not be read, so that their needs are unknown.
    pub refused: Vec<Refused>,
    /// Mount points whose heads are unknown.
    pub unexplained: Vec<PathBuf>,
}

/// Returns the needed or retained blobs that expire between the epochs `from` and `to`.
///
/// # Errors
/// [`RenewError`]: then they are unknown.
pub async fn expiring(
    ground: &Ground<'_>,
    store: &Arc<dyn BlobStore>,
    (from, to): (u32, u32),
    now: u64,
) -> Result<Expiring, RenewError> {
    let (live, kept) = needed(ground, now).await?;
    let lifetimes = lifetimes(&live, ground.ledger, store, true).await?;
    let expires = |one: &&Needed| one.end.is_some_and(|end| end > from && end <= to);
    Ok(Expiring {
        blobs: lifetimes
            .iter()
            .filter(expires)
            .map(|one| one.blob)
            .collect(),
        refused: kept.refused,
        unexplained: kept.unexplained,
    })
}

/// Returns needed or retained blobs, with the report of a collector.
async fn needed(
    ground: &Ground<'_>,
    now: u64,
) -> Result<(HashSet<BlobId>, gc::Report), RenewError> {
    let options = gc::Options {
        dry_run: true,
        unknown: false,
        grace: 0,
        now,
    };
    let mut kept = gc::collect(ground, &options).await?;
    let mut live = std::mem::take(&mut kept.live);
    let by_rule = kept.unneeded.iter();
    let by_rule = by_rule.filter(|one| one.fate == Fate::Kept(Kept::Rule));
    live.extend(by_rule.map(|one| one.blob));
    Ok((live, kept))
}

/// Returns the expiry epoch of each blob, from the store or the ledger; `tells` is
/// whether the store reports epochs.
async fn lifetimes(
    live: &HashSet<BlobId>,
    ledger: &[LedgerEntry],
    store: &Arc<dyn BlobStore>,
    tells: bool,
) -> Result<Vec<Needed>, RenewError> {
    let known = LedgerBlob::fold(ledger);
    let live: BTreeSet<BlobId> = live.iter().copied().collect();
    let asked = live.into_iter().map(|blob| {
        let known = known.get(&blob);
        async move {
            let lifetime = store.lifetime(blob).await?;
            let len = match known.map(|known| known.len).filter(|len| *len > 0) {
                Some(len) => len,
                None => store.len(blob).await?.unwrap_or(0),
            };
            let end = match (&lifetime, tells) {
                (Some(lifetime), _) => Some(lifetime.end_epoch),
                // The source of epochs may be a different service than the one that
                // stores blobs.
                (None, true) if store.len(blob).await?.is_none() => Some(0),
                (None, _) => known.and_then(|known| known.end_epoch),
            };
            let deletable = match &lifetime {
                Some(lifetime) => Some(lifetime.deletable),
                None => known.and_then(|it| it.deletable),
            };
            let object_id = lifetime.and_then(|it| it.object_id);
            Ok::<_, StoreError>(Needed {
                blob,
                len,
                end,
                object_id: object_id.or_else(|| known.and_then(|it| it.object_id.clone())),
                deletable: deletable.unwrap_or(true),
            })
        }
    });
    let mut needed = Vec::new();
    let mut answers = futures_util::stream::iter(asked).buffered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        needed.push(answer?);
    }
    Ok(needed)
}
