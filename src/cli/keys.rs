//! `key`: manages stored keys of encrypted repositories; also the `--key` option.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::context::Context;
use super::{Failure, output, secrets};
use crate::config::Settings;
use crate::repo::refs::{NamedRef, RefStore};
use walgit_format::chunk::SecretKey;
use walrus_client::auth::{Added, Kept, KeyChest, KeyringError, Replaced};

/// Maximum length of a key file, in bytes.
const MAX_KEY_FILE: u64 = 4096;

/// Keys given to one command.
#[derive(Debug, Default, Args)]
pub(super) struct Keys {
    /// Key of an encrypted repository: 32 bytes, raw, hex or base64; may be
    /// repeated. Keys kept with `walgit-fs key add`, or by `publish --encrypt`,
    /// are tried too
    #[arg(long = "key", visible_alias = "dek-file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Their contents, once read: a pipe can be read only once.
    #[arg(skip)]
    read: OnceLock<Vec<SecretKey>>,
}

impl Keys {
    /// Returns these keys and the stored ones. Warns about stored keys that are
    /// unavailable: the repository may need a different key, or no key.
    pub(super) fn load(&self, settings: &Settings) -> Result<Vec<SecretKey>, Failure> {
        let mut keys = self.given()?;
        let (kept, missing) = chest(settings).all()?;
        keys.extend(kept);
        if let Some(first) = missing.first() {
            let more = match missing.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            output::warning(&format!("going on without a key{more}: {first}"));
        }
        Ok(keys)
    }

    /// Keys given to this command.
    pub(super) fn given(&self) -> Result<Vec<SecretKey>, Failure> {
        if let Some(keys) = self.read.get() {
            return Ok(keys.clone());
        }
        let keys = self.files.iter().map(|path| read(path));
        let keys: Vec<SecretKey> = keys.collect::<Result<_, _>>()?;
        Ok(self.read.get_or_init(|| keys).clone())
    }
}

/// Stored keys.
pub(super) fn chest(settings: &Settings) -> KeyChest {
    KeyChest::new(&settings.dirs.data.join("keys"))
}

/// Warns that a key is stored in a file because of the state of the keyring.
pub(super) fn warn_of_file(settings: &Settings, why: &KeyringError) {
    let dir = settings.dirs.data.join("keys");
    let dir = dir.display();
    output::warning(&match why {
        KeyringError::Silent | KeyringError::Lost | KeyringError::Taken => {
            format!("the system keyring was not used: {why}; the key lies in {dir}")
        }
        KeyringError::NoEntry | KeyringError::Refused(_) => {
            format!("there is no system keyring here; the key lies in {dir}")
        }
    });
}

fn read(path: &Path) -> Result<SecretKey, Failure> {
    let file = secrets::open(path)?;
    read_from(file).map_err(|why| format!("{}: {why}", path.display()).into())
}

fn read_from(from: impl std::io::Read) -> Result<SecretKey, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE as usize));
    from.take(MAX_KEY_FILE).read_to_end(&mut bytes)?;
    Ok(SecretKey::parse(&bytes)?)
}

/// Names on all networks that were published with the key called `key`, or may have been:
/// the key may have been renamed since.
fn needed_by(settings: &Settings, key: &str) -> Result<Vec<String>, Failure> {
    let kept = chest(settings).list()?;
    let may_need = |named: &NamedRef| {
        let wanted = named.key.as_ref();
        wanted.is_some_and(|wanted| wanted == key || !kept.contains_key(wanted))
    };
    let all = settings.dirs.data.join("refs");
    let networks = match std::fs::read_dir(&all) {
        Ok(networks) => networks,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", all.display()).into()),
    };
    let mut needed = Vec::new();
    for network in networks {
        let dir = network
            .map_err(|error| format!("{}: {error}", all.display()))?
            .path();
        let label = dir.file_name().unwrap_or_default().display().to_string();
        if !dir.is_dir() {
            continue;
        }
        for (name, named) in RefStore::new(&dir).list_all()? {
            // The key of a damaged entry is unknown.
            if named.is_err() || named.is_ok_and(|named| may_need(&named)) {
                needed.push(format!("{name} ({label})"));
            }
        }
    }
    needed.sort();
    Ok(needed)
}

/// Manage keys of encrypted repositories
///
/// Keys are stored in the system keyring. Without a keyring, they are stored in a sealed
/// file that only you can read, and the command reports it. Every mount tries them.
#[derive(Debug, Args)]
pub(super) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
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
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let chest = chest(&settings);
        match self.action {
            Action::Add {
                name,
                file,
                replace,
            } => add(context, &settings, &name, file.as_deref(), replace)?,
            Action::List => {
                let list = chest.list()?;
                if context.json {
                    output::json(&list)?;
                } else if list.is_empty() {
                    output::note("no keys yet; walgit-fs key add NAME FILE keeps one");
                } else {
                    let row = |(name, kept): (String, Kept)| vec![name, kept.to_string()];
                    output::table(&list.into_iter().map(row).collect::<Vec<_>>())?;
                }
            }
            Action::Show {
                name,
                output: Some(file),
                replace,
            } => {
                let hex = chest.named(&name)?.to_hex();
                secrets::write(&file, format!("{}\n", *hex).into(), replace)?;
                let shown = file.display();
                if context.json {
                    output::json(&json!({"name": name, "file": shown.to_string()}))?;
                } else {
                    output::line(&format!(
                        "key {name} is in {shown}, which only you can read"
                    ))?;
                }
            }
            Action::Show { name, .. } => {
                let hex = chest.named(&name)?.to_hex();
                secrets::warn_of_open_output(&format!("walgit-fs key show {name} -o FILE"));
                if context.json {
                    output::json(&json!({"name": name, "key": *hex}))?;
                } else {
                    output::line(&hex)?;
                }
            }
            Action::Remove { name, force } => {
                if !force {
                    confirm_removal(&settings, &name)?;
                }
                chest.remove(&name)?;
                if !context.json {
                    output::line(&format!("key {name} is forgotten"))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn add(
    context: &Context,
    settings: &Settings,
    name: &str,
    file: Option<&Path>,
    replace: bool,
) -> Result<(), Failure> {
    let key = match file {
        Some(file) => read(file)?,
        None => {
            if std::io::stdin().is_terminal() {
                output::note("type or paste the key, then Enter and Ctrl-D");
            }
            read_from(std::io::stdin()).map_err(|e| format!("standard input: {e}"))?
        }
    };
    let (kept, keyring, replaced) = match chest(settings).add(name, &key, replace)? {
        Added::Already(kept) => {
            if context.json {
                return output::json(&json!({"name": name, "kept": kept, "unchanged": true}));
            }
            return output::line(&format!("key {name} is kept in {kept} already"));
        }
        Added::Stored(stored, replaced) => (stored.kept, stored.keyring, replaced),
    };
    let aside = match &replaced {
        Some(Replaced::Aside(aside)) => Some(aside),
        _ => None,
    };
    if context.json {
        output::json(&json!({"name": name, "kept": kept, "replaced": aside}))?;
    } else {
        output::line(&format!("key {name} is kept in {kept}"))?;
    }
    match (aside, &replaced) {
        (Some(aside), _) => output::note(&format!(
            "the key that was called {name} is kept as {aside}; walgit-fs key remove {aside} \
             forgets it"
        )),
        (None, Some(_)) => output::warning(&format!(
            "the key that was called {name} was damaged; it is gone"
        )),
        (None, None) => {}
    }
    if kept == Kept::File {
        let none = KeyringError::NoEntry;
        warn_of_file(settings, keyring.as_ref().unwrap_or(&none));
    }
    Ok(())
}

/// Asks for confirmation before deleting a key that published names need.
fn confirm_removal(settings: &Settings, name: &str) -> Result<(), Failure> {
    let chest = chest(settings);
    // With a second copy, nothing is lost.
    if let Ok(Some(key)) = chest.get(name) {
        let others = chest.list()?.into_keys().filter(|other| other != name);
        for other in others {
            if chest
                .get(&other)
                .is_ok_and(|other| other.as_ref() == Some(&key))
            {
                return Ok(());
            }
        }
    } else {
        // The removal itself reports an unknown name.
        if !chest.list()?.contains_key(name) {
            return Ok(());
        }
    }
    let needed = needed_by(settings, name)?;
    if needed.is_empty() {
        return Ok(());
    }
    let what = format!("key {name} is needed by {}", needed.join(", "));
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(format!(
            "{what}, which cannot be read without it; keep a copy with walgit-fs key show {name} \
             -o FILE, then add --force"
        )
        .into());
    }
    output::note(&format!("{what}, which cannot be read without it."));
    output::note(&format!("Type the name of the key to forget it ({name}):"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == name {
        Ok(())
    } else {
        Err(format!("key {name} is not forgotten").into())
    }
}
