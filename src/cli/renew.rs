//! `renew`: extends needed blobs before they expire.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;

use super::args::Keys;
use super::context::{self, Context};
use super::output;
use super::progress::count_bar;
use super::session::Session;
use crate::maintenance::MaintenanceContext;
use crate::maintenance::renew::{RenewalOptions, RenewalReport, RenewalTerms, renew};
use walrus_client::network::MAX_EPOCHS;

/// Maximum number of lines of one kind.
const MAX_LINES: usize = 10;

/// Extend the storage of everything that is needed, before it expires
///
/// Checks everything that names of this network, mounted repositories and retention rules
/// need. Blobs that expire within the margin are renewed, most urgent first: extended if
/// the network permits it (`local`, a devnet), renewed by the `walrus` command-line
/// client if [renewal] sets it, or else read, verified and stored again. It may be
/// stopped at any time, and never pays twice.
///
/// Exits with code 1 if anything could not be renewed or checked.
#[derive(Debug, Args)]
pub(super) struct Renew {
    /// Pay for nothing; print what would be done, and its cost
    #[arg(long)]
    dry_run: bool,
    /// Renew blobs that expire within this many epochs [default: that of [renewal], 2]
    #[arg(long, value_name = "EPOCHS")]
    margin: Option<u32>,
    /// Pay until this many epochs from now, 1 to 53 [default: that of [renewal], 5]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EPOCHS)))]
    epochs: Option<u32>,
    /// Spend at most this amount, in the currency of the network's price
    #[arg(long, value_name = "AMOUNT")]
    budget: Option<f64>,
    #[command(flatten)]
    keys: Keys,
}

impl Renew {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let settings = context.settings()?;
        let defaults = &settings.renewal.value;
        let terms = RenewalTerms {
            margin: self.margin.unwrap_or(defaults.margin),
            epochs: self.epochs.unwrap_or(defaults.epochs),
            budget: self.budget,
        };
        ensure!(
            terms.margin < terms.epochs,
            "--margin must be less than --epochs: renewed blobs would be due again at once"
        );
        let session = Session::new(&settings, &self.keys)?;
        let access = session.access()?;
        let store = if self.dry_run {
            context::store(&settings)?
        } else {
            context::store_to_write(&settings)?
        };
        let inputs = MaintenanceContext::new(&settings, session.loader.clone(), access, store)?;
        let options = RenewalOptions::new(&settings, terms, self.dry_run);
        let bar = Arc::new(count_bar("renewing"));
        let shown = bar.clone();
        let progress = move |done: u64, total: u64| {
            shown.set_length(total);
            shown.set_position(done);
        };
        let done = context.wait(renew(&inputs, &options, &progress));
        bar.finish_and_clear();
        let report = done?;
        output::warn_of_unknown_needs(
            &report.unreadable,
            "the blobs that it needs may not be renewed",
            &report.mounts_without_lease,
            "the blobs that it needs may not be renewed; unmount it and mount it again",
        );
        if let Some(warning) = report.warning() {
            output::warning(&warning);
        }
        context.report(&report, || print(&report))?;
        // Unchecked blobs may expire, so a scheduled run must not report success.
        let checked = report.unreadable.is_empty() && report.mounts_without_lease.is_empty();
        let renewed = report.failed.is_empty() && report.plan.expired.is_empty();
        Ok(output::exit_code(checked && renewed))
    }
}

fn print(report: &RenewalReport) -> Result<()> {
    let plan = &report.plan;
    let needed = report.needed;
    match report.present {
        Some(present) => outln!(
            "epoch {}{}: {needed} blobs are needed or kept by a rule; {} of them are paid for \
             long enough",
            present.epoch,
            if present.estimated { ", estimated" } else { "" },
            plan.later
        )?,
        None => outln!("{needed} blobs are needed or kept by a rule")?,
    }
    let money = |amount| output::money(amount, &report.currency);
    for renewal in plan.renew.iter().take(MAX_LINES) {
        let cost = money(renewal.cost);
        outln!(
            "  {} ends with epoch {}: until epoch {} for {cost}",
            renewal.blob,
            renewal.end.saturating_sub(1),
            renewal.new_end.saturating_sub(1)
        )?;
    }
    if let Some(more) = plan.renew.len().checked_sub(MAX_LINES + 1) {
        outln!("  and {} more", more + 1)?;
    }
    for failed in report.failed.iter().take(MAX_LINES) {
        outln!("  {}: {}", failed.blob, failed.why)?;
    }
    if report.dry_run {
        outln!(
            "{} would be renewed for {} (dry run: nothing is paid for)",
            plan.renew.len(),
            money(plan.cost())
        )
    } else {
        outln!("{} renewed for {}", report.renewed, money(report.spent))
    }
}
