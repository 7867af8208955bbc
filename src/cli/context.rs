//! What all commands share: global options, settings, runtime, output format.

use std::fs::Permissions;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustix::fs::Mode;
use serde::Serialize;

use super::output;
use crate::config::{ConfigError, Dirs, Flags, Settings};
use crate::daemon::Client;
use crate::lifecycle::{FreshStore, Ledger};
use crate::repo::Source;
use crate::repo::refs::RefStore;
use walgit_format::Address;
use walrus_client::BlobStore;
use walrus_client::auth::{Credentials, SignIns};
use walrus_client::net::Journal;

/// Options that all commands share.
pub(super) struct Context {
    flags: Flags,
    /// Whether the user asked for JSON.
    pub(super) json: bool,
    /// The user's own umask, for output files: this process sets a stricter one.
    pub(super) umask: u32,
}

impl Context {
    pub(super) fn new(flags: Flags, json: bool, umask: Mode) -> Self {
        Context {
            flags,
            json,
            umask: umask.bits(),
        }
    }

    /// Prints the result of a command: `value` if the user asked for JSON, else as text.
    pub(super) fn report(
        &self,
        value: &impl Serialize,
        print: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if self.json {
            output::json(value)
        } else {
            print()
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
    pub(super) fn flags(&self) -> impl Iterator<Item = (&'static str, String)> {
        let flags = &self.flags;
        let file = flags.config.as_ref().map(|file| file.display().to_string());
        [
            ("--network", Vec::from_iter(flags.network.clone())),
            ("--aggregator", flags.aggregator.clone().unwrap_or_default()),
            ("--publisher", flags.publisher.clone().unwrap_or_default()),
            ("--config", Vec::from_iter(file)),
        ]
        .into_iter()
        .flat_map(|(flag, values)| values.into_iter().map(move |value| (flag, value)))
    }

    /// The effective settings.
    pub(super) fn settings(&self) -> Result<Settings> {
        Ok(Settings::load(&self.flags)?)
    }

    /// Directories in use, independent of the config file.
    pub(super) fn dirs(&self) -> Result<Dirs, ConfigError> {
        Dirs::from_environment()
    }

    /// The effective settings; on failure, the defaults and the reason.
    pub(super) fn settings_or_default(&self) -> Result<(Settings, Option<ConfigError>)> {
        Ok(Settings::load_or_default(&self.flags)?)
    }

    /// Runs the work of a command to completion.
    pub(super) fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(work)
    }

    /// Runs a single operation to completion.
    pub(super) fn wait<T, E>(&self, operation: impl Future<Output = Result<T, E>>) -> Result<T>
    where
        anyhow::Error: From<E>,
    {
        self.run(async { Ok(operation.await?) })
    }

    /// The daemon, if it runs.
    pub(super) fn daemon(&self, settings: &Settings) -> Result<Option<Client>> {
        self.wait(Client::find(&settings.dirs))
    }
}

/// Names of the selected network.
pub(super) fn refs(settings: &Settings) -> RefStore {
    RefStore::new(&settings.refs_dir())
}

/// The user's sign-ins.
pub(super) fn sign_ins(settings: &Settings) -> SignIns {
    SignIns::new(&settings.dirs.data.join("auth"))
}

/// Source that locates the repository at an address.
pub(super) fn source(settings: &Settings, address: &Address) -> Source {
    Source::of(address, &settings.refs_dir())
}

/// Blob store of the selected network.
pub(super) fn store(settings: &Settings) -> Result<Arc<dyn BlobStore>> {
    store_as(settings, Credentials::default())
}

/// Blob store of the selected network, for writes with the user's sign-in.
pub(super) fn store_to_write(settings: &Settings) -> Result<Arc<dyn BlobStore>> {
    let credentials = Credentials::load(&sign_ins(settings), &settings.network.value)?;
    store_as(settings, credentials)
}

/// Opens the blob store; its reads wait for blobs that were just stored.
fn store_as(settings: &Settings, credentials: Credentials) -> Result<Arc<dyn BlobStore>> {
    let (network, deadline) = (&settings.network.value, deadline(settings));
    let store = walrus_client::open_as(credentials, network, deadline, failure_log(settings))?;
    let ledger = Ledger::of(settings);
    Ok(FreshStore::over(store, network, ledger, deadline))
}

/// Time limit of one operation.
pub(super) fn deadline(settings: &Settings) -> Duration {
    Duration::from_secs(settings.deadline_s.value)
}

/// Log of failed requests.
pub(super) fn failure_log(settings: &Settings) -> Option<Arc<Journal>> {
    Some(Arc::new(Journal::new(settings.failures())))
}
