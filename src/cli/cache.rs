//! `cache`: look at the page cache, fill it, keep things in it, empty it,
//! check it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::{self, Context};
use super::{Failure, output};
use crate::cache::{CacheStats, Keep, Pin, VerifyReport};
use crate::daemon::{Client, no_pin};

/// Show, fill, empty or check the page cache
#[derive(Debug, Args)]
pub(super) struct Cache {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How much it holds, and how often it helped since the daemon started
    Stats,
    /// Fetch files and folders of a mount now, so that they read at once later
    Warm {
        /// Files or folders in a mount
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Fetch files and folders of a mount, and keep them until they are unpinned
    ///
    /// What is pinned reads without a network, whatever else is read. Pins are of
    /// the commit that is mounted and may take four fifths of the cache.
    Pin {
        /// Files or folders in a mount
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Let go of what was pinned
    Unpin {
        /// Files or folders in a mount, or names as `cache pins` shows them
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// List what is pinned, and how much of it is here
    Pins,
    /// Forget everything, pins too; what is needed is fetched again
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
        let client = context.run(async { Ok(Client::find(&settings.dirs).await?) })?;
        match (&self.action, &client) {
            (Action::Warm { paths }, Some(client)) => return warm(context, client, paths, false),
            (Action::Pin { paths }, Some(client)) => return warm(context, client, paths, true),
            (Action::Warm { .. } | Action::Pin { .. }, None) => {
                return Err("nothing is mounted; mount the repository first".into());
            }
            _ => {}
        }
        // Without a daemon nobody else has the cache open.
        let own = match &client {
            Some(_) => None,
            None => Some(context::cache(&settings)?.cache),
        };
        match self.action {
            Action::Warm { .. } | Action::Pin { .. } => {}
            Action::Unpin { paths } => {
                for path in paths {
                    let name = match (&client, &own) {
                        (Some(client), _) => {
                            let path = std::fs::canonicalize(&path).unwrap_or(path);
                            context.run(async { Ok(client.unpin(&path).await?) })?
                        }
                        (None, Some(cache)) => {
                            let name = path.to_string_lossy().into_owned();
                            if !cache.unpin(&name)? {
                                return Err(no_pin(&name, &cache.pins()?).into());
                            }
                            name
                        }
                        (None, None) => continue,
                    };
                    match context.json {
                        true => output::json(&json!({"unpinned": name}))?,
                        false => output::line(&format!("{name} is no longer pinned"))?,
                    }
                }
            }
            Action::Pins => {
                let pins = match (&client, &own) {
                    (Some(client), _) => context.run(async { Ok(client.pins().await?) })?,
                    (None, Some(cache)) => cache.pins()?,
                    (None, None) => Vec::new(),
                };
                show_pins(context, &pins)?;
            }
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

/// Fetches files and folders of mounts.
fn warm(
    context: &Context,
    client: &Client,
    paths: &[PathBuf],
    pin: bool,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for path in paths {
        let bar = output::byte_bar(if pin { "pinning" } else { "fetching" });
        let absolute =
            std::fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let done = context.run(async {
            let told = client.warm_cache(&absolute, pin, |here, all| {
                bar.set_length(all);
                bar.set_position(here);
            });
            Ok(told.await?)
        });
        bar.finish_and_clear();
        match done {
            Ok(warmed) if context.json => output::json(&warmed)?,
            Ok(warmed) => output::line(&format!(
                "{} is {}: {} files and directories, {}; {} were fetched",
                path.display(),
                if pin { "pinned" } else { "in the cache" },
                warmed.nodes,
                output::bytes(warmed.bytes),
                output::bytes(warmed.fetched)
            ))?,
            Err(error) => {
                output::error(&*error);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn show_pins(context: &Context, pins: &[Pin]) -> Result<(), Failure> {
    if context.json {
        return output::json(&pins);
    }
    if pins.is_empty() {
        return output::line("nothing is pinned");
    }
    let rows: Vec<_> = pins.iter().map(|pin| output::pin(pin).into()).collect();
    output::table(&rows)
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
