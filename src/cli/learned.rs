//! `prefetch export` and `prefetch import`: transfer the learned profile of a repository.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::{self, Context};
use super::keys::Keys;
use super::{Failure, output};
use crate::config::Settings;
use crate::daemon::{Client, Imported, Subject};
use crate::prefetch::{import, learned};
use walgit_format::Address;
use walgit_prefetch::model::Limits;
use walgit_prefetch::{MAX_PROFILE, Profile};

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
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        if self.output.is_none() && (context.json || std::io::stdout().is_terminal()) {
            return Err("a profile is no text; say where it is to go with --output FILE".into());
        }
        let settings = context.settings()?;
        let profile = export(context, &settings, &self.subject, &self.keys)?;
        let Some(path) = self.output else {
            std::io::stdout().lock().write_all(&profile)?;
            return Ok(ExitCode::SUCCESS);
        };
        (context.write_output(&path, &profile))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let transitions = Profile::decode(&profile, Limits::default())?
            .model
            .transitions();
        let shown = path.display();
        match context.json {
            true => output::json(&json!({
                "file": shown.to_string(),
                "bytes": profile.len(),
                "transitions": transitions,
            }))?,
            false => output::line(&format!(
                "{shown}: {transitions} transitions in {}",
                output::bytes(profile.len() as u64)
            ))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Import {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let (profile, bytes) = read(&self.file)?;
        let client = context.run(async { Ok(Client::find(&settings.dirs).await?) })?;
        let done = match client {
            Some(client) => {
                let subject = subject(context, &settings, &client, &self.subject, &self.keys)?;
                let replace = self.replace;
                context.run(async { Ok(client.import(subject, &bytes, replace).await?) })?
            }
            None => {
                let address = address(&self.subject)?;
                let cache = context::own_cache(&settings)?;
                let loader = context::loader(&cache);
                let open = context::open(&settings, &loader, &address, &self.keys);
                let repository = context.run(open)?;
                let identity = context::source(&settings, &address).identity();
                let profile = import(&repository, &identity, profile, self.replace);
                Imported::new(identity, &profile, 0)
            }
        };
        if context.json {
            output::json(&done)?;
        } else {
            let used = match done.mounts {
                0 => "the next mount uses it",
                _ => "its mounts use it from now on",
            };
            output::line(&format!(
                "{}: {} transitions between {} paths are known; {used}",
                done.identity, done.transitions, done.paths
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Profile of a subject, from the process that has the cache open.
pub(super) fn export(
    context: &Context,
    settings: &Settings,
    subject_: &str,
    keys: &Keys,
) -> Result<Vec<u8>, Failure> {
    let client = context.run(async { Ok(Client::find(&settings.dirs).await?) })?;
    if let Some(client) = client {
        let subject = subject(context, settings, &client, subject_, keys)?;
        return context.run(async { Ok(client.export(&subject).await?) });
    }
    let address = address(subject_)?;
    let cache = context::own_cache(settings)?;
    let loader = context::loader(&cache);
    let repository = context.run(context::open(settings, &loader, &address, keys))?;
    let identity = context::source(settings, &address).identity();
    let profile = learned(&repository, &identity);
    let profile = profile.filter(|profile| profile.model.transitions() > 0);
    let why =
        || format!("nothing has been learned about {identity} yet; mount it and use it first");
    Ok(profile.ok_or_else(why)?.encode())
}

/// Reads a file that `prefetch export` wrote.
pub(super) fn read(path: &Path) -> Result<(Profile, Vec<u8>), Failure> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(|error| named(&error))?;
    let mut bytes = Vec::new();
    // One extra byte detects a file that is too long.
    let most = MAX_PROFILE as u64 + 1;
    let read = file.take(most).read_to_end(&mut bytes);
    read.map_err(|error| named(&error))?;
    let profile = Profile::decode(&bytes, Limits::default()).map_err(|error| named(&error))?;
    Ok((profile, bytes))
}

/// A mountpoint, or a repository.
fn subject(
    context: &Context,
    settings: &Settings,
    client: &Client,
    text: &str,
    keys: &Keys,
) -> Result<Subject, Failure> {
    let status = context.run(async { Ok(client.status().await?) })?;
    let dir = std::fs::canonicalize(text).unwrap_or_default();
    let mut mounts = status.mounts.iter();
    if mounts.any(|mount| Path::new(&mount.mountpoint) == dir) {
        return Ok(Subject::Mount(dir));
    }
    Ok(Subject::Repository {
        source: context::source(settings, &address(text)?),
        network: Box::new(settings.network.value.clone()),
        keys: keys.load(settings)?,
    })
}

fn address(text: &str) -> Result<Address, Failure> {
    let parsed = text.parse();
    parsed.map_err(|error| format!("{text}: nothing is mounted there, and {error}").into())
}
