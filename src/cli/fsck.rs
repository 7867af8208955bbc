//! `fsck`: checks that everything that a repository needs is stored and intact.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::args::Keys;
use super::context::Context;
use super::open_cache::OpenCache;
use super::output;
use super::progress::{FsckBar, byte_bar};
use super::session::Session;
use crate::lifecycle::fsck::{
    FsckOptions, FsckReport, HistoryCheck, HistorySummary, ReadScope, check,
};
use crate::publish::Published;
use crate::repo::{Access, Loader};
use walgit_format::Address;
use walrus_client::network::NetworkPlace;

/// Maximum number of lines about unreadable files.
const MAX_LINES: usize = 20;

/// Check that everything a repository needs is stored and intact
///
/// Reads all directories and chunk lists, and decodes the commits, trees and tags of the
/// history. Verifies content that is in the cache; for the rest, checks that its blobs
/// are stored. With --remote, bypasses the cache, reads all content and verifies its
/// hashes; the network `local` always does so.
///
/// A hash proves that bytes are those that were published, not that they match their git
/// IDs. With --objects, every commit, tree, tag and file of the history is rebuilt,
/// hashed and compared with its git ID, and the mounted trees are compared with those of
/// the history. This reads all content and takes about as long as an export; it needs
/// some 100 bytes of memory for each object.
///
/// Lists the files that each problem affects, and exits with code 1.
#[derive(Debug, Args)]
pub(super) struct Fsck {
    /// Repository to check
    address: Address,
    /// Bypass the cache and read everything from the network
    #[arg(long)]
    remote: bool,
    /// Read only this many randomly picked chunks of content from the network
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Verify the git ID of every object of the history; reads all content
    #[arg(long, conflicts_with = "sample")]
    objects: bool,
    #[command(flatten)]
    keys: Keys,
}

#[derive(Serialize)]
struct FsckOutput<'a> {
    address: String,
    network: &'a str,
    sound: bool,
    remote: bool,
    sample: Option<u32>,
    objects: bool,
    report: &'a FsckReport,
}

impl Fsck {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let settings = context.settings()?;
        let network = &settings.network.value;
        let local = matches!(network.place, NetworkPlace::Local { .. });
        let remote = self.remote || self.sample.is_some() || local;
        let cache = if remote {
            OpenCache::private(&settings)?
        } else {
            OpenCache::shared(&settings)?
        };
        let session = Session::over(cache, &settings, &self.keys);
        let options = FsckOptions {
            history: if self.objects {
                HistoryCheck::Hashed
            } else {
                HistoryCheck::Decoded
            },
            seed: seed(),
            margin: settings.renewal.value.margin,
            ..FsckOptions::reading(match self.sample {
                Some(sample) => ReadScope::Sample(sample as usize),
                None if remote || self.objects => ReadScope::Everything,
                None => ReadScope::Nothing,
            })
        };
        let bar = FsckBar(byte_bar("checking"));
        let done = context.run(async {
            let repository = session.open(&self.address).await?;
            Ok(check(&repository, &options, &bar).await?)
        });
        bar.0.finish_and_clear();
        let report = done?;
        let result = FsckOutput {
            address: self.address.to_string(),
            network: &network.name,
            sound: report.is_sound(),
            remote,
            sample: self.sample,
            objects: self.objects,
            report: &report,
        };
        context.report(&result, || print(&result.address, &report))?;
        Ok(output::exit_code(report.is_sound()))
    }
}

/// Returns a value that differs on every call.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos() as u64)
}

/// Reads back and checks a head that was just stored.
pub(super) async fn verify(
    published: &Published,
    loader: &Arc<Loader>,
    access: Access,
    bar: &ProgressBar,
) -> Result<FsckReport> {
    let root = Some(published.root);
    let repository = loader.open(access, published.blob, root).await?;
    let bar = FsckBar(bar.clone());
    bar.0.set_message("reading back");
    bar.0.set_length(0);
    bar.0.set_position(0);
    let blobs = published.blobs.iter().map(|stored| stored.blob);
    Ok(check(&repository, &FsckOptions::of_blobs(blobs), &bar).await?)
}

fn print(address: &str, report: &FsckReport) -> Result<()> {
    let state = if report.is_sound() {
        "sound"
    } else {
        "DAMAGED"
    };
    outln!("{address}: {state}")?;
    let needs = format!(
        "{} blobs, {} directories, lists and groups of git objects, {} chunks of content ({})",
        report.blobs,
        report.nodes,
        report.chunks,
        output::bytes(report.bytes)
    );
    let sound = report.sound;
    let content = match report.unread {
        0 => format!("{sound} chunks intact"),
        unread => format!("{sound} chunks intact, {unread} not read: their blobs are stored"),
    };
    let paid = match report.paid {
        None => "the network does not report until when; see walgit-fs ledger".into(),
        Some(paid) => format!(
            "until epoch {} ends; it is {} now",
            paid.until.saturating_sub(1),
            paid.epoch
        ),
    };
    let history = report.objects.as_ref().map(|it| ("history", history(it)));
    let rows = [("needs", needs), ("content", content)];
    output::details(rows.into_iter().chain(history).chain([
        ("paid for", paid),
        ("requests", report.requests.to_string()),
    ]))?;
    if let Some(paid) = report.paid.filter(|paid| paid.ending > 0) {
        let blobs = paid.ending;
        warning!("{blobs} blobs expire soon; walgit-fs renew extends them");
    }
    print_faults(report)
}

fn history(objects: &HistorySummary) -> String {
    let HistorySummary {
        commits,
        trees,
        contents,
        tags,
        hashed,
    } = objects;
    let counts = format!("{commits} commits, {trees} trees, {contents} contents, {tags} tags: ");
    let depth = if *hashed {
        "hashed, and compared with their git IDs"
    } else {
        "commits, trees and tags decoded; --objects verifies the git ID of each"
    };
    counts + depth
}

/// Prints the problems found.
pub(super) fn print_faults(report: &FsckReport) -> Result<()> {
    let mut remedies = Vec::new();
    for fault in report.faults.iter().take(MAX_LINES) {
        outln!(
            "  {}: {} ({})",
            fault.kind.describe(),
            fault.what,
            fault.why
        )?;
        if !remedies.contains(&fault.remedy) {
            remedies.push(fault.remedy);
        }
    }
    more(report.faults.len() as u64, "faults")?;
    for affected in report.affected.iter().take(MAX_LINES) {
        outln!("  affected: {}: {}", affected.what, affected.why)?;
    }
    more(report.affected_count, "files and directories")?;
    for remedy in remedies {
        outln!("  to do: {remedy}")?;
    }
    Ok(())
}

fn more(count: u64, of: &str) -> Result<()> {
    match count.checked_sub(MAX_LINES as u64) {
        Some(more) if more > 0 => outln!("  and {more} more {of}; --json lists all"),
        _ => Ok(()),
    }
}
