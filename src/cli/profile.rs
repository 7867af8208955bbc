//! `prefetch`: exports and imports the learned profile of a repository.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use serde_json::json;

use super::args::Keys;
use super::context::{self, Context};
use super::open_cache::OpenCache;
use super::output;
use super::session::Session;
use crate::config::Settings;
use crate::daemon::{Client, ImportedProfile, ProfileTarget};
use crate::prefetch::{import_profile, load_profile};
use crate::repo::Repository;
use walgit_format::Address;
use walgit_prefetch::model::Limits;
use walgit_prefetch::{MAX_PROFILE_BYTES, Profile};

/// Export and import the learned order of file opens
#[derive(Debug, Args)]
pub(super) struct Prefetch {
    #[command(subcommand)]
    command: PrefetchCommand,
}

commands!(PrefetchCommand {
    Export(Export),
    Import(Import),
});

impl Prefetch {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        self.command.run(context)
    }
}

/// Export the learned order in which files of a repository are opened
///
/// The file contains the paths that were opened, but no content. Share it with others
/// (prefetch import), or publish it with the repository (publish --profile).
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Address, as mounted, or a mountpoint
    #[arg(value_name = "ADDRESS|DIR")]
    subject: String,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
}

/// Merge a profile learned elsewhere into that of a repository
///
/// Adds the counts of both profiles, keeping their age. Current and later mounts of the
/// repository use them immediately.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// File written by prefetch export
    file: PathBuf,
    /// Address, as it will be mounted, or a mountpoint
    #[arg(value_name = "ADDRESS|DIR")]
    subject: String,
    /// Discard the existing profile first
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    keys: Keys,
}

impl Export {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        if self.output.is_none() && (context.json || std::io::stdout().is_terminal()) {
            bail!("a profile is binary; write it to a file with --output FILE");
        }
        let settings = context.settings()?;
        let profile = export(context, &settings, &self.subject, &self.keys)?;
        let Some(path) = self.output else {
            std::io::stdout().lock().write_all(&profile)?;
            return Ok(());
        };
        let shown = path.display().to_string();
        (context.write_output(&path, &profile)).with_context(|| shown.clone())?;
        let decoded = Profile::decode(&profile, Limits::default())?;
        let transitions = decoded.model.transitions();
        let report = json!({"file": shown, "bytes": profile.len(), "transitions": transitions});
        context.report(&report, || {
            let bytes = output::bytes(profile.len() as u64);
            outln!("{shown}: {transitions} transitions in {bytes}")
        })
    }
}

impl Import {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let (profile, bytes) = read(&self.file)?;
        let done = match context.daemon(&settings)? {
            Some(client) => {
                let subject = subject(context, &settings, &client, &self.subject, &self.keys)?;
                context.wait(client.import(subject, &bytes, self.replace))?
            }
            None => {
                let address = address(&self.subject)?;
                with_repository(
                    context,
                    &settings,
                    &address,
                    &self.keys,
                    |repository, id| {
                        let profile = import_profile(repository, &id, profile, self.replace);
                        Ok(ImportedProfile::new(id, &profile, 0))
                    },
                )?
            }
        };
        context.report(&done, || {
            let used = match done.mounts {
                0 => "the next mount uses it",
                _ => "the mounts use it from now on",
            };
            outln!(
                "{}: {} transitions between {} paths are known; {used}",
                done.identity,
                done.transitions,
                done.paths
            )
        })
    }
}

/// Profile of a repository, from the process that has the cache open.
pub(super) fn export(
    context: &Context,
    settings: &Settings,
    text: &str,
    keys: &Keys,
) -> Result<Vec<u8>> {
    if let Some(client) = context.daemon(settings)? {
        let subject = subject(context, settings, &client, text, keys)?;
        return context.wait(client.export(&subject));
    }
    with_repository(
        context,
        settings,
        &address(text)?,
        keys,
        |repository, id| {
            let profile = load_profile(repository, &id);
            let profile = profile.filter(|profile| profile.model.transitions() > 0);
            let profile = profile.with_context(|| {
                format!("nothing has been learned about {id} yet; mount it and use it first")
            })?;
            Ok(profile.encode())
        },
    )
}

/// Runs `work` on a repository in the user's cache and its identity there, when no daemon
/// has the cache open.
fn with_repository<T>(
    context: &Context,
    settings: &Settings,
    address: &Address,
    keys: &Keys,
    work: impl FnOnce(&Repository, String) -> Result<T>,
) -> Result<T> {
    let session = Session::over(OpenCache::exclusive(settings)?, settings, keys);
    let repository = context.run(session.open(address))?;
    work(&repository, context::source(settings, address).identity())
}

/// Reads a file that `prefetch export` wrote.
pub(super) fn read(path: &Path) -> Result<(Profile, Vec<u8>)> {
    let shown = || path.display().to_string();
    let file = std::fs::File::open(path).with_context(shown)?;
    let mut bytes = Vec::new();
    // One extra byte detects a file that is too long.
    let max_len = MAX_PROFILE_BYTES as u64 + 1;
    (file.take(max_len).read_to_end(&mut bytes)).with_context(shown)?;
    let profile = Profile::decode(&bytes, Limits::default()).with_context(shown)?;
    Ok((profile, bytes))
}

/// A mountpoint, or a repository.
fn subject(
    context: &Context,
    settings: &Settings,
    client: &Client,
    text: &str,
    keys: &Keys,
) -> Result<ProfileTarget> {
    let status = context.wait(client.status())?;
    let dir = std::fs::canonicalize(text).unwrap_or_default();
    let mut mounts = status.mounts.iter();
    if mounts.any(|mount| Path::new(&mount.mountpoint) == dir) {
        return Ok(ProfileTarget::Mount(dir));
    }
    Ok(ProfileTarget::Repository {
        source: context::source(settings, &address(text)?),
        network: Box::new(settings.network.value.clone()),
        keys: keys.load(settings)?,
    })
}

fn address(text: &str) -> Result<Address> {
    let parsed = text.parse::<Address>();
    parsed.map_err(|error| anyhow!("{text}: nothing is mounted there, and {error}"))
}
