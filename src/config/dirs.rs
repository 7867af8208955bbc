//! Directories for all state.

use std::path::PathBuf;

use super::ConfigError;

/// Directories for all state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// Config file.
    pub config: PathBuf,
    /// Local blobs, names, the ledger.
    pub data: PathBuf,
    /// RocksDB.
    pub cache: PathBuf,
    /// Logs.
    pub state: PathBuf,
}

impl Dirs {
    /// The XDG directories of this user, each with `walgit-fs` appended.
    pub fn from_environment() -> Result<Self, ConfigError> {
        let ours = |dir: Option<PathBuf>, variable, what| match dir {
            Some(dir) if dir.is_relative() => {
                Err(ConfigError::RelativeHome(::dirs::home_dir().unwrap_or(dir)))
            }
            Some(dir) => Ok(dir.join("walgit-fs")),
            None => Err(ConfigError::NoHome(variable, what)),
        };
        Ok(Dirs {
            config: ours(::dirs::config_dir(), "XDG_CONFIG_HOME", "the config file")?,
            data: ours(::dirs::data_dir(), "XDG_DATA_HOME", "local blobs")?,
            cache: ours(::dirs::cache_dir(), "XDG_CACHE_HOME", "the cache")?,
            state: ours(::dirs::state_dir(), "XDG_STATE_HOME", "logs")?,
        })
    }

    /// Directory of the daemon's lock and sockets, beside the database that the daemon
    /// owns, so that they are found together.
    pub fn daemon(&self) -> PathBuf {
        self.cache.join("daemon")
    }
}
