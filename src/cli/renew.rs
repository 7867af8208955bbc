//! `renew`: extends needed blobs before they expire.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::context::{self, Context};
use super::keys::Keys;
use super::{Failure, output};
use crate::maintenance::MaintenanceContext;
use crate::maintenance::renew::{RenewalOptions, RenewalReport, RenewalTerms, renew};
use walrus_client::network::MAX_EPOCHS;

/// Maximum number of lines of one kind that are printed.
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
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let renewing = &settings.renewal.value;
        let terms = RenewalTerms {
            margin: self.margin.unwrap_or(renewing.margin),
            epochs: self.epochs.unwrap_or(renewing.epochs),
            budget: self.budget,
        };
        if terms.margin >= terms.epochs {
            let why =
                "--margin must be less than --epochs: otherwise renewed blobs would be due again";
            return Err(why.into());
        }
        let cache = context::cache(&settings)?;
        let access = context::access(&settings, &self.keys)?;
        let store = match self.dry_run {
            true => context::store(&settings)?,
            false => context::store_to_write(&settings)?,
        };
        let loader = context::loader(&cache);
        let inputs = MaintenanceContext::new(&settings, loader, access, store)?;
        let options = RenewalOptions::new(&settings, terms, self.dry_run);
        let bar = Arc::new(output::count_bar("renewing"));
        let shown = bar.clone();
        let report = context.run(async {
            let progress = move |done: u64, of: u64| {
                shown.set_length(of);
                shown.set_position(done);
            };
            Ok(renew(&inputs, &options, &progress).await?)
        });
        bar.finish_and_clear();
        let report = report?;
        for unreadable in &report.unreadable {
            output::warning(&format!(
                "{} cannot be read, so the blobs that it needs may not be renewed: {}",
                unreadable.head, unreadable.why
            ));
        }
        for folder in &report.mounts_without_lease {
            output::warning(&format!(
                "the mount on {} has no lease, so the blobs that it needs may not be renewed; unmount \
                 it and mount it again",
                folder.display()
            ));
        }
        if let Some(warning) = report.warning() {
            output::warning(&warning);
        }
        match context.json {
            true => output::json(&report)?,
            false => print(&report)?,
        }
        // Unchecked blobs may expire, so a scheduled run must not report success.
        let complete = report.unreadable.is_empty() && report.mounts_without_lease.is_empty();
        Ok(
            if complete && report.failed.is_empty() && report.plan.gone.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            },
        )
    }
}

fn print(report: &RenewalReport) -> Result<(), Failure> {
    let plan = &report.plan;
    match report.present {
        Some(present) => output::line(&format!(
            "epoch {}{}: {} blobs are needed or kept by a rule; {} of them are paid for long enough",
            present.epoch,
            if present.estimated { ", estimated" } else { "" },
            report.needed,
            plan.later
        ))?,
        None => output::line(&format!(
            "{} blobs are needed, or kept by a rule",
            report.needed
        ))?,
    }
    for renewal in plan.renew.iter().take(MAX_LINES) {
        let cost = output::money(renewal.cost, &report.currency);
        output::line(&format!(
            "  {} ends with epoch {}: until epoch {} for {cost}",
            renewal.blob,
            renewal.end.saturating_sub(1),
            renewal.new_end.saturating_sub(1)
        ))?;
    }
    if let Some(more) = plan.renew.len().checked_sub(MAX_LINES + 1) {
        output::line(&format!("  and {} more", more + 1))?;
    }
    for failed in report.failed.iter().take(MAX_LINES) {
        output::line(&format!("  {}: {}", failed.blob, failed.why))?;
    }
    let money = |amount| output::money(amount, &report.currency);
    match report.dry_run {
        true => output::line(&format!(
            "{} would be renewed for {} (dry run: nothing is paid for)",
            plan.renew.len(),
            money(plan.cost())
        )),
        false => output::line(&format!(
            "{} renewed for {}",
            report.renewed,
            money(report.spent)
        )),
    }
}
