//! `gc`: deletes or forgets unreferenced blobs.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::args::Keys;
use super::context::{self, Context};
use super::output;
use super::progress::count_bar;
use super::session::Session;
use crate::config::duration;
use crate::maintenance::gc::{
    GcReport, LEARNED_RETENTION_DAYS, PrunedRecords, SweepOutcome, collect, prune_cache,
};
use crate::maintenance::{GcOptions, MaintenanceContext};

/// Collect garbage: blobs of old heads, orphans, learned data
///
/// Keeps everything that the names of this network need, mounted repositories, publishes
/// in progress, content under retention rules (see `policy`), and blobs stored within the
/// grace period. If a head cannot be read (its key is missing, the network is down), all
/// its blobs are kept.
///
/// Mounts and publishes hold leases beside the blobs, so gc needs neither the daemon nor
/// its environment to determine which blobs are in use. It deletes nothing if that is
/// uncertain: a lease or a name is damaged, or a mount has no lease.
///
/// Deletes blobs if the network permits it; otherwise forgets them, and they expire with
/// their last epoch. gc may run concurrently with a publish, and may be stopped at any
/// time.
#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Delete nothing; print what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Keep blobs that were stored more recently than this: a number with suffix s, m, h,
    /// d or w
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    grace: Duration,
    /// On network `local`: also collect blobs that no publish of yours is known to have
    /// stored
    #[arg(long)]
    unknown: bool,
    #[command(flatten)]
    keys: Keys,
}

#[derive(Serialize)]
struct GcOutput<'a> {
    network: &'a str,
    grace_s: u64,
    #[serde(flatten)]
    report: &'a GcReport,
    /// Entries dropped from the cache; `None` if it could not be opened.
    cache: Option<PrunedRecords>,
}

impl Gc {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let network = &settings.network.value;
        if self.unknown && !network.is_free() {
            bail!("others may store on this network, too; --unknown is only for `local`");
        }
        let session = Session::new(&settings, &self.keys)?;
        let cache = &session.cache;
        let access = session.access()?;
        let store = context::store(&settings)?;
        let inputs = MaintenanceContext::new(&settings, session.loader.clone(), access, store)?;
        let options = GcOptions {
            dry_run: self.dry_run,
            unknown: self.unknown,
            grace: self.grace.as_secs(),
            now: walrus_client::clock::unix_seconds(),
        };
        let bar = count_bar("collecting");
        let done = context.run(async {
            let report = collect(&inputs, &options).await?;
            if !cache.is_shared() {
                return Ok((report, None));
            }
            match prune_cache(&cache.cache, &inputs, &network.name, &options, &report) {
                Ok(pruned) => Ok((report, Some(pruned))),
                // Another process has just opened it.
                Err(_) if !cache.is_shared() => Ok((report, None)),
                Err(error) => Err(error.into()),
            }
        });
        bar.finish_and_clear();
        let (report, pruned) = done?;
        output::warn_of_unknown_needs(
            &report.unreadable,
            "all blobs that it may need are kept",
            &report.mounts_without_lease,
            "gc will delete nothing; unmount it first",
        );
        let result = GcOutput {
            network: &network.name,
            grace_s: options.grace,
            report: &report,
            cache: pruned,
        };
        context.report(&result, || {
            print(&report)?;
            let why = cache.why_not_shared();
            print_pruned(
                result.cache.as_ref(),
                why.unwrap_or("the cache was not checked"),
            )
        })
    }
}

fn print(report: &GcReport) -> Result<()> {
    let trial = if report.dry_run {
        " (a trial: nothing is deleted)"
    } else {
        ""
    };
    outln!(
        "{} heads need {} blobs{trial}",
        report.heads,
        report.live_blobs
    )?;
    let outcomes = report.by_outcome();
    if outcomes.is_empty() {
        outln!("no other blobs are known to be stored")?;
    }
    output::table(outcomes.iter().map(|(outcome, bill)| {
        [
            format!("  {}", describe(*outcome)),
            format!("{} blobs", bill.blobs),
            output::bytes(bill.bytes),
            format!("billed {}", output::bytes(bill.billed)),
        ]
    }))?;
    if report.reclaimed.blobs > 0 {
        let saved = output::money(report.saved, &report.currency);
        outln!("saves {saved} an epoch")?;
    }
    if report.resumed > 0 {
        outln!("{} blobs were left by an interrupted run", report.resumed)?;
    }
    Ok(())
}

/// Prints what was dropped from the cache, or `why` nothing was.
fn print_pruned(pruned: Option<&PrunedRecords>, why: &str) -> Result<()> {
    match pruned {
        Some(pruned) if !pruned.learned.is_empty() => outln!(
            "dropped the learned profiles of {}, not mounted for {LEARNED_RETENTION_DAYS} days ({})",
            pruned.learned.join(", "),
            output::bytes(pruned.learned_bytes)
        ),
        Some(_) => Ok(()),
        None => outln!(
            "{why}, so learned profiles of repositories that are no longer mounted are kept for now"
        ),
    }
}

fn describe(outcome: SweepOutcome) -> &'static str {
    match outcome {
        SweepOutcome::Deleted => "deleted",
        SweepOutcome::Expired => "expired, forgotten",
        SweepOutcome::Forgotten => "cannot be deleted, not renewed",
        SweepOutcome::Kept(why) => why.describe(),
    }
}
