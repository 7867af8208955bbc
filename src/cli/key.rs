//! `key`: manages stored keys of encrypted repositories.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::args::{parse_key, read_key, stored_keys, warn_of_key_file};
use super::context::Context;
use super::{output, secrets};
use crate::config::Settings;
use crate::repo::refs::{NamedRef, RefStore};
use walrus_client::auth::{KeyAddition, KeyringError, ReplacedKey, SecretLocation};

/// Manage keys of encrypted repositories
///
/// Keys are stored in the system keyring. Without a keyring, they are stored in a sealed
/// file that only you can read, and the command reports it. Every mount tries them.
#[derive(Debug, Args)]
pub(super) struct Key {
    #[command(subcommand)]
    action: KeyAction,
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// Store a key: 32 bytes, raw, hex or base64
    Add {
        /// Name of the key
        name: String,
        /// File to read the key from [default: standard input]
        file: Option<PathBuf>,
        /// Replace an existing key of this name, which is kept as NAME.replaced
        #[arg(long)]
        replace: bool,
    },
    /// List the names of stored keys
    List,
    /// Print a key as 64 hexadecimal digits, as a backup or to share access
    Show {
        /// Name of the key
        name: String,
        /// Write it to a new file that only you can read
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace an existing file
        #[arg(long, requires = "output")]
        replace: bool,
    },
    /// Delete a key; content encrypted with it becomes unreadable without another copy
    Remove {
        /// Name of the key
        name: String,
        /// Do not ask for confirmation, even if published names need it
        #[arg(long)]
        force: bool,
    },
}

impl Key {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let keys = stored_keys(&settings);
        match self.action {
            KeyAction::Add {
                name,
                file,
                replace,
            } => add(context, &settings, &name, file.as_deref(), replace),
            KeyAction::List => {
                let list = keys.list()?;
                context.report(&list, || {
                    if list.is_empty() {
                        errln!("no keys yet; walgit-fs key add NAME FILE stores one");
                    }
                    output::table(
                        list.iter()
                            .map(|(name, location)| [name.clone(), location.to_string()]),
                    )
                })
            }
            KeyAction::Show {
                name,
                output: Some(file),
                replace,
            } => {
                let hex = keys.named(&name)?.to_hex();
                secrets::write(&file, format!("{}\n", *hex).into(), replace)?;
                let shown = file.display().to_string();
                context.report(&json!({"name": name, "file": shown}), || {
                    outln!("key {name} is in {shown}, which only you can read")
                })
            }
            KeyAction::Show { name, .. } => {
                let hex = keys.named(&name)?.to_hex();
                secrets::warn_of_open_output(&format!("walgit-fs key show {name} -o FILE"));
                if context.json {
                    output::json(&json!({"name": name, "key": *hex}))
                } else {
                    output::line(&hex)
                }
            }
            KeyAction::Remove { name, force } => {
                if !force {
                    confirm_removal(&settings, &name)?;
                }
                keys.remove(&name)?;
                if context.json {
                    return Ok(());
                }
                outln!("key {name} is deleted")
            }
        }
    }
}

fn add(
    context: &Context,
    settings: &Settings,
    name: &str,
    file: Option<&Path>,
    replace: bool,
) -> Result<()> {
    let key = match file {
        Some(file) => read_key(file)?,
        None => {
            if std::io::stdin().is_terminal() {
                errln!("type or paste the key, then Enter and Ctrl-D");
            }
            parse_key(std::io::stdin()).context("standard input")?
        }
    };
    let (stored, replaced) = match stored_keys(settings).add(name, &key, replace)? {
        KeyAddition::Already(location) => {
            let report = json!({"name": name, "kept": location, "unchanged": true});
            return context.report(&report, || {
                outln!("key {name} is already stored in {location}")
            });
        }
        KeyAddition::Stored(stored, replaced) => (stored, replaced),
    };
    let location = stored.location;
    let former = match &replaced {
        Some(ReplacedKey::RenamedTo(former)) => Some(former),
        _ => None,
    };
    context.report(
        &json!({"name": name, "kept": location, "replaced": former}),
        || outln!("key {name} is stored in {location}"),
    )?;
    match (former, &replaced) {
        (Some(former), _) => errln!(
            "the former key {name} is now called {former}; walgit-fs key remove {former} deletes it"
        ),
        (None, Some(_)) => warning!("the former key {name} was damaged, and is deleted"),
        (None, None) => {}
    }
    if location == SecretLocation::File {
        let why = stored.keyring.unwrap_or(KeyringError::NoEntry);
        warn_of_key_file(settings, &why);
    }
    Ok(())
}

/// Asks for confirmation before deleting a key that published names need.
fn confirm_removal(settings: &Settings, name: &str) -> Result<()> {
    let keys = stored_keys(settings);
    let others = keys.list()?;
    if let Ok(Some(key)) = keys.get(name) {
        // With a second copy, nothing is lost.
        let is_copy = |other: &String| keys.get(other).is_ok_and(|it| it.as_ref() == Some(&key));
        if others.keys().any(|other| other != name && is_copy(other)) {
            return Ok(());
        }
    } else if !others.contains_key(name) {
        // The removal itself reports an unknown name.
        return Ok(());
    }
    let needed = needed_by(settings, name)?;
    if needed.is_empty() {
        return Ok(());
    }
    let what = format!("key {name} is needed by {}", needed.join(", "));
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        bail!(
            "{what}, which cannot be read without it; keep a copy with walgit-fs key show {name} \
             -o FILE, then add --force"
        );
    }
    errln!("{what}, which cannot be read without it.");
    errln!("Type the name of the key to delete it ({name}):");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() != name {
        bail!("key {name} is not deleted");
    }
    Ok(())
}

/// Names on all networks that were published with the key called `key`, or may have been:
/// the key may have been renamed since.
fn needed_by(settings: &Settings, key: &str) -> Result<Vec<String>> {
    let stored = stored_keys(settings).list()?;
    let may_need = |named: &NamedRef| {
        let wanted = named.key.as_ref();
        wanted.is_some_and(|wanted| wanted == key || !stored.contains_key(wanted))
    };
    let refs = settings.dirs.data.join("refs");
    let shown = || refs.display().to_string();
    let networks = match std::fs::read_dir(&refs) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        networks => networks.with_context(shown)?,
    };
    let mut needed = Vec::new();
    for network in networks {
        let dir = network.with_context(shown)?.path();
        if !dir.is_dir() {
            continue;
        }
        let network = dir.file_name().unwrap_or_default().display();
        for (name, named) in RefStore::new(&dir).list_all()? {
            // The key of a damaged entry is unknown.
            if named.is_err() || named.is_ok_and(|named| may_need(&named)) {
                needed.push(format!("{name} ({network})"));
            }
        }
    }
    needed.sort();
    Ok(needed)
}
