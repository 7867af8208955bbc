//! `prefetch`: transfers learned profiles, and replays recorded sessions.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::{self, Context};
use super::keys::Keys;
use super::learned::{Export, Import};
use super::{Failure, output};
use walgit_format::Address;
use walgit_prefetch::replay::{self, Report, Setting};

/// Export and import the learned order of file opens
#[derive(Debug, Args)]
pub(super) struct Prefetch {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Export(Export),
    Import(Import),
}

/// Replay recorded sessions over a simulated link, with and without prefetching
///
/// Each session starts with an empty cache and the profile learned from the sessions
/// before it. Reports how long tasks waited, and the unused prefetches.
#[derive(Debug, Args)]
#[command(after_help = FORMAT)]
pub(super) struct Replay {
    /// All files of the tree in pack order [default: the files in the traces, in walk
    /// order]
    #[arg(long, value_name = "TREE.tsv")]
    tree: Option<PathBuf>,
    /// Round-trip time of the link in milliseconds
    #[arg(long, value_name = "MS", default_value = "50", value_parser = between::<0, 60_000>)]
    rtt_ms: f64,
    /// Bandwidth of the link in Mbit/s
    #[arg(long, value_name = "MBIT", default_value = "100", value_parser = above_0)]
    mbit: f64,
    /// Stored bytes per byte of file content
    #[arg(long, value_name = "RATIO", default_value = "0.28", value_parser = between::<0, 100>)]
    stored_ratio: f64,
    /// Start with the data that this repository ships for new users: files that changed
    /// together, and its published profile
    #[arg(long, value_name = "ADDRESS")]
    repository: Option<Address>,
    #[command(flatten)]
    keys: Keys,
    /// Recorded sessions, in chronological order
    #[arg(required = true, value_name = "TRACE.tsv")]
    traces: Vec<PathBuf>,
}

const FORMAT: &str = "\
A trace has a line an open: seconds since the first, number of the task, path,
size in bytes. A tree has a line a file: path, size in bytes. Tabs in between.";

impl Prefetch {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match self.action {
            Action::Export(export) => export.run(context),
            Action::Import(import) => import.run(context),
        }
    }
}

impl Replay {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let tree = match &self.tree {
            Some(path) => Some(replay::read_tree(path)?),
            None => None,
        };
        let mut sessions = Vec::new();
        for path in &self.traces {
            let name = path.display().to_string();
            sessions.push((name, replay::read_trace(path)?));
        }
        let setting = Setting {
            rtt: self.rtt_ms / 1e3,
            rate: self.mbit * 1e6 / 8.0,
            stored_ratio: self.stored_ratio,
        };
        let known = match &self.repository {
            Some(address) => self.carried(context, address)?,
            None => replay::Known::default(),
        };
        let reports = replay::replay(tree.as_deref(), &sessions, setting, known)?;
        if context.json {
            output::json(&json!({
                "rtt_ms": self.rtt_ms,
                "mbit": self.mbit,
                "stored_ratio": self.stored_ratio,
                "sessions": reports,
            }))?;
        } else {
            output::table(&table(&reports))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Replay {
    /// Prefetch data that a repository ships.
    fn carried(&self, context: &Context, address: &Address) -> Result<replay::Known, Failure> {
        let settings = context.settings()?;
        let cache = context::cache(&settings)?;
        let loader = context::loader(&cache);
        context.run(async {
            let repository = context::open(&settings, &loader, address, &self.keys).await?;
            Ok(crate::prefetch::carried(&repository).await)
        })
    }
}

fn table(reports: &[Report]) -> Vec<Vec<String>> {
    let heads = [
        "FILES", "WITHOUT", "WITH", "RATIO", "USEFUL", "WASTED", "RATIO", "AHEAD", "RIGHT", "TRACE",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let part = |part: Option<f64>| part.map_or("-".to_owned(), |part| format!("{part:.2}"));
    for report in reports {
        rows.push(vec![
            report.files.to_string(),
            format!("{:.2} s", report.stall_without_s),
            format!("{:.2} s", report.stall_with_s),
            format!("{:.3}", report.stall_ratio),
            output::bytes(report.useful_bytes),
            output::bytes(report.wasted_bytes),
            part(report.waste_ratio),
            report.files_ahead.to_string(),
            part(report.precision),
            report.trace.clone(),
        ]);
    }
    rows
}

fn between<const LEAST: u32, const MOST: u32>(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (f64::from(LEAST)..=f64::from(MOST)).contains(&value) {
        true => Ok(value),
        false => Err(format!("must be from {LEAST} to {MOST}")),
    }
}

fn above_0(text: &str) -> Result<f64, String> {
    let value = between::<0, 1_000_000>(text)?;
    match value > 0.0 {
        true => Ok(value),
        false => Err("must be above 0".to_owned()),
    }
}
