//! The `--key` option, and the keys that the user has stored.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use clap::Args;
use zeroize::Zeroizing;

use crate::cli::secrets;
use crate::config::Settings;
use walgit_format::chunk::SecretKey;
use walrus_client::auth::{KeyStore, KeyringError};

/// Maximum length of a key file, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// Keys given to one command.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct Keys {
    /// Key of an encrypted repository: 32 bytes, raw, hex or base64; may be
    /// repeated. Keys stored with `walgit-fs key add`, or by `publish --encrypt`,
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
    pub(in crate::cli) fn load(&self, settings: &Settings) -> Result<Vec<SecretKey>> {
        let mut keys = self.given()?;
        let (stored, missing) = stored_keys(settings).all()?;
        keys.extend(stored);
        if let Some(first) = missing.first() {
            let more = match missing.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            warning!("going on without a key{more}: {first}");
        }
        Ok(keys)
    }

    /// Keys given to this command.
    pub(in crate::cli) fn given(&self) -> Result<Vec<SecretKey>> {
        if let Some(keys) = self.read.get() {
            return Ok(keys.clone());
        }
        let keys = self.files.iter().map(|path| read_key(path));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        Ok(self.read.get_or_init(|| keys).clone())
    }
}

/// The keys that the user has stored.
pub(in crate::cli) fn stored_keys(settings: &Settings) -> KeyStore {
    KeyStore::new(&settings.dirs.data.join("keys"))
}

/// Warns that a key is stored in a file because of the state of the keyring.
pub(in crate::cli) fn warn_of_key_file(settings: &Settings, why: &KeyringError) {
    let dir = settings.dirs.data.join("keys");
    let dir = dir.display();
    match why {
        KeyringError::TimedOut | KeyringError::Lost | KeyringError::Taken => {
            warning!("the system keyring was not used: {why}; the key is stored in {dir}");
        }
        KeyringError::NoEntry | KeyringError::Refused(_) => {
            warning!("there is no system keyring; the key is stored in {dir}");
        }
    }
}

/// Reads a key from a file.
pub(in crate::cli) fn read_key(path: &Path) -> Result<SecretKey> {
    parse_key(secrets::open(path)?).with_context(|| path.display().to_string())
}

/// Reads a key to the end of `input`.
pub(in crate::cli) fn parse_key(input: impl Read) -> Result<SecretKey> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES as usize));
    input.take(MAX_KEY_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(SecretKey::parse(&bytes)?)
}
