//! `cache`: shows, fills, pins, clears and checks the page cache.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::{self, Context};
use super::{Failure, output};
use crate::cache::{self, CacheError, CacheStats, ClearScope, Pin, VerifyReport};
use crate::config::Settings;
use crate::daemon::{Client, no_pin};

/// Show, fill, clear or check the page cache
#[derive(Debug, Args)]
pub(super) struct Cache {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show its size, and its hit rate since the daemon started
    Stats,
    /// Prefetch files and folders of a mount
    Warm {
        /// Files or folders in a mount
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Prefetch files and folders of a mount, and keep them until they are unpinned
    ///
    /// Pinned content stays readable without a network and is exempt from eviction. Pins
    /// apply to the mounted commit and may take up to four fifths of the cache.
    Pin {
        /// Files or folders in a mount
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Unpin files and folders
    Unpin {
        /// Files or folders in a mount, or names as `cache pins` shows them
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// List pins, and how much of each is in the cache
    Pins,
    /// Remove everything, including pins; content is fetched again on demand
    Clear {
        /// Keep the learned order of file opens
        #[arg(long)]
        keep_learned: bool,
    },
    /// Re-hash every entry and remove damaged ones
    Verify,
}

/// Process that has the user's cache open.
enum Holder {
    /// The user's daemon.
    Daemon(Client),
    /// This command; no daemon is running.
    Own(Arc<cache::Cache>),
}

impl Cache {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let client = context.run(async { Ok(Client::find(&settings.dirs).await?) })?;
        let holder = match (client, &self.action) {
            (Some(client), _) => Holder::Daemon(client),
            (None, Action::Warm { .. } | Action::Pin { .. }) => {
                return Err("nothing is mounted; mount the repository first".into());
            }
            (
                None,
                Action::Clear {
                    keep_learned: false,
                },
            ) => {
                clear_own(&settings)?;
                return cleared(context);
            }
            (None, _) => Holder::Own(context::own_cache(&settings)?.cache),
        };
        match self.action {
            Action::Warm { paths } => return warm(context, &holder, &paths, false),
            Action::Pin { paths } => return warm(context, &holder, &paths, true),
            Action::Unpin { paths } => {
                for path in paths {
                    let name = unpin(context, &holder, path)?;
                    if context.json {
                        output::json(&json!({"unpinned": name}))?;
                    } else {
                        output::line(&format!("{name} is no longer pinned"))?;
                    }
                }
            }
            Action::Pins => {
                let pins = match &holder {
                    Holder::Daemon(client) => context.run(async { Ok(client.pins().await?) })?,
                    Holder::Own(cache) => cache.pins()?,
                };
                show_pins(context, &pins)?;
            }
            Action::Stats => {
                let stats = match &holder {
                    Holder::Daemon(client) => {
                        context.run(async { Ok(client.status().await?.cache) })?
                    }
                    Holder::Own(cache) => cache.stats(),
                };
                show(context, &stats)?;
            }
            Action::Clear { keep_learned } => {
                let keep = if keep_learned {
                    ClearScope::Learned
                } else {
                    ClearScope::Nothing
                };
                match &holder {
                    Holder::Daemon(client) => {
                        context.run(async { Ok(client.clear_cache(keep).await?) })?;
                    }
                    Holder::Own(cache) => cache.clear(keep)?,
                }
                return cleared(context);
            }
            Action::Verify => {
                let report = match &holder {
                    Holder::Daemon(client) => {
                        context.run(async { Ok(client.verify_cache().await?) })?
                    }
                    Holder::Own(cache) => verify(cache)?,
                };
                if context.json {
                    output::json(&report)?;
                } else {
                    output::line(&format!(
                        "{} entries are right, {} were damaged and dropped",
                        report.good, report.dropped
                    ))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn unpin(context: &Context, holder: &Holder, path: PathBuf) -> Result<String, Failure> {
    match holder {
        Holder::Daemon(client) => {
            let path = std::fs::canonicalize(&path).unwrap_or(path);
            context.run(async { Ok(client.unpin(&path).await?) })
        }
        Holder::Own(cache) => {
            let name = path.to_string_lossy().into_owned();
            if cache.unpin(&name)? {
                Ok(name)
            } else {
                Err(no_pin(&name, &cache.pins()?).into())
            }
        }
    }
}

/// Clears the cache when no daemon has it open. A cache that cannot be opened, on a full
/// disk for example, is removed.
fn clear_own(settings: &Settings) -> Result<(), Failure> {
    match context::own_cache(settings) {
        Ok(own) => Ok(own.cache.clear(ClearScope::Nothing)?),
        Err(error) => match error.downcast_ref() {
            Some(CacheError::Open { .. }) => Ok(context::erase_cache(settings)?),
            _ => Err(error),
        },
    }
}

fn cleared(context: &Context) -> Result<ExitCode, Failure> {
    if context.json {
        output::json(&json!({"cleared": true}))?;
    } else {
        output::line("the cache is empty")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(cache: &Arc<cache::Cache>) -> Result<VerifyReport, Failure> {
    // This may take minutes; other processes must not wait for it.
    cache.hand_over_when_wanted();
    let bar = output::count_bar("verifying");
    let report = cache.verify(|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(report?)
}

/// Prefetches files and folders of mounts.
fn warm(
    context: &Context,
    holder: &Holder,
    paths: &[PathBuf],
    pin: bool,
) -> Result<ExitCode, Failure> {
    let Holder::Daemon(client) = holder else {
        return Err("nothing is mounted; mount the repository first".into());
    };
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
