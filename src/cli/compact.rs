//! `compact`: rewrites heads that many publishes have scattered over many blobs.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::args::Keys;
use super::context::{self, Context};
use super::output;
use super::progress::PublishBar;
use super::session::Session;
use crate::maintenance::compaction::{
    CandidateSelection, Compacted, CompactionCandidate, CompactionError, CompactionSkipReason,
    Compactor,
};
use walgit_format::names::RefName;
use walrus_client::clock::unix_seconds;
use walrus_client::{BlobStore, DryRunStore};

/// Rewrite heads that many publishes have scattered over many blobs
///
/// Every publish adds a blob. After many publishes, a head spans many blobs, each of
/// which is billed and requested separately. Compaction stores the head of a name again
/// in few blobs, reads it back, compares it, and then moves the name. Files, history and
/// all other content stay identical. The old head remains; the next `gc` collects the
/// blobs that are no longer needed.
///
/// A name is skipped if its score would improve by less than 0.25, and for a week after a
/// compaction ([compaction] in the config file sets both). An interrupted compaction
/// loses nothing; run the command again to resume.
#[derive(Debug, Args)]
pub(super) struct Compact {
    /// Names to compact [default: all names of the network]
    #[arg(value_name = "NAME")]
    names: Vec<RefName>,
    /// Store nothing; print the planned compactions in order, and their cost
    #[arg(long)]
    dry_run: bool,
    /// Ignore the minimum gain and the interval since the last compaction
    #[arg(long, requires = "names")]
    force: bool,
    /// Limit spending, including that of the last 30 days, to this amount in the currency
    /// of the network's price
    #[arg(long, value_name = "AMOUNT")]
    spend: Option<f64>,
    #[command(flatten)]
    keys: Keys,
}

/// A name, and what was done about it.
struct CompactOutcome {
    candidate: CompactionCandidate,
    compacted: Option<Result<Compacted, CompactionError>>,
}

impl Compact {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let settings = context.settings()?;
        let session = Session::new(&settings, &self.keys)?;
        let store: Arc<dyn BlobStore> = if self.dry_run {
            Arc::new(DryRunStore::new(context::store(&settings)?))
        } else {
            context::store_to_write(&settings)?
        };
        let access = session.access()?;
        let compactor = Compactor::new(&settings, session.loader.clone(), access, store);
        let selection = CandidateSelection {
            force: self.force,
            spend: self.spend,
        };
        let bar = Arc::new(PublishBar::new("measuring"));
        let done = context.run(async {
            let mut outcomes = Vec::new();
            for candidate in compactor.candidates(&self.names, &selection).await? {
                let compacted = if candidate.skip.is_none() && !self.dry_run {
                    Some(compactor.compact(&candidate, bar.clone()).await)
                } else {
                    None
                };
                outcomes.push(CompactOutcome {
                    candidate,
                    compacted,
                });
            }
            Ok(outcomes)
        });
        bar.end();
        let outcomes = done?;
        let currency = &compactor.price().currency;
        let report = json!({
            "network": settings.network.value.name,
            "dry_run": self.dry_run,
            "currency": currency,
            "heads": outcomes.iter().map(CompactOutcome::json).collect::<Vec<_>>(),
        });
        context.report(&report, || print(&outcomes, currency))?;
        Ok(output::exit_code(
            !outcomes.iter().any(CompactOutcome::is_failure),
        ))
    }
}

fn print(outcomes: &[CompactOutcome], currency: &str) -> Result<()> {
    if outcomes.is_empty() {
        return outln!("nothing is published here yet");
    }
    let headings = [
        "  name", "blobs", "requests", "billed", "score", "write", "cost", "",
    ];
    let rows = outcomes.iter().map(|outcome| outcome.row(currency));
    output::table_with_headings(headings, rows)?;
    if outcomes
        .iter()
        .any(|it| matches!(it.compacted, Some(Ok(_))))
    {
        outln!("walgit-fs gc collects the blobs that are no longer needed")?;
    }
    Ok(())
}

impl CompactOutcome {
    fn is_failure(&self) -> bool {
        let skip = &self.candidate.skip;
        matches!(self.compacted, Some(Err(_)))
            || matches!(skip, Some(CompactionSkipReason::Unreadable { .. }))
    }

    fn row(&self, currency: &str) -> [String; 8] {
        let name = format!("  {}", self.candidate.name);
        let result = self.describe(currency);
        let Some(plan) = &self.candidate.plan else {
            let none = || String::from("-");
            return [name, none(), none(), none(), none(), none(), none(), result];
        };
        let (now, then) = (&plan.now, &plan.then);
        [
            name,
            format!("{} → {}", now.blobs, then.blobs),
            format!("{} → {}", now.requests, then.requests),
            format!(
                "{} → {}",
                output::bytes(now.billed),
                output::bytes(then.billed)
            ),
            format!("{:.2} → {:.2}", plan.terms_now.score, plan.terms_then.score),
            output::bytes(plan.write),
            output::money(plan.cost, currency),
            result,
        ]
    }

    fn describe(&self, currency: &str) -> String {
        match (&self.compacted, &self.candidate.skip) {
            (Some(Ok(compacted)), _) => format!("moved to {}", compacted.address),
            (Some(Err(error)), _) => format!("unchanged: {error}"),
            (None, Some(skip)) => format!("unchanged: {}", reason(skip, currency)),
            (None, None) => match self.candidate.moves {
                0 => "would be compacted".into(),
                moves => format!("would be compacted, moving {moves} files to another tier"),
            },
        }
    }

    fn json(&self) -> serde_json::Value {
        let candidate = &self.candidate;
        let plan = candidate.plan.as_ref().map(|plan| {
            json!({
                "now": plan.now,
                "then": plan.then,
                "terms_now": plan.terms_now,
                "terms_then": plan.terms_then,
                "improvement": plan.improvement,
                "write": plan.write,
                "cost": plan.cost,
                "leaves": plan.leave.len(),
                "epochs": candidate.epochs,
            })
        });
        let compacted = self.compacted.as_ref().and_then(|done| done.as_ref().ok());
        let error = self.compacted.as_ref().and_then(|done| done.as_ref().err());
        json!({
            "name": candidate.name.as_str(),
            "from": candidate.named.address,
            "plan": plan,
            "moves": candidate.moves,
            "stays": candidate.skip,
            "address": compacted.map(|it| it.address.to_string()),
            "error": error.map(ToString::to_string),
            "published": compacted.map(|it| &it.published),
        })
    }
}

/// Explains why a name is not compacted.
fn reason(skip: &CompactionSkipReason, currency: &str) -> String {
    match skip {
        CompactionSkipReason::Little => "the improvement is too small".into(),
        CompactionSkipReason::Cooling { until } => {
            let hours = until.saturating_sub(unix_seconds()).div_ceil(3600);
            format!("compacted a short time ago; again in {hours} h, or with --force")
        }
        CompactionSkipReason::Costs { left } => {
            let left = output::money(*left, currency);
            format!("costs more than the {left} that may be spent")
        }
        CompactionSkipReason::Unreadable { error } => error.clone(),
    }
}
