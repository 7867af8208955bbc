//! `debug explain`: explains the tier of a file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::args::Keys;
use super::context::Context;
use super::{output, profile};
use crate::config::{SettingOrigin, Settings};
use crate::publish::analyze::{CensusProgress, census};
use crate::publish::tier::{RuledOut, TierDecision, TierFacts, TierScore, choose};
use crate::repo::Tier;
use walgit_prefetch::Profile;
use walgit_prefetch::model::Limits;
use walrus_client::net::Conditions;
use walrus_client::net::Role;

/// Show which tier a publish selects for a file, and why
///
/// A file is stored in the node of its directory (inline), in chunks that share packs
/// (chunked), or as a separate blob (walrus). Five terms from 0 to 1 rate each tier;
/// tiers that cost noticeably more than the cheapest are ruled out regardless of their
/// score. [tiers] in the config file sets the weights.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// File, as it would be published
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Use the access frequency and network conditions measured by this repository's
    /// mounts instead of the defaults of a publish
    #[arg(long, value_name = "ADDRESS")]
    of: Option<String>,
    /// Path of the file in that repository [default: relative to the root of its git
    /// repository]
    #[arg(long, requires = "of", value_name = "PATH")]
    path: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
}

/// ValueSources of the values that do not come from the file.
#[derive(Serialize)]
struct ValueSources {
    access: &'static str,
    network: &'static str,
}

/// No progress bar for a single file.
struct NoCensusProgress;

impl CensusProgress for NoCensusProgress {}

impl Explain {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let shown = self.file.display();
        ensure!(
            self.file.is_file(),
            "{shown}: not a file; give a file on disk"
        );
        let mut found = None;
        census(&self.file, &NoCensusProgress, |file| found = Some(file))?;
        let found = found.with_context(|| format!("{shown}: cannot be analyzed"))?;
        let tiers = &settings.tiers.value;
        let bounds = (settings.network.value.max_body, None);
        let analysis = (found.analysis.class, found.analysis.compressible);
        let mut facts = TierFacts::published(found.size, analysis, bounds, tiers);
        let preset = match settings.tiers.origin {
            SettingOrigin::Default => "default",
            _ => "config file",
        };
        let mut sources = ValueSources {
            access: preset,
            network: preset,
        };
        if let Some(of) = &self.of {
            if let Some(access) = self.access(context, &settings, of)? {
                facts.access = access;
                sources.access = "measured";
            }
            if let Some(measured) = measured(context, &settings)? {
                facts.round_trip = measured.round_trip().as_secs_f64();
                sources.network = "measured";
                if let Some(bandwidth) = measured.bandwidth {
                    facts.bandwidth = bandwidth as f64;
                }
            }
        }
        let verdict = choose(&facts, &tiers.weights);
        context.report(&report(&self.file, &facts, &sources, &verdict), || {
            print(&self.file, &facts, &sources, &verdict)
        })
    }

    /// Fraction of a repository's sessions that opened the file, if there were enough
    /// sessions.
    fn access(&self, context: &Context, settings: &Settings, of: &str) -> Result<Option<f64>> {
        let bytes = profile::export(context, settings, of, &self.keys)?;
        let profile = Profile::decode(&bytes, Limits::default())?;
        let path = match &self.path {
            Some(path) => path.clone(),
            None => in_repository(&self.file)?,
        };
        Ok(profile.access(&path.to_string_lossy()))
    }
}

/// Path of a file relative to the root of its git repository; outside of a repository,
/// its file name.
fn in_repository(file: &Path) -> Result<PathBuf> {
    let absolute_path = std::fs::canonicalize(file)?;
    let root = absolute_path
        .ancestors()
        .skip(1)
        .find(|it| it.join(".git").exists());
    let inside = root.and_then(|root| absolute_path.strip_prefix(root).ok());
    let name = || {
        absolute_path
            .file_name()
            .map(PathBuf::from)
            .unwrap_or_default()
    };
    Ok(inside.map_or_else(name, Path::to_path_buf))
}

/// Link conditions of the nearest aggregator, as measured by the running daemon.
fn measured(context: &Context, settings: &Settings) -> Result<Option<Conditions>> {
    let Some(client) = context.daemon(settings)? else {
        return Ok(None);
    };
    let networks = context.wait(client.status())?.networks;
    let name = &settings.network.value.name;
    let ours = networks.into_iter().filter(|it| it.name == *name);
    let endpoints = ours.flat_map(|it| it.health.endpoints);
    let readable = endpoints.filter(|it| it.role == Role::Aggregator);
    let conditions = readable.filter_map(|it| it.conditions);
    Ok(conditions.min_by_key(|it| it.round_trip_us))
}

/// The name of a tier, as in config files and reports.
pub(super) fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Inline => "inline",
        Tier::Chunked => "chunked",
        Tier::Walrus => "walrus",
    }
}

/// Reason for the verdict.
fn because(verdict: &TierDecision) -> &'static str {
    if verdict.tier == verdict.proposed {
        "score"
    } else {
        "cost"
    }
}

fn report(
    file: &Path,
    facts: &TierFacts,
    sources: &ValueSources,
    verdict: &TierDecision,
) -> serde_json::Value {
    let scores = verdict.scores.iter().map(|score| {
        json!({
            "tier": tier_name(score.tier),
            "terms": score.terms,
            "score": score.sum,
            "billed": score.billed,
            "ruled_out": score.ruled_out,
        })
    });
    json!({
        "file": file.display().to_string(),
        "facts": facts,
        "known": sources,
        "tiers": scores.collect::<Vec<_>>(),
        "verdict": tier_name(verdict.tier),
        "proposed": tier_name(verdict.proposed),
        "because": because(verdict),
    })
}

fn print(
    file: &Path,
    facts: &TierFacts,
    sources: &ValueSources,
    verdict: &TierDecision,
) -> Result<()> {
    let shrinks = if facts.shrinks {
        "shrinks"
    } else {
        "does not shrink"
    };
    outln!(
        "{}: {}, {}, {shrinks}",
        file.display(),
        output::bytes(facts.size),
        facts.class.name(),
    )?;
    outln!(
        "  opened by {:.0} % of the sessions ({}); {:.1} ms away, {} a second ({}); blobs of {}",
        facts.access * 100.0,
        sources.access,
        facts.round_trip * 1e3,
        output::bytes(facts.bandwidth as u64),
        sources.network,
        output::bytes(facts.max_blob),
    )?;
    let scores = &verdict.scores;
    // A row with a value for each tier.
    let row = |name: &str, weight: String, value: &dyn Fn(&TierScore) -> String| -> Vec<String> {
        let start = [format!("  {name}"), weight];
        start.into_iter().chain(scores.iter().map(value)).collect()
    };
    let none = String::new;
    let mut rows = vec![row("term", "weight".into(), &|score| {
        tier_name(score.tier).into()
    })];
    for (at, term) in scores[0].terms.iter().enumerate() {
        let weight = format!("{:.2}", term.weight);
        rows.push(row(term.term, weight, &|score| {
            let term = &score.terms[at];
            format!("{:.3} adds {:.3}", term.value, term.contribution)
        }));
    }
    rows.push(row("score", none(), &|score| format!("{:.3}", score.sum)));
    rows.push(row("billed", none(), &|score| output::bytes(score.billed)));
    rows.push(row("", none(), &|score| {
        let text = match score.ruled_out {
            None if score.tier == verdict.tier => "chosen",
            None => "",
            Some(RuledOut::Impossible) => "no room",
            Some(RuledOut::Cost) => "costs too much",
        };
        text.into()
    }));
    output::table(rows)?;
    let (tier, proposed) = (tier_name(verdict.tier), tier_name(verdict.proposed));
    match because(verdict) {
        "cost" => outln!(
            "  verdict: {tier}; {proposed} has the better score, but would be billed noticeably more"
        ),
        _ => outln!("  verdict: {tier}"),
    }
}
