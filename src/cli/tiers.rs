//! `tiers`: explains the tier of a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::context::Context;
use super::keys::Keys;
use super::{Failure, learned, output};
use crate::config::{Origin, Settings};
use crate::daemon::Client;
use crate::publish::analyze::{Watch, census};
use crate::publish::tier::{Facts, RuledOut, Verdict, choose};
use crate::repo::Tier;
use walgit_prefetch::Profile;
use walgit_prefetch::model::Limits;
use walrus_client::Role;
use walrus_client::net::Conditions;

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

/// Sources of the values that do not come from the file.
#[derive(Serialize)]
struct Known {
    access: &'static str,
    network: &'static str,
}

/// No progress bar for a single file.
struct Unseen;

impl Watch for Unseen {
    fn known(&self, _: u64) {}
    fn seen(&self, _: u64) {}
}

impl Explain {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let shown = self.file.display();
        if !self.file.is_file() {
            return Err(format!("{shown}: this is no file; name one as it is on disk").into());
        }
        let mut found = None;
        census(&self.file, &Unseen, |one| found = Some(one))?;
        let found = found.ok_or_else(|| format!("{shown}: it cannot be looked at"))?;
        let tiers = &settings.tiers.value;
        let bounds = (settings.network.value.max_body, None);
        let analysis = (found.analysis.class, found.analysis.compressible);
        let mut facts = Facts::published(found.size, analysis, bounds, tiers);
        let preset = match settings.tiers.origin {
            Origin::Default => "default",
            _ => "config file",
        };
        let mut known = Known {
            access: preset,
            network: preset,
        };
        if let Some(of) = &self.of {
            if let Some(access) = self.access(context, &settings, of)? {
                facts.access = access;
                known.access = "measured";
            }
            if let Some(measured) = measured(context, &settings)? {
                facts.round_trip = measured.round_trip().as_secs_f64();
                known.network = "measured";
                if let Some(bandwidth) = measured.bandwidth {
                    facts.bandwidth = bandwidth as f64;
                }
            }
        }
        let verdict = choose(&facts, &tiers.weights);
        match context.json {
            true => output::json(&report(&self.file, &facts, &known, &verdict))?,
            false => print(&self.file, &facts, &known, &verdict)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Fraction of a repository's sessions that opened the file, if there were enough
    /// sessions.
    fn access(
        &self,
        context: &Context,
        settings: &Settings,
        of: &str,
    ) -> Result<Option<f64>, Failure> {
        let bytes = learned::export(context, settings, of, &self.keys)?;
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
fn in_repository(file: &Path) -> Result<PathBuf, Failure> {
    let whole = std::fs::canonicalize(file)?;
    let root = whole
        .ancestors()
        .skip(1)
        .find(|it| it.join(".git").exists());
    let inside = root.and_then(|root| whole.strip_prefix(root).ok());
    let name = || whole.file_name().map(PathBuf::from).unwrap_or_default();
    Ok(inside.map_or_else(name, Path::to_path_buf))
}

/// Link conditions of the nearest aggregator, as measured by the running daemon.
fn measured(context: &Context, settings: &Settings) -> Result<Option<Conditions>, Failure> {
    context.run(async {
        let Some(client) = Client::find(&settings.dirs).await? else {
            return Ok(None);
        };
        let networks = client.status().await?.networks;
        let name = &settings.network.value.name;
        let ours = networks.into_iter().filter(|it| it.name == *name);
        let endpoints = ours.flat_map(|it| it.health.endpoints);
        let readable = endpoints.filter(|it| it.role == Role::Aggregator);
        let conditions = readable.filter_map(|it| it.conditions);
        Ok(conditions.min_by_key(|it| it.round_trip_us))
    })
}

fn name(tier: Tier) -> &'static str {
    match tier {
        Tier::Inline => "inline",
        Tier::Chunked => "chunked",
        Tier::Walrus => "walrus",
    }
}

/// Reason for the verdict.
fn because(verdict: &Verdict) -> &'static str {
    match verdict.tier == verdict.proposed {
        true => "score",
        false => "cost",
    }
}

fn report(file: &Path, facts: &Facts, known: &Known, verdict: &Verdict) -> serde_json::Value {
    let scores = verdict.scores.iter().map(|score| {
        json!({
            "tier": name(score.tier),
            "terms": score.terms,
            "score": score.sum,
            "billed": score.billed,
            "ruled_out": score.ruled_out,
        })
    });
    json!({
        "file": file.display().to_string(),
        "facts": facts,
        "known": known,
        "tiers": scores.collect::<Vec<_>>(),
        "verdict": name(verdict.tier),
        "proposed": name(verdict.proposed),
        "because": because(verdict),
    })
}

fn print(file: &Path, facts: &Facts, known: &Known, verdict: &Verdict) -> Result<(), Failure> {
    let shrinks = if facts.shrinks {
        "shrinks"
    } else {
        "does not shrink"
    };
    output::line(&format!(
        "{}: {}, {}, {shrinks}",
        file.display(),
        output::bytes(facts.size),
        facts.class.name(),
    ))?;
    output::line(&format!(
        "  opened by {:.0} % of the sessions ({}); {:.1} ms away, {} a second ({}); blobs of {}",
        facts.access * 100.0,
        known.access,
        facts.round_trip * 1e3,
        output::bytes(facts.bandwidth as u64),
        known.network,
        output::bytes(facts.max_blob),
    ))?;
    let mut rows = vec![vec!["  term".to_owned(), "weight".into()]];
    for score in &verdict.scores {
        rows[0].push(name(score.tier).into());
    }
    for at in 0..verdict.scores[0].terms.len() {
        let term = &verdict.scores[0].terms[at];
        let mut row = vec![format!("  {}", term.term), format!("{:.2}", term.weight)];
        for score in &verdict.scores {
            let term = &score.terms[at];
            row.push(format!("{:.3} adds {:.3}", term.value, term.contribution));
        }
        rows.push(row);
    }
    let mut sums = vec!["  score".to_owned(), String::new()];
    let mut bills = vec!["  billed".to_owned(), String::new()];
    let mut out = vec![String::new(), String::new()];
    for score in &verdict.scores {
        sums.push(format!("{:.3}", score.sum));
        bills.push(output::bytes(score.billed));
        out.push(match score.ruled_out {
            None if score.tier == verdict.tier => "chosen".into(),
            None => String::new(),
            Some(RuledOut::Impossible) => "no room".into(),
            Some(RuledOut::Cost) => "costs too much".into(),
        });
    }
    rows.extend([sums, bills, out]);
    output::table(&rows)?;
    output::line(&match because(verdict) {
        "cost" => format!(
            "  verdict: {}; {} has the better score, and would be billed noticeably more",
            name(verdict.tier),
            name(verdict.proposed)
        ),
        _ => format!("  verdict: {}", name(verdict.tier)),
    })
}
