//! The config file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::units::optional_size;
use super::{CompactionSection, ConfigError, RenewalSection, Retention, Tiers};
use walgit_durable::read_regular;
use walrus_client::network::{AuthMethod, NetPolicy};
use walrus_encoding::Price;

/// Maximum size of a config file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) network: Option<String>,
    pub(super) cache: CacheSection,
    pub(super) mount: MountSection,
    pub(super) daemon: DaemonSection,
    pub(super) net: NetPolicy,
    /// Keys that are set in `net`.
    #[serde(skip)]
    pub(super) net_set: BTreeSet<String>,
    pub(super) retention: Option<Retention>,
    pub(super) tiers: Option<Tiers>,
    pub(super) compaction: Option<CompactionSection>,
    pub(super) renewal: Option<RenewalSection>,
    pub(super) networks: BTreeMap<String, NetworkSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CacheSection {
    #[serde(deserialize_with = "optional_size")]
    pub(super) disk: Option<u64>,
    #[serde(deserialize_with = "optional_size")]
    pub(super) memory: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MountSection {
    pub(super) deadline_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DaemonSection {
    pub(super) idle_exit_s: Option<u64>,
    pub(super) memory: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NetworkSection {
    pub(super) dir: Option<PathBuf>,
    pub(super) aggregators: Vec<String>,
    pub(super) publishers: Vec<String>,
    pub(super) max_body: Option<u64>,
    pub(super) epochs: Option<u32>,
    pub(super) sui: Option<String>,
    pub(super) auth: AuthMethod,
    pub(super) price: Option<Price>,
    pub(super) admin: Option<String>,
    pub(super) epoch_days: Option<f64>,
}

/// Built-in profiles; the config file can replace them by name.
pub(super) fn built_in_profiles() -> BTreeMap<String, NetworkSection> {
    let list = |url: &str| vec![url.to_owned()];
    let devnet = "http://127.0.0.1:31415";
    let profiles = [
        ("local", NetworkSection::default()),
        (
            "devnet",
            NetworkSection {
                aggregators: list(devnet),
                publishers: list(devnet),
                admin: Some(devnet.into()),
                ..NetworkSection::default()
            },
        ),
        (
            "testnet",
            NetworkSection {
                aggregators: list("https://aggregator.walrus-testnet.walrus.space"),
                publishers: list("https://publisher.walrus-testnet.walrus.space"),
                sui: Some("https://graphql.testnet.sui.io/graphql".into()),
                epoch_days: Some(1.0),
                ..NetworkSection::default()
            },
        ),
        // Mainnet has no public publisher.
        (
            "mainnet",
            NetworkSection {
                aggregators: list("https://aggregator.walrus-mainnet.walrus.space"),
                sui: Some("https://graphql.mainnet.sui.io/graphql".into()),
                price: Some(Price::mainnet()),
                epoch_days: Some(14.0),
                ..NetworkSection::default()
            },
        ),
    ];
    BTreeMap::from(profiles.map(|(name, section)| (name.into(), section)))
}

impl ConfigFile {
    /// Reads the file; the default if it does not exist and need not.
    pub(super) fn read(path: &Path, must_exist: bool) -> Result<Self, ConfigError> {
        let bytes = match read_regular(path, MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
                return Ok(ConfigFile::default());
            }
            Err(error) => {
                return Err(ConfigError::Read {
                    path: path.into(),
                    error,
                });
            }
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
            format!("line {line}: not UTF-8 text")
        });
        (text.and_then(|text| ConfigFile::parse(&text, path))).map_err(|why| ConfigError::Parse {
            path: path.into(),
            why,
        })
    }

    /// Parses a config file; the error states the position and the reason.
    fn parse(text: &str, path: &Path) -> Result<Self, String> {
        let explain = |error: toml::de::Error| match error.span() {
            Some(span) => {
                let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
                format!("line {line}: {}", error.message())
            }
            None => error.message().into(),
        };
        let mut file: ConfigFile = toml::from_str(text).map_err(explain)?;
        let keys: toml::Table = toml::from_str(text).map_err(explain)?;
        if let Some(net) = keys.get("net").and_then(toml::Value::as_table) {
            file.net_set = net.keys().cloned().collect();
        }
        file.net.settle(path)?;
        file.tiers.as_ref().map_or(Ok(()), Tiers::check)?;
        file.compaction
            .as_ref()
            .map_or(Ok(()), CompactionSection::check)?;
        file.renewal
            .as_ref()
            .map_or(Ok(()), RenewalSection::check)?;
        Ok(file)
    }
}
