//! `cache`: shows, fills, pins, clears and checks the page cache.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::open_cache::OpenCache;
use super::output;
use super::progress::{byte_bar, count_bar};
use crate::cache::{Cache as PageCache, CacheError, CacheStats, ClearScope, VerifyReport};
use crate::config::Settings;
use crate::daemon::{Client, no_pin};

/// Show, fill, clear or check the page cache
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Cache {
    #[command(subcommand)]
    action: CacheAction,
}

const EXAMPLES: &str = "\
Examples:
  walgit-fs cache stats              budgets, sizes and hit rates
  walgit-fs cache warm ~/mnt/repo    fetch everything now
  walgit-fs cache pin ~/mnt/repo/docs
                                     keep a folder readable without a network";

#[derive(Debug, Subcommand)]
enum CacheAction {
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
enum CacheOwner {
    Daemon(Client),
    /// This command; no daemon is running.
    Command(OpenCache),
}

impl Cache {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let settings = context.settings()?;
        let daemon = context.daemon(&settings)?;
        let owner = |daemon| CacheOwner::of(daemon, &settings);
        match self.action {
            CacheAction::Warm { paths } => return warm(context, daemon, &paths, false),
            CacheAction::Pin { paths } => return warm(context, daemon, &paths, true),
            CacheAction::Unpin { paths } => {
                let owner = owner(daemon)?;
                for path in paths {
                    let name = owner.unpin(context, path)?;
                    let report = json!({"unpinned": name});
                    context.report(&report, || outln!("{name} is no longer pinned"))?;
                }
            }
            CacheAction::Pins => {
                let pins = owner(daemon)?.ask(context, Client::pins, |cache| Ok(cache.pins()?))?;
                context.report(&pins, || {
                    if pins.is_empty() {
                        return outln!("nothing is pinned");
                    }
                    output::table(pins.iter().map(output::pin))
                })?;
            }
            CacheAction::Stats => {
                let status =
                    async |client: &Client| client.status().await.map(|status| status.cache);
                let stats = owner(daemon)?.ask(context, status, |cache| Ok(cache.stats()))?;
                context.report(&stats, || print_stats(&stats))?;
            }
            CacheAction::Clear { keep_learned } => {
                if daemon.is_none() && !keep_learned {
                    clear_without_daemon(&settings)?;
                } else {
                    let scope = if keep_learned {
                        ClearScope::Learned
                    } else {
                        ClearScope::Nothing
                    };
                    let clear = async |client: &Client| client.clear_cache(scope).await;
                    owner(daemon)?.ask(context, clear, |cache| Ok(cache.clear(scope)?))?;
                }
                context.report(&json!({"cleared": true}), || outln!("the cache is empty"))?;
            }
            CacheAction::Verify => {
                let report = owner(daemon)?.ask(context, Client::verify_cache, verify)?;
                context.report(&report, || {
                    outln!(
                        "{} entries are intact, {} were damaged and are dropped",
                        report.good,
                        report.dropped
                    )
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl CacheOwner {
    fn of(daemon: Option<Client>, settings: &Settings) -> Result<Self> {
        match daemon {
            Some(client) => Ok(CacheOwner::Daemon(client)),
            None => Ok(CacheOwner::Command(OpenCache::exclusive(settings)?)),
        }
    }

    /// Runs `with_daemon` or `here`, depending on the process that has the cache open.
    fn ask<T, E>(
        &self,
        context: &Context,
        with_daemon: impl AsyncFnOnce(&Client) -> Result<T, E>,
        here: impl FnOnce(&Arc<PageCache>) -> Result<T>,
    ) -> Result<T>
    where
        anyhow::Error: From<E>,
    {
        match self {
            CacheOwner::Daemon(client) => context.wait(with_daemon(client)),
            CacheOwner::Command(own) => here(&own.cache),
        }
    }

    fn unpin(&self, context: &Context, path: PathBuf) -> Result<String> {
        match self {
            CacheOwner::Daemon(client) => {
                let path = std::fs::canonicalize(&path).unwrap_or(path);
                context.wait(client.unpin(&path))
            }
            CacheOwner::Command(own) => {
                let name = path.to_string_lossy().into_owned();
                if own.cache.unpin(&name)? {
                    return Ok(name);
                }
                Err(anyhow!(no_pin(&name, &own.cache.pins()?)))
            }
        }
    }
}

/// Clears the cache when no daemon has it open. A cache that cannot be opened, on a full
/// disk for example, is removed.
fn clear_without_daemon(settings: &Settings) -> Result<()> {
    match OpenCache::exclusive(settings) {
        Ok(own) => Ok(own.cache.clear(ClearScope::Nothing)?),
        Err(error) => match error.downcast_ref() {
            Some(CacheError::Open { .. }) => Ok(OpenCache::erase(settings)?),
            _ => Err(error),
        },
    }
}

fn verify(cache: &Arc<PageCache>) -> Result<VerifyReport> {
    // This may take minutes; other processes must not wait for it.
    cache.hand_over_when_wanted();
    let bar = count_bar("verifying");
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
    daemon: Option<Client>,
    paths: &[PathBuf],
    pin: bool,
) -> Result<ExitCode> {
    let client = daemon.context("nothing is mounted; mount the repository first")?;
    let mut complete = true;
    for path in paths {
        let absolute = std::fs::canonicalize(path).with_context(|| path.display().to_string())?;
        let bar = byte_bar(if pin { "pinning" } else { "fetching" });
        let done = context.wait(client.warm_cache(&absolute, pin, |cached, total| {
            bar.set_length(total);
            bar.set_position(cached);
        }));
        bar.finish_and_clear();
        match done {
            Ok(warmed) => context.report(&warmed, || {
                outln!(
                    "{} is {}: {} files and directories, {}; {} were fetched",
                    path.display(),
                    if pin { "pinned" } else { "in the cache" },
                    warmed.nodes,
                    output::bytes(warmed.bytes),
                    output::bytes(warmed.fetched)
                )
            })?,
            Err(error) => {
                output::error(error.as_ref());
                complete = false;
            }
        }
    }
    Ok(output::exit_code(complete))
}

fn print_stats(stats: &CacheStats) -> Result<()> {
    let of = |bytes, budget| format!("{} of {}", output::bytes(bytes), output::bytes(budget));
    let disk = format!(
        "{} in {} entries ({} of files)",
        of(stats.disk_bytes, stats.disk_budget),
        stats.disk_entries,
        output::bytes(stats.disk_real_bytes)
    );
    let hits = format!("{} memory, {} disk", stats.memory_hits, stats.disk_hits);
    let rows = [
        ("disk", disk),
        ("memory", of(stats.memory_bytes, stats.memory_budget)),
        ("hits", hits),
        ("misses", stats.misses.to_string()),
        ("evicted", stats.evictions.to_string()),
        ("damaged", stats.corrupt_dropped.to_string()),
    ];
    output::table(rows.map(|(name, value)| [name.to_owned(), value]))
}
