//! `compact`: rewrites heads that many publishes have scattered over many blobs.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::context::{self, Context};
use super::keys::Keys;
use super::publish::Bar;
use super::{Failure, output};
use crate::maintenance::compaction::{
    Candidate, Compacted, CompactionError, Compactor, Selection, SkipReason,
};
use walgit_format::ref_name::RefName;
use walrus_client::clock::unix_seconds;
use walrus_client::{BlobStore, DryStore};

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

/// Outcome for a candidate.
type Done = Option<Result<Compacted, CompactionError>>;

impl Compact {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let cache = context::cache(&settings)?;
        let loader = context::loader(&cache);
        let access = context::access(&settings, &self.keys)?;
        let store: Arc<dyn BlobStore> = match self.dry_run {
            true => Arc::new(DryStore::new(context::store(&settings)?)),
            false => context::store_to_write(&settings)?,
        };
        let compactor = Compactor::new(&settings, loader, access, store);
        let selection = Selection {
            force: self.force,
            spend: self.spend,
        };
        let bar = Arc::new(Bar::new("measuring"));
        let done = context.run(async {
            let candidates = compactor.candidates(&self.names, &selection).await?;
            let mut done: Vec<(Candidate, Done)> = Vec::new();
            for one in candidates {
                let compacted = match one.skip.is_none() && !self.dry_run {
                    true => Some(compactor.compact(&one, bar.clone()).await),
                    false => None,
                };
                done.push((one, compacted));
            }
            Ok(done)
        });
        bar.end();
        let done = done?;
        let currency = &compactor.price().currency;
        match context.json {
            true => output::json(&json!({
                "network": settings.network.value.name,
                "dry_run": self.dry_run,
                "currency": currency,
                "heads": done.iter().map(|(one, done)| report(one, done)).collect::<Vec<_>>(),
            }))?,
            false => self.print(&done, currency)?,
        }
        let failed = done.iter().any(|(one, done)| {
            matches!(done, Some(Err(_))) || matches!(one.skip, Some(SkipReason::Unreadable { .. }))
        });
        Ok(match failed {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }

    fn print(&self, done: &[(Candidate, Done)], currency: &str) -> Result<(), Failure> {
        if done.is_empty() {
            return output::line("nothing is published here yet");
        }
        let mut rows = vec![
            [
                "  name", "blobs", "requests", "billed", "score", "write", "cost", "",
            ]
            .map(String::from)
            .to_vec(),
        ];
        for (one, done) in done {
            let mut row = vec![format!("  {}", one.name)];
            match &one.plan {
                Some(plan) => row.extend([
                    format!("{} → {}", plan.now.blobs, plan.then.blobs),
                    format!("{} → {}", plan.now.requests, plan.then.requests),
                    format!(
                        "{} → {}",
                        output::bytes(plan.now.billed),
                        output::bytes(plan.then.billed)
                    ),
                    format!("{:.2} → {:.2}", plan.terms_now.score, plan.terms_then.score),
                    output::bytes(plan.write),
                    output::money(plan.cost, currency),
                ]),
                None => row.extend(std::iter::repeat_n(String::from("-"), 6)),
            }
            row.push(self.words(one, done, currency));
            rows.push(row);
        }
        output::table(&rows)?;
        let moved = done.iter().filter(|(_, done)| matches!(done, Some(Ok(_))));
        match moved.count() {
            0 => Ok(()),
            _ => output::line("walgit-fs gc collects the blobs that are no longer needed"),
        }
    }

    fn words(&self, one: &Candidate, done: &Done, currency: &str) -> String {
        match (done, &one.skip) {
            (Some(Ok(compacted)), _) => format!("moved to {}", compacted.address),
            (Some(Err(error)), _) => format!("unchanged: {error}"),
            (None, Some(reason)) => format!("unchanged: {}", why(reason, currency)),
            (None, None) => match one.moves {
                0 => "would be compacted".into(),
                moves => format!("would be compacted, moving {moves} files to another tier"),
            },
        }
    }
}

/// Explains why a name is not compacted.
fn why(reason: &SkipReason, currency: &str) -> String {
    match reason {
        SkipReason::Little => "the improvement is too small".into(),
        SkipReason::Cooling { until } => {
            let hours = until.saturating_sub(unix_seconds()).div_ceil(3600);
            format!("compacted a short time ago; again in {hours} h, or with --force")
        }
        SkipReason::Costs { left } => {
            let left = output::money(*left, currency);
            format!("costs more than the {left} that may be spent")
        }
        SkipReason::Unreadable { error } => error.clone(),
    }
}

fn report(one: &Candidate, done: &Done) -> serde_json::Value {
    let plan = one.plan.as_ref().map(|plan| {
        json!({
            "now": plan.now,
            "then": plan.then,
            "terms_now": plan.terms_now,
            "terms_then": plan.terms_then,
            "improvement": plan.improvement,
            "write": plan.write,
            "cost": plan.cost,
            "leaves": plan.leave.len(),
            "epochs": one.epochs,
        })
    });
    let (address, error, published) = match done {
        Some(Ok(it)) => (Some(it.address.to_string()), None, Some(&it.published)),
        Some(Err(error)) => (None, Some(error.to_string()), None),
        None => (None, None, None),
    };
    json!({
        "name": one.name.as_str(),
        "from": one.named.address,
        "plan": plan,
        "moves": one.moves,
        "stays": one.skip,
        "address": address,
        "error": error,
        "published": published,
    })
}
