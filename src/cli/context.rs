//! State that commands share: settings, runtime, store, cache.

use std::fs::Permissions;
use std::future::Future;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::keys::Keys;
use super::{Failure, output};
use crate::cache::{Cache, CacheConfig, CacheError};
use crate::config::{ConfigError, Dirs, Origin, Overrides, Settings};
use crate::leases::Leases;
use crate::lifecycle::{FreshStore, Ledger};
use crate::repo::refs::RefStore;
use crate::repo::{Access, Account, Loader, LoaderConfig, RepoError, Repository, Source};
use walgit_format::Address;
use walgit_format::ref_name::RefName;
use walrus_client::BlobStore;
use walrus_client::auth::Credentials;
use walrus_client::auth::SignIns;
use walrus_client::net::Journal;

/// Prefix of the directories of private caches.
const PRIVATE: &str = "private-";
/// Time limit for a command that has the cache open to hand it over.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Options that all commands share.
pub(super) struct Context {
    overrides: Overrides,
    /// Whether the user asked for JSON.
    pub(super) json: bool,
    /// The user's own umask, for output files: this process sets a stricter one.
    pub(super) umask: u32,
}

/// A cache, and its temporary directory if it is a private one.
pub(super) struct OpenCache {
    pub(super) cache: Arc<Cache>,
    _private: Option<tempfile::TempDir>,
    /// Why this is not the user's cache, if it is not.
    instead: Option<String>,
}

impl OpenCache {
    /// Whether this is still the user's cache: another process may have taken it over.
    pub(super) fn is_shared(&self) -> bool {
        self.why_not_shared().is_none()
    }

    /// Why this is not, or no longer, the user's cache.
    pub(super) fn why_not_shared(&self) -> Option<&str> {
        match &self.instead {
            Some(why) => Some(why),
            None if self.cache.is_released() => Some("another process has taken the cache over"),
            None => None,
        }
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

    /// Writes an output file, with permissions according to the user's umask.
    pub(super) fn write_output(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let is_new = !path.exists();
        output::to_file(path, bytes)?;
        if is_new {
            let mode = Permissions::from_mode(0o666 & !self.umask);
            std::fs::set_permissions(path, mode)?;
        }
        Ok(())
    }

    /// Flags that select the network and config file, to repeat in suggested commands.
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

    /// The effective settings.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        Ok(Settings::load(&self.overrides)?)
    }

    /// Directories in use, independent of the config file.
    pub(super) fn dirs(&self) -> Result<Dirs, ConfigError> {
        Dirs::from_environment()
    }

    /// The effective settings; on failure, the defaults and the reason.
    pub(super) fn settings_or_default(&self) -> Result<(Settings, Option<ConfigError>), Failure> {
        Ok(Settings::load_or_default(&self.overrides)?)
    }

    /// Runs a future to completion.
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

/// Names of the selected network.
pub(super) fn refs(settings: &Settings) -> RefStore {
    RefStore::new(&settings.refs_dir())
}

/// Blob store of the selected network.
pub(super) fn store(settings: &Settings) -> Result<Arc<dyn BlobStore>, Failure> {
    let network = &settings.network.value;
    let store = walrus_client::open(network, deadline(settings), journal(settings))?;
    Ok(fresh(settings, store))
}

/// Leases, which protect the needs of publishes and mounts.
pub(super) fn leases(settings: &Settings) -> Leases {
    Leases::of(settings)
}

/// The user's sign-ins.
pub(super) fn sign_ins(settings: &Settings) -> SignIns {
    SignIns::new(&settings.dirs.data.join("auth"))
}

/// Blob store of the selected network, for writes with the user's sign-in.
pub(super) fn store_to_write(settings: &Settings) -> Result<Arc<dyn BlobStore>, Failure> {
    let network = &settings.network.value;
    let credentials = Credentials::load(&sign_ins(settings), network)?;
    let deadline = deadline(settings);
    let store = walrus_client::open_as(credentials, network, deadline, journal(settings))?;
    Ok(fresh(settings, store))
}

/// The same store; its reads wait for blobs that were just stored.
fn fresh(settings: &Settings, store: Arc<dyn BlobStore>) -> Arc<dyn BlobStore> {
    let ledger = Ledger::of(settings);
    FreshStore::over(store, &settings.network.value, ledger, deadline(settings))
}

/// Time limit of one operation.
fn deadline(settings: &Settings) -> Duration {
    Duration::from_secs(settings.deadline_s.value)
}

/// Log of failed requests.
fn journal(settings: &Settings) -> Option<Arc<Journal>> {
    Some(Arc::new(Journal::new(settings.failures())))
}

/// Source that locates the repository at an address.
pub(super) fn source(settings: &Settings, address: &Address) -> Source {
    Source::of(address, &settings.refs_dir())
}

/// Access that opens repositories of the selected network, with the user's keys and
/// `keys`.
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

/// Opens the user's cache for a command that it speeds up, and hands it over to any
/// process that needs it. Opens a private cache if another process has the user's, or if
/// it cannot be opened.
pub(super) fn cache(settings: &Settings) -> Result<OpenCache, Failure> {
    settings.check_cache()?;
    match Cache::open(&CacheConfig::of(settings)) {
        Ok(cache) => {
            cache.hand_over_when_wanted();
            Ok(OpenCache {
                cache,
                _private: None,
                instead: None,
            })
        }
        Err(CacheError::Busy { holder, .. }) => Ok(OpenCache {
            instead: Some(format!("{holder} has the cache")),
            ..private_cache(settings)?
        }),
        Err(error) => {
            output::warning(&format!("{error}; going on without it"));
            Ok(OpenCache {
                instead: Some("the cache cannot be used".into()),
                ..private_cache(settings)?
            })
        }
    }
}

/// Opens the user's cache for a command that operates on it, without a fallback.
pub(super) fn own_cache(settings: &Settings) -> Result<OpenCache, Failure> {
    settings.check_cache()?;
    let cache = Cache::open_within(&CacheConfig::of(settings), HAND_OVER)?;
    Ok(OpenCache {
        cache,
        _private: None,
        instead: None,
    })
}

/// Removes the user's cache, including pins, without opening it.
pub(super) fn erase_cache(settings: &Settings) -> Result<(), CacheError> {
    Cache::erase(&CacheConfig::of(settings), HAND_OVER)
}

/// Opens an empty cache that lasts as long as the command, in memory if the disk fails.
pub(super) fn private_cache(settings: &Settings) -> Result<OpenCache, Failure> {
    settings.check_cache()?;
    remove_abandoned(&settings.dirs.cache);
    let config = CacheConfig::of(settings);
    let instead = || Some("this command uses a cache of its own".to_owned());
    let on_disk = || -> Result<OpenCache, Failure> {
        walgit_durable::create_private_dir(&settings.dirs.cache)?;
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
            _private: Some(private),
            instead: instead(),
        })
    };
    Ok(on_disk().unwrap_or_else(|error| {
        tracing::info!("the cache of this command is in memory: {error}");
        OpenCache {
            cache: Cache::in_memory(&config),
            _private: None,
            instead: instead(),
        }
    }))
}

/// Removes private caches of killed commands once they are a day old. Ignores failures.
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

/// Creates a loader of nodes over a cache.
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

/// Like [`open`], but returns the error of opening the repository separately.
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

/// Derives a name from the last component of a path.
pub(super) fn name_for(path: &std::path::Path) -> Option<RefName> {
    let last = std::fs::canonicalize(path).ok()?;
    let text = last
        .file_name()?
        .to_str()?
        .trim_end_matches(".git")
        .to_owned();
    text.parse().ok()
}

/// Checks that a path leads to a folder that has not been removed. To processes that are
/// in a removed folder or have it open, the kernel shows it as empty.
///
/// # Errors
/// If the path is relative and the current directory was removed, or if the folder that
/// it leads to was removed.
pub(super) fn folder_exists(path: &Path) -> Result<(), Failure> {
    let gone = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let removed = |why: &str| Err(format!("{}: {why}", path.display()).into());
    if path.is_relative() && std::env::current_dir().is_err_and(gone) {
        return removed("the current directory was removed; change to one that exists");
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(folder) = rustix::fs::open(path, flags, Mode::empty()) {
        // Some file systems report no link count for folders.
        let has_links = rustix::fs::fstat(&folder).is_ok_and(|found| found.st_nlink > 0);
        let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let named = std::fs::read_link(link).is_ok_and(|named| !is_deleted(&named));
        if !has_links && !named {
            return removed("that folder was removed; choose one that exists");
        }
    }
    Ok(())
}

/// Whether the kernel reports an open file as removed.
fn is_deleted(named: &Path) -> bool {
    named
        .as_os_str()
        .as_encoded_bytes()
        .ends_with(b" (deleted)")
}
