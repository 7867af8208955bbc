//! `key`: keys of encrypted repositories, put away for later mounts; and the
//! flag that gives one for once.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::context::Context;
use super::{Failure, output};
use crate::auth::{Kept, KeyChest};
use crate::chunk::SecretKey;
use crate::config::Settings;

/// Longest file that may be a key, in bytes.
const MAX_KEY_FILE: u64 = 4096;

/// Keys for one command.
#[derive(Debug, Default, Args)]
pub(super) struct Keys {
    /// Key of an encrypted repository: 32 bytes, raw, hex or base64; may be
    /// repeated. Keys kept with `walgit-fs key add`, or by `publish --encrypt`,
    /// are tried too
    #[arg(long = "key", visible_alias = "dek-file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Keys {
    /// These keys, and those that were put away.
    pub(super) fn load(&self, settings: &Settings) -> Result<Vec<SecretKey>, Failure> {
        let mut keys = self.given()?;
        keys.extend(chest(settings).all()?);
        Ok(keys)
    }

    /// Those that were given for this command.
    pub(super) fn given(&self) -> Result<Vec<SecretKey>, Failure> {
        self.files.iter().map(|path| read(path)).collect()
    }
}

/// Keys that were put away.
pub(super) fn chest(settings: &Settings) -> KeyChest {
    KeyChest::new(&settings.dirs.data.join("keys"))
}

fn read(path: &Path) -> Result<SecretKey, Failure> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let file = std::fs::File::open(path).map_err(|e| named(&e))?;
    read_from(file).map_err(|why| named(&why).into())
}

fn read_from(from: impl std::io::Read) -> Result<SecretKey, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(MAX_KEY_FILE).read_to_end(&mut bytes)?;
    Ok(SecretKey::parse(&bytes)?)
}

/// Keep keys of encrypted repositories for later mounts
///
/// They go to the system keyring; where there is none, to a sealed file that
/// only you can read, and the command says so. Every mount tries them.
#[derive(Debug, Args)]
pub(super) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Keep a key: 32 bytes, raw, hex or base64
    Add {
        /// A name for it
        name: String,
        /// The file it is in [default: standard input]
        file: Option<PathBuf>,
    },
    /// List the names of the keys that are kept
    List,
    /// Print a key, as 64 hexadecimal digits: to keep it somewhere else as well,
    /// or to give it to those who may read what it opens
    Show {
        /// Its name
        name: String,
    },
    /// Forget a key; what it encrypted cannot be read any more where nobody else
    /// has it
    Remove {
        /// Its name
        name: String,
    },
}

impl Key {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let chest = chest(&settings);
        match self.action {
            Action::Add { name, file } => {
                let key = match &file {
                    Some(file) => read(file)?,
                    None => {
                        if std::io::stdin().is_terminal() {
                            eprintln!("type or paste the key, then Enter and Ctrl-D");
                        }
                        read_from(std::io::stdin()).map_err(|e| format!("standard input: {e}"))?
                    }
                };
                let kept = chest.add(&name, &key)?;
                match context.json {
                    true => output::json(&json!({"name": name, "kept": kept}))?,
                    false => output::line(&format!("key {name} is kept in {kept}"))?,
                }
                if kept == Kept::File {
                    let dir = settings.dirs.data.join("keys");
                    let dir = dir.display();
                    eprintln!("warning: there is no system keyring here; the key lies in {dir}");
                }
            }
            Action::List => {
                let list = chest.list()?;
                if context.json {
                    output::json(&list)?;
                } else if list.is_empty() {
                    eprintln!("no keys yet; walgit-fs key add NAME FILE keeps one");
                } else {
                    let row = |(name, kept): (String, Kept)| vec![name, kept.to_string()];
                    output::table(&list.into_iter().map(row).collect::<Vec<_>>())?;
                }
            }
            Action::Show { name } => {
                let hex = chest.named(&name)?.to_hex();
                match context.json {
                    true => output::json(&json!({"name": name, "key": *hex}))?,
                    false => output::line(&hex)?,
                }
            }
            Action::Remove { name } => {
                chest.remove(&name)?;
                if !context.json {
                    output::line(&format!("key {name} is forgotten"))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
