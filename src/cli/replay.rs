//! `debug replay`: replays recorded sessions.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::args::Keys;
use super::context::Context;
use super::output;
use super::session::Session;
use walgit_format::Address;
use walgit_prefetch::replay::{self, ReplayReport, ReplaySettings};

/// Replay recorded sessions over a simulated link, with and without prefetching
///
/// Each session starts with an empty cache and the profile learned from the sessions
/// before it. Reports how long tasks waited, and the unused prefetches.
#[derive(Debug, Args)]
#[command(after_help = TRACE_FORMAT_HELP)]
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

const TRACE_FORMAT_HELP: &str = "\
A trace has one line per open: seconds since the first, number of the task, path,
size in bytes. A tree has one line per file: path, size in bytes. Tabs separate fields.";

impl Replay {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let tree = (self.tree.as_ref())
            .map(|path| replay::read_tree(path))
            .transpose()?;
        let mut sessions = Vec::new();
        for path in &self.traces {
            let name = path.display().to_string();
            sessions.push((name, replay::read_trace(path)?));
        }
        let setting = ReplaySettings {
            rtt: self.rtt_ms / 1e3,
            rate: self.mbit * 1e6 / 8.0,
            stored_ratio: self.stored_ratio,
        };
        let known = match &self.repository {
            Some(address) => {
                let settings = context.settings()?;
                let session = Session::new(&settings, &self.keys)?;
                context.run(async {
                    let repository = session.open(address).await?;
                    Ok(crate::prefetch::initial_knowledge(&repository).await)
                })?
            }
            None => replay::InitialKnowledge::default(),
        };
        let reports = replay::replay(tree.as_deref(), &sessions, setting, known)?;
        let result = json!({
            "rtt_ms": self.rtt_ms,
            "mbit": self.mbit,
            "stored_ratio": self.stored_ratio,
            "sessions": reports,
        });
        context.report(&result, || {
            let headings = [
                "FILES", "WITHOUT", "WITH", "RATIO", "USEFUL", "WASTED", "RATIO", "AHEAD", "RIGHT",
                "TRACE",
            ];
            output::table_with_headings(headings, reports.iter().map(row))
        })
    }
}

fn row(report: &ReplayReport) -> [String; 10] {
    let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    [
        report.files.to_string(),
        format!("{:.2} s", report.stall_without_s),
        format!("{:.2} s", report.stall_with_s),
        format!("{:.3}", report.stall_ratio),
        output::bytes(report.useful_bytes),
        output::bytes(report.wasted_bytes),
        ratio(report.waste_ratio),
        report.files_ahead.to_string(),
        ratio(report.precision),
        report.trace.clone(),
    ]
}

fn between<const MIN: u32, const MAX: u32>(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !(f64::from(MIN)..=f64::from(MAX)).contains(&value) {
        return Err(format!("must be from {MIN} to {MAX}"));
    }
    Ok(value)
}

fn above_0(text: &str) -> Result<f64, String> {
    let value = between::<0, 1_000_000>(text)?;
    if value <= 0.0 {
        return Err("must be above 0".to_owned());
    }
    Ok(value)
}
