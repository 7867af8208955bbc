//! What every command needs: settings, a runtime, a store, a cache.

use std::fs::Permissions;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;

use super::keys::Keys;
use super::{Failure, output};
use crate::auth::{Credentials, SignIns};
use crate::cache::{Cache, CacheConfig, CacheError};
use crate::config::{ConfigError, Dirs, Origin, Overrides, Settings};
use crate::lifecycle::{FreshStore, Leases, Ledger};
use crate::net::Journal;
use crate::repo::refs::{RefName, RefStore};
use crate::repo::{Access, Account, Address, Loader, LoaderConfig, RepoError, Repository, Source};
use crate::walrus::BlobStore;

/// What the names of private caches begin with.
const PRIVATE: &str = "private-";
/// How long a command that has the cache open may take to hand it over.
const HAND_OVER: Duration = Duration::from_secs(5);

/// The command line's common part.
pub(super) struct Context {
    overrides: Overrides,
    /// Whether the user asked for JSON.
    pub(super) json: bool,
    /// The user's own umask, for files that the user asked for: this program's is
    /// stricter.
    pub(super) umask: u32,
}

/// A cache, and the directory it vanishes with when it is a private one.
pub(super) struct OpenCache {
    pub(super) cache: Arc<Cache>,
    private: Option<tempfile::TempDir>,
}

impl OpenCache {
    /// Whether it is the user's own, and still is: another process may have
    /// wanted it meanwhile.
    pub(super) fn is_shared(&self) -> bool {
        self.private.is_none() && !self.cache.is_released()
    }
}

impl Context {
    pub(super) fn new(overrides: Overrides, json: bool, umask: Mode) -> Self {
        Context {
            overrides,
            json,
            umask: umask.bits(),
        }
    }

    /// Writes a file that the user asked for, with the permissions that other
    /// programs would give it.
    pub(super) fn write_output(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let is_new = !path.exists();
        output::to_file(path, bytes)?;
        if is_new {
            let mode = Permissions::from_mode(0o666 & !self.umask);
            std::fs::set_permissions(path, mode)?;
        }
        Ok(())
    }

    /// The flags that say which network and config file are meant, to be repeated
    /// in a command that is suggested.
    pub(super) fn flags(&self) -> Vec<(&'static str, String)> {
        let given = &self.overrides;
        let mut flags = Vec::new();
        if let Some(network) = &given.network
            && network.origin == Origin::Flag
        {
            flags.push(("--network", network.value.clone()));
        }
        let lists = [
            ("--aggregator", &given.aggregators),
            ("--publisher", &given.publishers),
        ];
        for (flag, urls) in lists {
            if let Some(urls) = urls
                && urls.origin == Origin::Flag
            {
                flags.extend(urls.value.iter().map(|url| (flag, url.clone())));
            }
        }
        if let Some(file) = &given.file {
            flags.push(("--config", file.display().to_string()));
        }
        flags
    }

    /// The settings in force.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        Ok(Settings::load(&self.overrides)?)
    }

    /// Where everything lives, whatever the config file says.
    pub(super) fn dirs(&self) -> Result<Dirs, ConfigError> {
        Dirs::from_environment()
    }

    /// The settings in force, or the defaults and why the others cannot be used.
    pub(super) fn settings_or_default(&self) -> Result<(Settings, Option<ConfigError>), Failure> {
        Ok(Settings::load_or_default(&self.overrides)?)
    }

    /// Runs a future to its end.
    pub(super) fn run<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(work)
    }
}

/// The names of the network in force.
pub(super) fn refs(settings: &Settings) -> RefStore {
    RefStore::new(&settings.refs_dir())
}

/// Where blobs of the network in force are.
pub(super) fn store(settings: &Settings) -> Result<Arc<dyn BlobStore>, Failure> {
    let network = &settings.network.value;
    let store = crate::walrus::open(network, deadline(settings), journal(settings))?;
    Ok(fresh(settings, store))
}

/// What running publishes need.
pub(super) fn leases(settings: &Settings) -> Leases {
    Leases::of(settings)
}

/// The user's sign-ins.
pub(super) fn sign_ins(settings: &Settings) -> SignIns {
    SignIns::new(&settings.dirs.data.join("auth"))
}

/// Where blobs of the network in force are, to write there as who the user is.
pub(super) fn store_to_write(settings: &Settings) -> Result<Arc<dyn BlobStore>, Failure> {
    let network = &settings.network.value;
    let credentials = Credentials::load(&sign_ins(settings), network)?;
    let deadline = deadline(settings);
    let store = crate::walrus::open_as(credentials, network, deadline, journal(settings))?;
    Ok(fresh(settings, store))
}

/// The same store, which waits for what was just stored.
fn fresh(settings: &Settings, store: Arc<dyn BlobStore>) -> Arc<dyn BlobStore> {
    let ledger = Ledger::of(settings);
    FreshStore::over(store, &settings.network.value, ledger, deadline(settings))
}

/// Longest time of one operation.
fn deadline(settings: &Settings) -> Duration {
    Duration::from_secs(settings.deadline_s.value)
}

/// Where failures are kept.
fn journal(settings: &Settings) -> Option<Arc<Journal>> {
    Some(Arc::new(Journal::new(settings.failures())))
}

/// Where the repository at an address is.
pub(super) fn source(settings: &Settings, address: &Address) -> Source {
    Source::of(address, &settings.refs_dir())
}

/// What is needed to open a repository of the network in force, with the
/// user's keys and those given.
pub(super) fn access(settings: &Settings, keys: &Keys) -> Result<Access, Failure> {
    let deadline = deadline(settings);
    Ok(Access {
        store: store(settings)?,
        keys: keys.load(settings)?,
        chain: crate::chain::open(&settings.network.value, deadline, journal(settings)),
        scripts: false,
        account: Account::unlimited(),
    })
}

/// The user's cache, for a command that goes faster with it: handed over to any
/// process that needs it. A private one for the length of the command when
/// another process has it, or when it cannot be opened.
pub(super) fn cache(settings: &Settings) -> Result<OpenCache, Failure> {
    settings.check_cache()?;
    match Cache::open(&CacheConfig::of(settings)) {
        Ok(cache) => {
            cache.hand_over_when_wanted();
            Ok(OpenCache {
                cache,
                private: None,
            })
        }
        Err(CacheError::Busy { .. }) => private_cache(settings),
        Err(error) => {
            output::warning(&format!("{error}; going on without it"));
            private_cache(settings)
        }
    }
}

/// The user's cache, for a command about it: there is no other one to look at.
pub(super) fn own_cache(settings: &Settings) -> Result<OpenCache, Failure> {
    settings.check_cache()?;
    let cache = Cache::open_within(&CacheConfig::of(settings), HAND_OVER)?;
    Ok(OpenCache {
        cache,
        private: None,
    })
}

/// Removes the user's cache, pins too, without opening it.
pub(super) fn erase_cache(settings: &Settings) -> Result<(), CacheError> {
    Cache::erase(&CacheConfig::of(settings), HAND_OVER)
}

/// An empty cache for the length of the command: in memory where the disk
/// refuses.
pub(super) fn private_cache(settings: &Settings) -> Result<OpenCache, Failure> {
    settings.check_cache()?;
    remove_abandoned(&settings.dirs.cache);
    let config = CacheConfig::of(settings);
    let on_disk = || -> Result<OpenCache, Failure> {
        crate::durable::create_private_dir(&settings.dirs.cache)?;
        let private = tempfile::Builder::new()
            .prefix(PRIVATE)
            .tempdir_in(&settings.dirs.cache)?;
        let dir = private.path().join("pages");
        let config = CacheConfig {
            dir,
            ..config.clone()
        };
        Ok(OpenCache {
            cache: Cache::open(&config)?,
            private: Some(private),
        })
    };
    Ok(on_disk().unwrap_or_else(|error| {
        tracing::info!("the cache of this command is in memory: {error}");
        OpenCache {
            cache: Cache::in_memory(&config),
            private: None,
        }
    }))
}

/// Removes the private caches of commands that were killed, a day later. A failure
/// harms nothing.
fn remove_abandoned(dir: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_private = entry.file_name().to_string_lossy().starts_with(PRIVATE);
        let age = (entry.metadata().and_then(|it| it.modified())).map(|at| at.elapsed());
        if is_private && age.is_ok_and(|age| age.is_ok_and(|age| age > DAY)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Decodes nodes over a cache.
pub(super) fn loader(cache: &OpenCache) -> Arc<Loader> {
    Loader::new(cache.cache.clone(), LoaderConfig::default())
}

/// Opens the repository at an address.
pub(super) async fn open(
    settings: &Settings,
    loader: &Arc<Loader>,
    address: &Address,
    keys: &Keys,
) -> Result<Repository, Failure> {
    Ok(open_any(settings, loader, address, keys).await??)
}

/// The same; why the repository could not be opened is left to the caller.
pub(super) async fn open_any(
    settings: &Settings,
    loader: &Arc<Loader>,
    address: &Address,
    keys: &Keys,
) -> Result<Result<Repository, RepoError>, Failure> {
    let access = access(settings, keys)?;
    let located = source(settings, address).locate(&access).await?;
    Ok(loader.open_located(&access, &located).await)
}

/// A name for what lies at a path: its last component, made fit.
pub(super) fn name_for(path: &std::path::Path) -> Option<RefName> {
    let last = std::fs::canonicalize(path).ok()?;
    let text = last
        .file_name()?
        .to_str()?
        .trim_end_matches(".git")
        .to_owned();
    text.parse().ok()
}

/// Makes sure that a relative path leads somewhere. The kernel shows a current
/// directory that was removed as an empty one.
///
/// # Errors
/// When the path is relative and the current directory is gone.
pub(super) fn current_dir_exists(path: &Path) -> Result<(), Failure> {
    let gone = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    if path.is_relative() && std::env::current_dir().is_err_and(gone) {
        let why = "the current directory was removed; change to one that exists";
        return Err(format!("{}: {why}", path.display()).into());
    }
    Ok(())
}
