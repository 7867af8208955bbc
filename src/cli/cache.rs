//! `cache`: look at the page cache, empty it, check it.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::{self, Context};
use super::{Failure, output};
use crate::cache::{CacheStats, Keep, VerifyReport};
use crate::daemon::Client;

/// Show, empty or check the page cache
#[derive(Debug, Args)]
pub(super) struct Cache {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How much it holds, and how often it helped since the daemon started
    Stats,
    /// Forget everything; what is needed is fetched again
    Clear {
        /// Keep what was learned about the order in which files are opened
        #[arg(long)]
        keep_learned: bool,
    },
    /// Re-hash every entry and drop what is damaged
    Verify,
}

impl Cache {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let client = context.run(async { Ok(Client::connect(&settings.dirs).await) })?;
        // Without a daemon nobody else has the cache open.
        let own = match &client {
            Some(_) => None,
            None => Some(context::cache(&settings)?.cache),
        };
        match self.action {
            Action::Stats => {
                let stats = match (&client, &own) {
                    (Some(client), _) => context.run(async { Ok(client.status().await?.cache) })?,
                    (None, Some(cache)) => cache.stats(),
                    (None, None) => CacheStats::default(),
                };
                show(context, &stats)?;
            }
            Action::Clear { keep_learned } => {
                let keep = match keep_learned {
                    true => Keep::Learned,
                    false => Keep::Nothing,
                };
                match (&client, &own) {
                    (Some(client), _) => {
                        context.run(async { Ok(client.clear_cache(keep).await?) })?;
                    }
                    (None, Some(cache)) => cache.clear(keep)?,
                    (None, None) => {}
                }
                match context.json {
                    true => output::json(&json!({"cleared": true}))?,
                    false => output::line("the cache is empty")?,
                }
            }
            Action::Verify => {
                let report = match (&client, &own) {
                    (Some(client), _) => context.run(async { Ok(client.verify_cache().await?) })?,
                    (None, Some(cache)) => {
                        let bar = output::count_bar("verifying");
                        let report = cache.verify(|done, total| {
                            bar.set_length(total);
                            bar.set_position(done);
                        });
                        bar.finish_and_clear();
                        report?
                    }
                    (None, None) => VerifyReport::default(),
                };
                match context.json {
                    true => output::json(&report)?,
                    false => output::line(&format!(
                        "{} entries are right, {} were damaged and dropped",
                        report.good, report.dropped
                    ))?,
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(context: &Context, stats: &CacheStats) -> Result<(), Failure> {
    if context.json {
        return output::json(stats);
    }
    let row = |key: &str, value: String| vec![key.into(), value];
    let of = |bytes, budget| format!("{} of {}", output::bytes(bytes), output::bytes(budget));
    output::table(&[
        row(
            "disk",
            format!(
                "{} in {} entries ({} of files)",
                of(stats.disk_bytes, stats.disk_budget),
                stats.disk_entries,
                output::bytes(stats.disk_real_bytes)
            ),
        ),
        row("memory", of(stats.memory_bytes, stats.memory_budget)),
        row(
            "hits",
            format!("{} memory, {} disk", stats.memory_hits, stats.disk_hits),
        ),
        row("misses", stats.misses.to_string()),
        row("evicted", stats.evictions.to_string()),
        row("damaged", stats.corrupt_dropped.to_string()),
    ])
}
