//! `fsck`: checks that everything that a repository needs is stored and intact.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::context::{self, Context, OpenCache};
use super::keys::Keys;
use super::{Failure, output};
use crate::config::Settings;
use crate::lifecycle::fsck::{Depth, Objects, Options, Read, Report, Watch, check};
use crate::publish::Published;
use crate::repo::{Access, Loader, Repository};
use walgit_format::Address;
use walrus_client::network::NetworkPlace;

/// Maximum number of lines about unreadable files.
const MOST_LINES: usize = 20;

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
struct Told<'a> {
    address: String,
    network: &'a str,
    sound: bool,
    remote: bool,
    sample: Option<u32>,
    objects: bool,
    report: &'a Report,
}

impl Fsck {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let network = &settings.network.value;
        let local = matches!(network.place, NetworkPlace::Local { .. });
        let remote = self.remote || self.sample.is_some() || local;
        let cache = match remote {
            true => context::private_cache(&settings)?,
            false => context::cache(&settings)?,
        };
        let options = Options {
            history: match self.objects {
                true => Depth::Hashed,
                false => Depth::Decoded,
            },
            seed: seed(),
            margin: settings.renewal.value.margin,
            ..Options::reading(match self.sample {
                Some(sample) => Read::Sample(sample as usize),
                None if remote || self.objects => Read::Everything,
                None => Read::Nothing,
            })
        };
        let bar = Bar(output::byte_bar("checking"));
        let done = context.run(async {
            let repository = self.open(&settings, &cache).await?;
            Ok(check(&repository, &options, &bar).await?)
        });
        bar.0.finish_and_clear();
        let report = done?;
        match context.json {
            true => output::json(&Told {
                address: self.address.to_string(),
                network: &network.name,
                sound: report.is_sound(),
                remote,
                sample: self.sample,
                objects: self.objects,
                report: &report,
            })?,
            false => print(&self.address.to_string(), &report)?,
        }
        Ok(match report.is_sound() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    async fn open(&self, settings: &Settings, cache: &OpenCache) -> Result<Repository, Failure> {
        let loader = context::loader(cache);
        context::open(settings, &loader, &self.address, &self.keys).await
    }
}

/// Returns a value that differs on every call.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos() as u64)
}

/// Shows a check as a progress bar over bytes.
pub(super) struct Bar(pub(super) ProgressBar);

impl Watch for Bar {
    fn wanted(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    fn read(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

/// Reads back and checks a head that was just stored.
pub(super) async fn verify(
    published: &Published,
    loader: &Arc<Loader>,
    access: Access,
    bar: &ProgressBar,
) -> Result<Report, Failure> {
    let root = Some(published.root);
    let repository = loader.open(access, published.blob, root).await?;
    let bar = Bar(bar.clone());
    bar.0.set_message("reading back");
    bar.0.set_length(0);
    bar.0.set_position(0);
    let blobs = published.blobs.iter().map(|stored| stored.blob);
    Ok(check(&repository, &Options::of_blobs(blobs), &bar).await?)
}

fn print(address: &str, report: &Report) -> Result<(), Failure> {
    let state = match report.is_sound() {
        true => "sound",
        false => "DAMAGED",
    };
    output::line(&format!("{address}: {state}"))?;
    let row = |key: &str, value: String| vec![format!("  {key}"), value];
    let mut rows = vec![
        row(
            "needs",
            format!(
                "{} blobs, {} directories, lists and groups of git objects, {} pieces of content \
                 ({})",
                report.blobs,
                report.nodes,
                report.chunks,
                output::bytes(report.bytes)
            ),
        ),
        row(
            "content",
            match report.unread {
                0 => format!("{} pieces right", report.sound),
                unread => format!(
                    "{} pieces right, {unread} not read: their blobs were asked for",
                    report.sound
                ),
            },
        ),
        row(
            "paid for",
            match report.paid {
                None => "the network does not tell until when; see walgit-fs ledger".into(),
                Some(paid) => format!(
                    "until epoch {} ends; it is {} now",
                    paid.until.saturating_sub(1),
                    paid.epoch
                ),
            },
        ),
        row("requests", report.requests.to_string()),
    ];
    if let Some(objects) = &report.objects {
        rows.insert(2, row("history", history(objects)));
    }
    output::table(&rows)?;
    if let Some(paid) = report.paid.filter(|paid| paid.ending > 0) {
        let blobs = paid.ending;
        output::warning(&format!(
            "{blobs} blobs end soon; walgit-fs renew pays for longer"
        ));
    }
    tell(report)
}

fn history(objects: &Objects) -> String {
    let Objects {
        commits,
        trees,
        contents,
        tags,
        hashed,
    } = objects;
    let counts = format!("{commits} commits, {trees} trees, {contents} contents, {tags} tags: ");
    let said = match hashed {
        true => "hashed, and compared with their git IDs",
        false => "commits, trees and tags decoded; --objects verifies the git ID of each",
    };
    counts + said
}

/// Prints the problems found.
pub(super) fn tell(report: &Report) -> Result<(), Failure> {
    let mut remedies = Vec::new();
    for fault in report.faults.iter().take(MOST_LINES) {
        output::line(&format!(
            "  {}: {} ({})",
            fault.kind.word(),
            fault.what,
            fault.why
        ))?;
        if !remedies.contains(&fault.remedy) {
            remedies.push(fault.remedy);
        }
    }
    more(report.faults.len() as u64, "faults")?;
    for affected in report.affected.iter().take(MOST_LINES) {
        output::line(&format!("  affected: {}: {}", affected.what, affected.why))?;
    }
    more(report.affected_count, "files and directories")?;
    for remedy in remedies {
        output::line(&format!("  to do: {remedy}"))?;
    }
    Ok(())
}

fn more(count: u64, of: &str) -> Result<(), Failure> {
    match count.checked_sub(MOST_LINES as u64) {
        Some(more) if more > 0 => output::line(&format!("  and {more} more {of}; --json tells")),
        _ => Ok(()),
    }
}
