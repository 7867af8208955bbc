//! Opens repositories for commands that read them.

use std::sync::Arc;

use anyhow::Result;

use super::args::Keys;
use super::context;
use super::open_cache::OpenCache;
use crate::config::Settings;
use crate::repo::{Access, Loader, LoaderConfig, MemoryAccount, RepoError, Repository};
use walgit_format::Address;

/// Cache, loader and keys of a command that opens repositories.
pub(super) struct Session<'a> {
    pub(super) settings: &'a Settings,
    keys: &'a Keys,
    // Dropped before `cache`, which removes the directory of a private database.
    pub(super) loader: Arc<Loader>,
    pub(super) cache: OpenCache,
}

impl<'a> Session<'a> {
    /// Opens repositories through the user's cache.
    pub(super) fn new(settings: &'a Settings, keys: &'a Keys) -> Result<Self> {
        Ok(Session::over(OpenCache::shared(settings)?, settings, keys))
    }

    /// Opens repositories through `cache`.
    pub(super) fn over(cache: OpenCache, settings: &'a Settings, keys: &'a Keys) -> Self {
        Session {
            settings,
            keys,
            loader: Loader::new(cache.cache.clone(), LoaderConfig::default()),
            cache,
        }
    }

    /// Access that opens repositories of the selected network, with the user's keys and
    /// those of the command.
    pub(super) fn access(&self) -> Result<Access> {
        let network = &self.settings.network.value;
        let deadline = context::deadline(self.settings);
        let failures = context::failure_log(self.settings);
        Ok(Access {
            store: context::store(self.settings)?,
            keys: self.keys.load(self.settings)?,
            chain: crate::chain::open(network, deadline, failures),
            scripts: false,
            account: MemoryAccount::unlimited(),
        })
    }

    /// Opens the repository at an address.
    pub(super) async fn open(&self, address: &Address) -> Result<Repository> {
        Ok(self.try_open(address).await??)
    }

    /// Like [`Session::open`], but returns the error of opening the repository separately.
    pub(super) async fn try_open(
        &self,
        address: &Address,
    ) -> Result<Result<Repository, RepoError>> {
        let access = self.access()?;
        let source = context::source(self.settings, address);
        let located = source.locate(&access).await?;
        Ok(self.loader.open_located(&access, &located).await)
    }
}
