//! Location of the leases of a network.

use std::path::{Path, PathBuf};

use super::error::LeaseError;
use super::lock::{self, Locked};
use super::records::StoreUser;
use crate::config::Settings;
use walrus_client::network::NetworkPlace;

/// The leases of one network.
#[derive(Clone, Debug)]
pub struct Leases {
    pub(super) dir: PathBuf,
    /// Location of publish leases in earlier versions.
    pub(super) former: Option<PathBuf>,
    /// The user's data directory, with the mount leases of other networks. Blob IDs are
    /// the same in all networks, and two networks may share blobs: a devnet serves a
    /// directory store.
    pub(super) data: Option<PathBuf>,
    /// The user who publishes into a directory store.
    pub(super) user: Option<StoreUser>,
}

impl Leases {
    /// The leases of the network in force.
    pub fn of(settings: &Settings) -> Self {
        let network = &settings.network.value;
        Leases {
            dir: match &network.place {
                NetworkPlace::Local { dir } => dir.join("leases"),
                NetworkPlace::Http { .. } => settings.dirs.data.join("leases").join(&network.name),
            },
            former: Some(settings.lifecycle_dir().join("leases")),
            data: Some(settings.dirs.data.clone()),
            user: network.is_free().then(|| StoreUser {
                names: settings.refs_dir(),
                ledger: settings.ledger_path(),
            }),
        }
    }

    /// Leases in `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        Leases {
            dir: dir.into(),
            former: None,
            data: None,
            user: None,
        }
    }

    /// Returns their directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates the directory if needed, and acquires the lock.
    pub(super) fn lock(&self) -> Result<Locked, LeaseError> {
        lock::exclusive(&self.dir)
    }

    /// Returns a number that changes with every change of the leases.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn generation(&self) -> Result<u64, LeaseError> {
        lock::generation(&self.dir)
    }
}
