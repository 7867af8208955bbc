//! Settings, their defaults and their origins.
//!
//! Precedence: flag > environment > config file > default. The file is
//! `walgit-fs/config.toml` in the XDG config directory:
//!
//! ```toml
//! network = "testnet"            # default profile; --network overrides it
//!
//! [cache]
//! disk = "10G"                   # a size, or a number of bytes; 16 MiB or more
//! memory = 67_108_864            # 8 MiB or more
//!
//! [daemon]
//! idle_exit_s = 30               # exits after this time without mounts
//! memory = 1_073_741_824         # bytes; refuses new mounts above it
//!
//! [networks.mine]
//! aggregators = ["https://aggregator.example"]
//! publishers = ["https://publisher.example"]
//! max_body = 10_485_760
//! epochs = 5
//! sui = "https://graphql.example/graphql"   # for sui:// addresses
//! auth = { method = "api_key" }  # sign-in to publishers; see `auth` here
//! price = { storage = 0.011 }    # storage price for `cost`; see `price` here
//! ```
//!
//! Sections: `[net]` is [`NetPolicy`], `[retention]` is [`Retention`], `[tiers]` is
//! [`Tiers`], `[compaction]` is [`Compaction`], `[renewal]` is [`Renewing`].
//!
//! All state is stored in the XDG directories, so two users, or two tests with separate
//! directories, share nothing.

mod compaction;
mod duration;
mod environment;
mod renewal;
mod retention;
mod size;
mod tiers;

pub use compaction::Compaction;
pub use duration::duration;
pub use renewal::Renewing;
pub use retention::{ActivityLevels, Keep, Level, Retention, RetentionRule};
pub use size::size;
pub use tiers::{Tiers, Weights};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use walgit_durable::read_regular;
use walrus_client::network::{AuthMethod, DEFAULT_MAX_BODY, NetPolicy, Network, NetworkPlace};
use walrus_encoding::Price;

/// Default disk budget of the cache, in bytes.
pub const DEFAULT_CACHE_DISK: u64 = 500_000_000;
/// Default memory budget of the cache, in bytes.
pub const DEFAULT_CACHE_MEMORY: u64 = 64 << 20;
/// Minimum disk budget, in bytes. A chunk has up to 1 MiB and is cached if it takes less
/// than a quarter of the budget; a smaller budget could hold hardly anything else.
pub const MIN_CACHE_DISK: u64 = 16 << 20;
/// Minimum memory budget, in bytes: a chunk is cached if it takes less than an eighth.
pub const MIN_CACHE_MEMORY: u64 = 8 << 20;
/// Maximum budget, in bytes; larger values are mistakes.
const MAX_CACHE: u64 = 1 << 50;
/// Default deadline of a file system operation, in seconds.
pub const DEFAULT_DEADLINE_S: u64 = 30;
/// Default number of epochs to store a blob for.
pub const DEFAULT_EPOCHS: u32 = 1;
/// Default time after which a daemon without mounts exits, in seconds.
pub const DEFAULT_IDLE_EXIT_S: u64 = 30;
/// Default resident memory above which the daemon refuses new mounts, in bytes.
pub const DEFAULT_DAEMON_MEMORY: u64 = 1 << 30;

/// Error of reading the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {}: {}", path.display(), unreadable(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system error; part of the message.
        error: std::io::Error,
    },
    /// The file is malformed.
    #[error("config file {}: {why}; correct it, or choose another with --config", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Position and reason.
        why: String,
    },
    /// An environment variable is malformed.
    #[error("environment variable {name}: {why}; correct it, or unset it")]
    Environment {
        /// The variable.
        name: &'static str,
        /// What is wrong with its value.
        why: String,
    },
    /// The profile does not exist.
    #[error("no network profile is called `{name}`; there are: {known}")]
    NoNetwork {
        /// The requested name.
        name: String,
        /// The existing profiles.
        known: String,
    },
    /// The cache cannot work with the budget.
    #[error(
        "{name} is {value} bytes, but the cache needs {least} to {MAX_CACHE} bytes there; set it to a size such as {example}"
    )]
    Budget {
        /// The setting.
        name: String,
        /// The configured value, in bytes.
        value: u64,
        /// The minimum, in bytes.
        least: u64,
        /// A suitable value.
        example: &'static str,
    },
    /// Neither a home directory nor the XDG variable is set.
    #[error("neither HOME nor {0} is set, so there is no place for {1}; set one of them")]
    NoHome(&'static str, &'static str),
    /// The home directory is relative, so it would depend on the current directory.
    #[error("HOME is {}, which is not an absolute path; set it to one", .0.display())]
    RelativeHome(PathBuf),
}

/// Explains why a file cannot be read, with a remedy.
fn unreadable(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "no such file; check --config and WALGIT_FS_CONFIG".into(),
        ErrorKind::IsADirectory => {
            "it is a folder; remove it, or choose a file with --config".into()
        }
        ErrorKind::PermissionDenied => {
            format!("{error}; make it readable for you, or choose another with --config")
        }
        _ => error.to_string(),
    }
}

/// Origin of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Not set.
    Default,
    /// The config file.
    File,
    /// An environment variable.
    Environment,
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Default => "default",
            Origin::File => "config file",
            Origin::Environment => "environment",
            Origin::Flag => "flag",
        })
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The effective value.
    pub value: T,
    /// Its origin.
    pub origin: Origin,
}

/// Values from flags and the environment; unset values fall through.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Profile by name.
    pub network: Option<Sourced<String>>,
    /// Aggregators instead of the profile's.
    pub aggregators: Option<Sourced<Vec<String>>>,
    /// Publishers instead of the profile's.
    pub publishers: Option<Sourced<Vec<String>>>,
    /// Sui node instead of the profile's.
    pub sui: Option<Sourced<String>>,
    /// Embedded Walrus that ends epochs, instead of the profile's.
    pub admin: Option<Sourced<String>>,
    /// Config file, instead of the default one.
    pub file: Option<PathBuf>,
    /// Disk budget of the cache.
    pub cache_disk: Option<Sourced<u64>>,
}

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
                Err(ConfigError::RelativeHome(dirs::home_dir().unwrap_or(dir)))
            }
            Some(dir) => Ok(dir.join("walgit-fs")),
            None => Err(ConfigError::NoHome(variable, what)),
        };
        Ok(Dirs {
            config: ours(dirs::config_dir(), "XDG_CONFIG_HOME", "the config file")?,
            data: ours(dirs::data_dir(), "XDG_DATA_HOME", "local blobs")?,
            cache: ours(dirs::cache_dir(), "XDG_CACHE_HOME", "the cache")?,
            state: ours(dirs::state_dir(), "XDG_STATE_HOME", "logs")?,
        })
    }

    /// Directory of the daemon's lock and sockets, beside the database that the daemon
    /// owns, so that they are found together.
    pub fn daemon(&self) -> PathBuf {
        self.cache.join("daemon")
    }
}

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
    /// Names of all profiles.
    pub networks: Vec<String>,
    /// Values of [`Network::policy`] that the config file sets.
    pub policy_set: BTreeSet<String>,
    /// Storage price of the network, if its profile sets one.
    pub price: Option<Price>,
    /// Retention of content that nothing needs any more.
    pub retention: Sourced<Retention>,
    /// Layout of files.
    pub tiers: Sourced<Tiers>,
    /// Compaction of heads.
    pub compaction: Sourced<Compaction>,
    /// Renewal of needed blobs.
    pub renewal: Sourced<Renewing>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    network: Option<String>,
    #[serde(default)]
    cache: CacheSection,
    #[serde(default)]
    mount: MountSection,
    #[serde(default)]
    daemon: DaemonSection,
    #[serde(default)]
    net: NetPolicy,
    /// Keys that are set in `net`.
    #[serde(skip)]
    net_set: BTreeSet<String>,
    retention: Option<Retention>,
    tiers: Option<Tiers>,
    compaction: Option<Compaction>,
    renewal: Option<Renewing>,
    #[serde(default)]
    networks: BTreeMap<String, NetworkSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheSection {
    #[serde(default, deserialize_with = "size::deserialize")]
    disk: Option<u64>,
    #[serde(default, deserialize_with = "size::deserialize")]
    memory: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MountSection {
    deadline_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DaemonSection {
    idle_exit_s: Option<u64>,
    memory: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkSection {
    dir: Option<PathBuf>,
    #[serde(default)]
    aggregators: Vec<String>,
    #[serde(default)]
    publishers: Vec<String>,
    max_body: Option<u64>,
    epochs: Option<u32>,
    sui: Option<String>,
    #[serde(default)]
    auth: AuthMethod,
    price: Option<Price>,
    admin: Option<String>,
    epoch_days: Option<f64>,
}

impl NetworkSection {
    fn http(aggregator: &str, publisher: Option<&str>) -> Self {
        NetworkSection {
            aggregators: vec![aggregator.into()],
            publishers: publisher.map(Into::into).into_iter().collect(),
            ..Self::default()
        }
    }

    fn on_chain(self, url: &str) -> Self {
        NetworkSection {
            sui: Some(url.into()),
            ..self
        }
    }
}

/// Built-in profiles; the config file can replace them by name.
fn built_in() -> BTreeMap<String, NetworkSection> {
    let devnet = "http://127.0.0.1:31415";
    BTreeMap::from([
        ("local".into(), NetworkSection::default()),
        (
            "devnet".into(),
            NetworkSection {
                admin: Some(devnet.into()),
                ..NetworkSection::http(devnet, Some(devnet))
            },
        ),
        (
            "testnet".into(),
            NetworkSection {
                epoch_days: Some(1.0),
                ..NetworkSection::http(
                    "https://aggregator.walrus-testnet.walrus.space",
                    Some("https://publisher.walrus-testnet.walrus.space"),
                )
            }
            .on_chain("https://graphql.testnet.sui.io/graphql"),
        ),
        // Mainnet has no public publisher.
        (
            "mainnet".into(),
            NetworkSection {
                price: Some(Price::mainnet()),
                epoch_days: Some(14.0),
                ..NetworkSection::http("https://aggregator.walrus-mainnet.walrus.space", None)
            }
            .on_chain("https://graphql.mainnet.sui.io/graphql"),
        ),
    ])
}

impl Settings {
    /// Loads settings from `flags`, the environment and the config file, in this order of
    /// precedence.
    ///
    /// # Errors
    /// If a variable or the file is malformed, or names an unknown network.
    pub fn load(flags: &Overrides) -> Result<Self, ConfigError> {
        let dirs = Dirs::from_environment()?;
        let overrides = &flags.with_environment()?;
        let path = config_path(overrides, &dirs);
        let file = read_file(&path, overrides.file.is_some())?;
        Settings::assemble(overrides, file, path, dirs)
    }

    /// Like [`Settings::load`], but returns the defaults and the error if a variable, the
    /// file or the selected network is unusable. For commands that must always work:
    /// those that diagnose problems, and those that stop running processes.
    ///
    /// # Errors
    /// If there is no home directory.
    pub fn load_or_default(flags: &Overrides) -> Result<(Self, Option<ConfigError>), ConfigError> {
        let why = match Settings::load(flags) {
            Ok(settings) => return Ok((settings, None)),
            Err(why) => why,
        };
        let dirs = Dirs::from_environment()?;
        let path = config_path(&flags.with_file(), &dirs);
        let settings = Settings::assemble(&Overrides::default(), File::default(), path, dirs)?;
        Ok((settings, Some(why)))
    }

    fn assemble(
        overrides: &Overrides,
        file: File,
        path: PathBuf,
        dirs: Dirs,
    ) -> Result<Self, ConfigError> {
        let mut profiles = built_in();
        profiles.extend(file.networks.clone());
        let layered = |over: &Option<Sourced<u64>>, in_file: Option<u64>, default: u64| {
            over.clone().unwrap_or_else(|| sourced(in_file, default))
        };
        let network = network(overrides, &file, &profiles, &dirs)?;
        let profile = profiles.get(&network.value.name);
        Ok(Settings {
            price: profile.and_then(|profile| profile.price.clone()),
            network,
            cache_disk: layered(&overrides.cache_disk, file.cache.disk, DEFAULT_CACHE_DISK),
            cache_memory: sourced(file.cache.memory, DEFAULT_CACHE_MEMORY),
            deadline_s: sourced(file.mount.deadline_s, DEFAULT_DEADLINE_S),
            idle_exit_s: sourced(file.daemon.idle_exit_s, DEFAULT_IDLE_EXIT_S),
            daemon_memory: sourced(file.daemon.memory, DEFAULT_DAEMON_MEMORY),
            networks: profiles.into_keys().collect(),
            policy_set: file.net_set,
            retention: sourced(file.retention, Retention::default()),
            tiers: sourced(file.tiers, Tiers::default()),
            compaction: sourced(file.compaction, Compaction::default()),
            renewal: sourced(file.renewal, Renewing::default()),
            file: path,
            file_is_given: overrides.file.is_some(),
            dirs,
        })
    }

    /// Checks that the cache can work with its budgets. Commands without a cache do not
    /// need this.
    ///
    /// # Errors
    /// [`ConfigError::Budget`].
    pub fn check_cache(&self) -> Result<(), ConfigError> {
        let check = |it: &Sourced<u64>, key, over: [&str; 2], least, example| {
            if (least..=MAX_CACHE).contains(&it.value) {
                return Ok(());
            }
            let name = match it.origin {
                Origin::Flag => over[0].to_owned(),
                Origin::Environment => over[1].to_owned(),
                Origin::File | Origin::Default => {
                    format!("[cache] {key} in {}", self.file.display())
                }
            };
            Err(ConfigError::Budget {
                name,
                value: it.value,
                least,
                example,
            })
        };
        let disk = ["--cache-disk", "WALGIT_FS_CACHE_DISK"];
        check(&self.cache_disk, "disk", disk, MIN_CACHE_DISK, "500M")?;
        let none = ["", ""];
        check(
            &self.cache_memory,
            "memory",
            none,
            MIN_CACHE_MEMORY,
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

/// Maximum size of a config file, in bytes.
const MAX_FILE: u64 = 1 << 20;

fn config_path(overrides: &Overrides, dirs: &Dirs) -> PathBuf {
    let given = overrides.file.clone();
    given.unwrap_or_else(|| dirs.config.join("config.toml"))
}

fn sourced<T>(in_file: Option<T>, default: T) -> Sourced<T> {
    match in_file {
        Some(value) => Sourced {
            value,
            origin: Origin::File,
        },
        None => Sourced {
            value: default,
            origin: Origin::Default,
        },
    }
}

fn read_file(path: &Path, must_exist: bool) -> Result<File, ConfigError> {
    let text = read_regular(path, MAX_FILE).map(|bytes| {
        String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
            format!("line {line}: not UTF-8 text")
        })
    });
    match text {
        Ok(text) => text
            .and_then(|text| parse(&text, path))
            .map_err(|why| ConfigError::Parse {
                path: path.into(),
                why,
            }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
            Ok(File::default())
        }
        Err(error) => Err(ConfigError::Read {
            path: path.into(),
            error,
        }),
    }
}

/// Parses a config file; the error states the position and the reason.
fn parse(text: &str, path: &Path) -> Result<File, String> {
    let told = |error: toml::de::Error| match error.span() {
        Some(span) => {
            let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
            format!("line {line}: {}", error.message())
        }
        None => error.message().into(),
    };
    let mut file: File = toml::from_str(text).map_err(told)?;
    let keys: toml::Table = toml::from_str(text).map_err(told)?;
    if let Some(net) = keys.get("net").and_then(toml::Value::as_table) {
        file.net_set = net.keys().cloned().collect();
    }
    file.net.settle(path)?;
    if let Some(tiers) = &file.tiers {
        tiers.check()?;
    }
    if let Some(compaction) = &file.compaction {
        compaction.check()?;
    }
    if let Some(renewal) = &file.renewal {
        renewal.check()?;
    }
    Ok(file)
}

/// Resolves the selected network. Endpoints without a profile form a network called
/// `custom`.
fn network(
    overrides: &Overrides,
    file: &File,
    profiles: &BTreeMap<String, NetworkSection>,
    dirs: &Dirs,
) -> Result<Sourced<Network>, ConfigError> {
    let endpoints = [&overrides.aggregators, &overrides.publishers];
    let direct = endpoints.into_iter().flatten().next();
    let (name, origin) = match (&overrides.network, direct, &file.network) {
        (Some(named), ..) => (named.value.clone(), named.origin.clone()),
        (None, Some(direct), _) => ("custom".into(), direct.origin.clone()),
        (None, None, Some(name)) => (name.clone(), Origin::File),
        (None, None, None) => ("local".into(), Origin::Default),
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
