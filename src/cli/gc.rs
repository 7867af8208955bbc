//! `gc`: deletes or forgets blobs that nothing needs any more.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::context::{self, Context};
use super::keys::Keys;
use super::{Failure, output};
use crate::config::duration;
use crate::maintenance::gc::{
    GcReport, LEARNED_RETENTION_DAYS, Outcome, PrunedRecords, collect, prune_cache,
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
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let network = &settings.network.value;
        if self.unknown && !network.is_free() {
            let why = "others may store on this network, too; --unknown is for `local` alone";
            return Err(why.into());
        }
        let cache = context::cache(&settings)?;
        let loader = context::loader(&cache);
        let access = context::access(&settings, &self.keys)?;
        let store = context::store(&settings)?;
        let inputs = MaintenanceContext::new(&settings, loader, access, store)?;
        let options = GcOptions {
            dry_run: self.dry_run,
            unknown: self.unknown,
            grace: self.grace.as_secs(),
            now: walrus_client::clock::unix_seconds(),
        };
        let bar = output::count_bar("collecting");
        let done = context.run(async {
            let report = collect(&inputs, &options).await?;
            let pruned = if cache.is_shared() {
                match prune_cache(&cache.cache, &inputs, &network.name, &options, &report) {
                    Ok(pruned) => Some(pruned),
                    // Another process has just opened it.
                    Err(_) if !cache.is_shared() => None,
                    Err(error) => return Err(error.into()),
                }
            } else {
                None
            };
            Ok((report, pruned))
        });
        bar.finish_and_clear();
        let (report, pruned) = done?;
        for unreadable in &report.unreadable {
            output::warning(&format!(
                "{} cannot be read, so all blobs that it may need are kept: {}",
                unreadable.head, unreadable.why
            ));
        }
        for folder in &report.mounts_without_lease {
            output::warning(&format!(
                "the mount on {} has no lease, so gc will delete nothing; unmount it first",
                folder.display()
            ));
        }
        match context.json {
            true => output::json(&GcOutput {
                network: &network.name,
                grace_s: options.grace,
                report: &report,
                cache: pruned,
            })?,
            false => {
                print(&report)?;
                let why = cache
                    .why_not_shared()
                    .unwrap_or("the cache was not looked at");
                print_pruned(pruned.as_ref(), why)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(report: &GcReport) -> Result<(), Failure> {
    output::line(&format!(
        "{} heads need {} blobs{}",
        report.heads,
        report.live_blobs,
        if report.dry_run {
            " (a trial: nothing is deleted)"
        } else {
            ""
        }
    ))?;
    let outcomes = report.by_outcome();
    if outcomes.is_empty() {
        output::line("nothing else is stored, to our knowledge")?;
    }
    let rows: Vec<Vec<String>> = (outcomes.iter())
        .map(|(outcome, bill)| {
            vec![
                format!("  {}", describe(*outcome)),
                format!("{} blobs", bill.blobs),
                output::bytes(bill.bytes),
                format!("billed {}", output::bytes(bill.billed)),
            ]
        })
        .collect();
    output::table(&rows)?;
    if report.reclaimed.blobs > 0 {
        let saved = output::money(report.saved, &report.currency);
        output::line(&format!("saves {saved} an epoch"))?;
    }
    if report.resumed > 0 {
        let resumed = report.resumed;
        output::line(&format!(
            "{resumed} blobs were left by a run that was stopped"
        ))?;
    }
    Ok(())
}

/// Prints what was dropped from the cache, or `why` nothing was.
fn print_pruned(pruned: Option<&PrunedRecords>, why: &str) -> Result<(), Failure> {
    match pruned {
        Some(pruned) if !pruned.learned.is_empty() => output::line(&format!(
            "dropped what was learned of {}, not mounted for {LEARNED_RETENTION_DAYS} days ({})",
            pruned.learned.join(", "),
            output::bytes(pruned.learned_bytes)
        )),
        Some(_) => Ok(()),
        None => output::line(&format!(
            "{why}, so what was learned of repositories that are no longer mounted is kept for now"
        )),
    }
}

fn describe(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Deleted => "deleted",
        Outcome::Expired => "expired, forgotten",
        Outcome::Forgotten => "cannot be deleted, not renewed",
        Outcome::Kept(reason) => reason.describe(),
    }
}
