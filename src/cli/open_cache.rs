//! The page cache of a command: that of the user, or a private one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::cache::{Cache, CacheConfig, CacheError};
use crate::config::Settings;

/// Prefix of the directories of private caches.
const PRIVATE_DIR_PREFIX: &str = "private-";
/// Age at which the private cache of a killed command is removed.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Time limit for a command that has the cache open to hand it over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5);

/// A cache, and its temporary directory if it is a private one.
pub(super) struct OpenCache {
    pub(super) cache: Arc<Cache>,
    _private: Option<tempfile::TempDir>,
    /// Why this is not the user's cache, if it is not.
    instead: Option<String>,
}

impl OpenCache {
    /// Opens the user's cache for a command that it speeds up, and hands it over to any
    /// process that needs it. Opens a private cache if another process has the user's, or
    /// if it cannot be opened.
    pub(super) fn shared(settings: &Settings) -> Result<Self> {
        settings.check_cache()?;
        let why = match Cache::open(&CacheConfig::of(settings)) {
            Ok(cache) => {
                cache.hand_over_when_wanted();
                return Ok(OpenCache::of_user(cache));
            }
            Err(CacheError::Busy { holder, .. }) => format!("{holder} has the cache"),
            Err(error) => {
                warning!("{error}; going on without it");
                "the cache cannot be used".into()
            }
        };
        let private = OpenCache::private(settings)?;
        Ok(OpenCache {
            instead: Some(why),
            ..private
        })
    }

    /// Opens the user's cache for a command that operates on it, without a fallback.
    pub(super) fn exclusive(settings: &Settings) -> Result<Self> {
        settings.check_cache()?;
        let cache = Cache::open_within(&CacheConfig::of(settings), HAND_OVER_TIMEOUT)?;
        Ok(OpenCache::of_user(cache))
    }

    fn of_user(cache: Arc<Cache>) -> Self {
        OpenCache {
            cache,
            _private: None,
            instead: None,
        }
    }

    /// Opens an empty cache that lasts as long as the command, in memory if the disk
    /// fails.
    pub(super) fn private(settings: &Settings) -> Result<Self> {
        settings.check_cache()?;
        remove_abandoned(&settings.dirs.cache);
        let config = CacheConfig::of(settings);
        let on_disk = || -> Result<_> {
            walgit_durable::create_private_dir(&settings.dirs.cache)?;
            let private = tempfile::Builder::new()
                .prefix(PRIVATE_DIR_PREFIX)
                .tempdir_in(&settings.dirs.cache)?;
            let config = CacheConfig {
                dir: private.path().join("pages"),
                ..config.clone()
            };
            Ok((Cache::open(&config)?, Some(private)))
        };
        let (cache, private) = on_disk().unwrap_or_else(|error| {
            tracing::info!("the cache of this command is in memory: {error}");
            (Cache::in_memory(&config), None)
        });
        Ok(OpenCache {
            cache,
            _private: private,
            instead: Some("this command uses a private cache".into()),
        })
    }

    /// Removes the user's cache, including pins, without opening it.
    pub(super) fn erase(settings: &Settings) -> Result<(), CacheError> {
        Cache::erase(&CacheConfig::of(settings), HAND_OVER_TIMEOUT)
    }

    /// Whether this is still the user's cache: another process may have taken it over.
    pub(super) fn is_shared(&self) -> bool {
        self.why_not_shared().is_none()
    }

    /// Why this is not, or no longer, the user's cache.
    pub(super) fn why_not_shared(&self) -> Option<&str> {
        let released = "another process has taken the cache over";
        let released = self.cache.is_released().then_some(released);
        self.instead.as_deref().or(released)
    }
}

/// Removes private caches of killed commands. Ignores failures.
fn remove_abandoned(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_private = name.to_string_lossy().starts_with(PRIVATE_DIR_PREFIX);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        if is_private && age.is_some_and(|age| age > ABANDONED_AFTER) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
