//! Settings from flags and environment variables.
//!
//! Variables are read with the config file, not with the command line, so that an invalid
//! variable does not break commands that need no settings.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{ConfigError, SettingOrigin, Sourced, size};

pub(super) const CACHE_DISK_VARIABLE: &str = "WALGIT_FS_CACHE_DISK";

/// Flags that override the settings, for all commands.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Network profile: local (a directory of blobs, no server), devnet, testnet,
    /// mainnet, or one from the config file [env: WALGIT_FS_NETWORK]
    #[arg(long, global = true)]
    pub network: Option<String>,
    /// Read from this aggregator instead of the profile's; may be repeated
    /// [env: WALGIT_FS_AGGREGATOR]
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',')]
    pub aggregator: Option<Vec<String>>,
    /// Write to this publisher instead of the profile's; may be repeated
    /// [env: WALGIT_FS_PUBLISHER]
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',')]
    pub publisher: Option<Vec<String>>,
    /// Query this Sui node (GraphQL) for sui:// addresses instead of the profile's
    /// [env: WALGIT_FS_SUI_RPC]
    #[arg(long, global = true, value_name = "URL")]
    pub sui_rpc: Option<String>,
    /// Use this embedded Walrus (devnet) to end epochs, extend and delete, instead of the
    /// profile's [env: WALGIT_FS_ADMIN]
    #[arg(long, global = true, value_name = "URL")]
    pub admin: Option<String>,
    /// Disk budget of the cache: bytes, or a size such as 500M or 10G
    /// [env: WALGIT_FS_CACHE_DISK]
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    pub cache_disk: Option<u64>,
    /// Use this config file [env: WALGIT_FS_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Flags {
    /// The config file that a flag or the environment sets.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        let file = self.config.clone();
        file.or_else(|| variable("WALGIT_FS_CONFIG").map(Into::into))
    }
}

/// Values from flags and the environment that take precedence over the config file.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    pub(super) network: Option<Sourced<String>>,
    pub(super) aggregators: Option<Sourced<Vec<String>>>,
    pub(super) publishers: Option<Sourced<Vec<String>>>,
    pub(super) sui: Option<Sourced<String>>,
    pub(super) admin: Option<Sourced<String>>,
    pub(super) cache_disk: Option<Sourced<u64>>,
}

impl Overrides {
    /// # Errors
    /// [`ConfigError::Environment`].
    pub(super) fn new(flags: &Flags) -> Result<Self, ConfigError> {
        let text = |text: &str| Ok(text.to_owned());
        let list = |text: &str| Ok(text.split(',').map(str::to_owned).collect());
        Ok(Overrides {
            network: value(&flags.network, "WALGIT_FS_NETWORK", text)?,
            aggregators: value(&flags.aggregator, "WALGIT_FS_AGGREGATOR", list)?,
            publishers: value(&flags.publisher, "WALGIT_FS_PUBLISHER", list)?,
            sui: value(&flags.sui_rpc, "WALGIT_FS_SUI_RPC", text)?,
            admin: value(&flags.admin, "WALGIT_FS_ADMIN", text)?,
            cache_disk: value(&flags.cache_disk, CACHE_DISK_VARIABLE, size)?,
        })
    }
}

/// The value of a flag, or else that of a variable, parsed with `parse`.
fn value<T: Clone>(
    flag: &Option<T>,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Sourced<T>>, ConfigError> {
    if let Some(value) = flag.clone() {
        let origin = SettingOrigin::Flag;
        return Ok(Some(Sourced { value, origin }));
    }
    let Some(text) = variable(name) else {
        return Ok(None);
    };
    let text = text.to_str().ok_or_else(|| "it is not UTF-8 text".into());
    let value = text.and_then(parse);
    let value = value.map_err(|why| ConfigError::Environment { name, why })?;
    let origin = SettingOrigin::Environment;
    Ok(Some(Sourced { value, origin }))
}

/// Returns a variable; `None` if it is unset or empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
