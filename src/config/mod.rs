//! Settings, their defaults and their origins.
//!
//! Precedence: flag > environment > config file > default. The file is
//! `walgit-fs/config.toml` in the XDG config directory; `contrib/REFERENCE.md` lists its
//! keys.
//!
//! All state is stored in the XDG directories, so two users, or two tests with separate
//! directories, share nothing.
//!
//! May depend on: no other module.

mod compaction;
mod dirs;
mod error;
mod file;
mod flags;
mod renewal;
mod retention;
mod sourced;
mod tiers;
mod units;

pub use compaction::CompactionSection;
pub use dirs::Dirs;
pub use error::ConfigError;
pub use flags::Flags;
pub use renewal::RenewalSection;
pub use retention::{ActivityLevels, Keep, Level, Retention, RetentionRule};
pub use sourced::{SettingOrigin, Sourced};
pub use tiers::{Tiers, Weights};
pub use units::{duration, size};

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use walrus_client::network::{DEFAULT_MAX_BODY, Network, NetworkPlace};
use walrus_encoding::Price;

use error::MAX_CACHE_BYTES;
use file::{ConfigFile, NetworkSection};
use flags::Overrides;

const DEFAULT_CACHE_DISK_BYTES: u64 = 500_000_000;
const DEFAULT_CACHE_MEMORY_BYTES: u64 = 64 << 20;
/// Minimum disk budget, in bytes. A chunk has up to 1 MiB and is cached if it takes less
/// than a quarter of the budget; a smaller budget could hold hardly anything else.
const MIN_CACHE_DISK_BYTES: u64 = 16 << 20;
/// Minimum memory budget, in bytes: a chunk is cached if it takes less than an eighth.
const MIN_CACHE_MEMORY_BYTES: u64 = 8 << 20;
const DEFAULT_DEADLINE_S: u64 = 30;
const DEFAULT_EPOCHS: u32 = 1;
const DEFAULT_IDLE_EXIT_S: u64 = 30;
const DEFAULT_DAEMON_MEMORY_BYTES: u64 = 1 << 30;

/// The effective settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directories.
    pub dirs: Dirs,
    /// Path of the config file; it need not exist.
    pub file: PathBuf,
    /// Whether a flag or the environment sets the path.
    pub file_is_given: bool,
    /// The selected network.
    pub network: Sourced<Network>,
    /// Disk budget of the cache, in bytes.
    pub cache_disk: Sourced<u64>,
    /// Memory budget of the cache, in bytes.
    pub cache_memory: Sourced<u64>,
    /// Deadline of a file system operation, in seconds.
    pub deadline_s: Sourced<u64>,
    /// Time after which a daemon without mounts exits, in seconds.
    pub idle_exit_s: Sourced<u64>,
    /// Resident memory above which the daemon refuses new mounts, in bytes.
    pub daemon_memory: Sourced<u64>,
    /// Values of [`Network::policy`] that the config file sets.
    pub policy_set: BTreeSet<String>,
    /// Storage price of the network, if its profile sets one.
    pub price: Option<Price>,
    /// Retention of unreferenced content.
    pub retention: Sourced<Retention>,
    /// Layout of files.
    pub tiers: Sourced<Tiers>,
    /// Compaction of heads.
    pub compaction: Sourced<CompactionSection>,
    /// Renewal of needed blobs.
    pub renewal: Sourced<RenewalSection>,
}

impl Settings {
    /// Loads settings from `flags`, the environment and the config file, in this order of
    /// precedence.
    ///
    /// # Errors
    /// If a variable or the file is malformed, or names an unknown network.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let dirs = Dirs::from_environment()?;
        let overrides = Overrides::new(flags)?;
        let path = flags
            .config_file()
            .unwrap_or_else(|| dirs.config.join("config.toml"));
        let file = ConfigFile::read(&path, flags.config_file().is_some())?;
        Settings::assemble(&overrides, file, flags, dirs)
    }

    /// Like [`Settings::load`], but returns the defaults and the error if a variable, the
    /// file or the selected network is unusable. For commands that must always work:
    /// those that diagnose problems, and those that stop running processes.
    ///
    /// # Errors
    /// If there is no home directory.
    pub fn load_or_default(flags: &Flags) -> Result<(Self, Option<ConfigError>), ConfigError> {
        let why = match Settings::load(flags) {
            Ok(settings) => return Ok((settings, None)),
            Err(why) => why,
        };
        let dirs = Dirs::from_environment()?;
        let settings =
            Settings::assemble(&Overrides::default(), ConfigFile::default(), flags, dirs)?;
        Ok((settings, Some(why)))
    }

    fn assemble(
        overrides: &Overrides,
        file: ConfigFile,
        flags: &Flags,
        dirs: Dirs,
    ) -> Result<Self, ConfigError> {
        let mut profiles = file::built_in_profiles();
        profiles.extend(file.networks.clone());
        let network = network(overrides, &file, &profiles, &dirs)?;
        let profile = profiles.remove(&network.value.name);
        let from_file = Sourced::<u64>::from_file;
        let cache_disk = from_file(file.cache.disk, DEFAULT_CACHE_DISK_BYTES);
        let given = flags.config_file();
        Ok(Settings {
            price: profile.and_then(|profile| profile.price),
            network,
            cache_disk: overrides.cache_disk.clone().unwrap_or(cache_disk),
            cache_memory: from_file(file.cache.memory, DEFAULT_CACHE_MEMORY_BYTES),
            deadline_s: from_file(file.mount.deadline_s, DEFAULT_DEADLINE_S),
            idle_exit_s: from_file(file.daemon.idle_exit_s, DEFAULT_IDLE_EXIT_S),
            daemon_memory: from_file(file.daemon.memory, DEFAULT_DAEMON_MEMORY_BYTES),
            policy_set: file.net_set,
            retention: Sourced::from_file(file.retention, Retention::default()),
            tiers: Sourced::from_file(file.tiers, Tiers::default()),
            compaction: Sourced::from_file(file.compaction, CompactionSection::default()),
            renewal: Sourced::from_file(file.renewal, RenewalSection::default()),
            file_is_given: given.is_some(),
            file: given.unwrap_or_else(|| dirs.config.join("config.toml")),
            dirs,
        })
    }

    /// Checks that the cache can work with its budgets. Commands without a cache do not
    /// need this.
    ///
    /// # Errors
    /// [`ConfigError::Budget`].
    pub fn check_cache(&self) -> Result<(), ConfigError> {
        let check = |budget: &Sourced<u64>, key, min, example| {
            if (min..=MAX_CACHE_BYTES).contains(&budget.value) {
                return Ok(());
            }
            // Of these budgets, only that of the disk has a flag and a variable.
            let name = match budget.origin {
                SettingOrigin::Flag => "--cache-disk".into(),
                SettingOrigin::Environment => flags::CACHE_DISK_VARIABLE.into(),
                SettingOrigin::File | SettingOrigin::Default => {
                    format!("[cache] {key} in {}", self.file.display())
                }
            };
            Err(ConfigError::Budget {
                name,
                value: budget.value,
                min,
                example,
            })
        };
        check(&self.cache_disk, "disk", MIN_CACHE_DISK_BYTES, "500M")?;
        check(
            &self.cache_memory,
            "memory",
            MIN_CACHE_MEMORY_BYTES,
            "64MiB",
        )
    }

    /// Storage price of the network; that of mainnet if the profile sets none.
    pub fn price(&self) -> Price {
        self.price.clone().unwrap_or_else(Price::mainnet)
    }

    /// Path of the log of failed requests.
    pub fn failures(&self) -> PathBuf {
        self.dirs.state.join("failures.jsonl")
    }

    /// Directory with the state of renewal and garbage collection for this network.
    pub fn lifecycle_dir(&self) -> PathBuf {
        let lifecycle = self.dirs.state.join("lifecycle");
        lifecycle.join(&self.network.value.name)
    }

    /// Path of the ledger of this network.
    pub fn ledger_path(&self) -> PathBuf {
        let file = format!("{}.jsonl", self.network.value.name);
        self.dirs.data.join("ledger").join(file)
    }

    /// Path of the read statistics of this network's repositories.
    pub fn activity(&self) -> PathBuf {
        let name = format!("{}.jsonl", self.network.value.name);
        self.dirs.state.join("activity").join(name)
    }

    /// Directory of the names of this network.
    pub fn refs_dir(&self) -> PathBuf {
        self.dirs.data.join("refs").join(&self.network.value.name)
    }
}

/// Resolves the selected network. Endpoints without a profile form a network called
/// `custom`.
fn network(
    overrides: &Overrides,
    file: &ConfigFile,
    profiles: &BTreeMap<String, NetworkSection>,
    dirs: &Dirs,
) -> Result<Sourced<Network>, ConfigError> {
    let endpoints = [&overrides.aggregators, &overrides.publishers];
    let direct = endpoints.into_iter().flatten().next();
    let (name, origin) = match (&overrides.network, direct, &file.network) {
        (Some(named), ..) => (named.value.clone(), named.origin.clone()),
        (None, Some(direct), _) => ("custom".into(), direct.origin.clone()),
        (None, None, Some(name)) => (name.clone(), SettingOrigin::File),
        (None, None, None) => ("local".into(), SettingOrigin::Default),
    };
    let mut section = match profiles.get(&name) {
        Some(section) => section.clone(),
        None if name == "custom" && direct.is_some() => NetworkSection::default(),
        None => {
            return Err(ConfigError::NoNetwork {
                name,
                known: profiles.keys().cloned().collect::<Vec<_>>().join(", "),
            });
        }
    };
    if let Some(aggregators) = &overrides.aggregators {
        section.aggregators = aggregators.value.clone();
    }
    if let Some(publishers) = &overrides.publishers {
        section.publishers = publishers.value.clone();
    }
    if let Some(sui) = &overrides.sui {
        section.sui = Some(sui.value.clone());
    }
    section.admin = match (&overrides.admin, direct) {
        (Some(admin), _) => Some(admin.value.clone()),
        // The profile's admin URL belongs to other servers.
        (None, Some(_)) => None,
        (None, None) => section.admin,
    };
    let http = !section.aggregators.is_empty() || !section.publishers.is_empty();
    let place = if http {
        NetworkPlace::Http {
            aggregators: section.aggregators,
            publishers: section.publishers,
        }
    } else {
        NetworkPlace::Local {
            dir: section.dir.unwrap_or_else(|| dirs.data.join(&name)),
        }
    };
    Ok(Sourced {
        value: Network {
            name,
            place,
            max_body: section.max_body.unwrap_or(DEFAULT_MAX_BODY),
            epochs: section.epochs.unwrap_or(DEFAULT_EPOCHS),
            sui: section.sui,
            policy: file.net.clone(),
            auth: section.auth,
            admin: section.admin,
            epoch_s: section.epoch_days.map(|days| (days * 86_400.0) as u64),
        },
        origin,
    })
}
