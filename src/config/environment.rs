//! Settings from environment variables.
//!
//! They are read with the config file, not with the command line, so that an invalid
//! variable does not break commands that need no settings.

use std::ffi::OsString;

use super::{ConfigError, Origin, Overrides, Sourced, size};

const NETWORK: &str = "WALGIT_FS_NETWORK";
const AGGREGATOR: &str = "WALGIT_FS_AGGREGATOR";
const PUBLISHER: &str = "WALGIT_FS_PUBLISHER";
const SUI_RPC: &str = "WALGIT_FS_SUI_RPC";
const ADMIN: &str = "WALGIT_FS_ADMIN";
const CACHE_DISK: &str = "WALGIT_FS_CACHE_DISK";
const CONFIG: &str = "WALGIT_FS_CONFIG";

/// Returns a variable; `None` if it is unset or empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns a variable, parsed with `parse`.
fn parsed<T>(
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Sourced<T>>, ConfigError> {
    let Some(value) = variable(name) else {
        return Ok(None);
    };
    let text = value.to_str().ok_or_else(|| "it is not UTF-8 text".into());
    let value = text.and_then(parse);
    let value = value.map_err(|why| ConfigError::Environment { name, why })?;
    Ok(Some(Sourced {
        value,
        origin: Origin::Environment,
    }))
}

impl Overrides {
    /// Fills in the config file from the environment, unless a flag sets it.
    pub(super) fn with_file(&self) -> Self {
        let file = self.file.clone();
        Overrides {
            file: file.or_else(|| variable(CONFIG).map(Into::into)),
            ..self.clone()
        }
    }

    /// Fills in values from the environment that flags do not set.
    ///
    /// # Errors
    /// [`ConfigError::Environment`].
    pub(super) fn with_environment(&self) -> Result<Self, ConfigError> {
        fn or<T: Clone>(
            flag: &Option<Sourced<T>>,
            name: &'static str,
            parse: impl Fn(&str) -> Result<T, String>,
        ) -> Result<Option<Sourced<T>>, ConfigError> {
            match flag {
                Some(flag) => Ok(Some(flag.clone())),
                None => parsed(name, parse),
            }
        }
        let text = |text: &str| Ok(text.to_owned());
        let list = |text: &str| Ok(text.split(',').map(str::to_owned).collect());
        Ok(Overrides {
            network: or(&self.network, NETWORK, text)?,
            aggregators: or(&self.aggregators, AGGREGATOR, list)?,
            publishers: or(&self.publishers, PUBLISHER, list)?,
            sui: or(&self.sui, SUI_RPC, text)?,
            admin: or(&self.admin, ADMIN, text)?,
            cache_disk: or(&self.cache_disk, CACHE_DISK, size)?,
            file: self.with_file().file,
        })
    }
}
