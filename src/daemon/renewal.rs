//! What is needed is paid for longer: with the user's settings.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::unix_seconds;
use crate::config::{NetworkPlace, Price, Settings};
use crate::lifecycle::gc::{Ground, Remote, Shelf};
use crate::lifecycle::policy::Policy;
use crate::lifecycle::renew::{Options, Payer, RenewError, Report, Terms, Watch, renew};
use crate::lifecycle::{Activity, Leases, Ledger, LedgerError};
use crate::publish::analyze::Class;
use crate::repo::refs::RefStore;
use crate::repo::{Access, Address, Loader};
use crate::walrus::{BlobStore, LocalDir, StoreError};

/// Renews what the names of a network need.
pub struct Renewer<'a> {
    /// Settings in force.
    pub settings: &'a Settings,
    /// Who decodes nodes.
    pub loader: Arc<Loader>,
    /// How heads are opened.
    pub access: Access,
    /// Where blobs are extended, or stored once more.
    pub store: Arc<dyn BlobStore>,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// What, for how long, and for how much.
    pub terms: Terms,
    /// Only tell.
    pub dry_run: bool,
    /// What is mounted.
    pub held: &'a [Address],
}

/// Why nothing could be renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// It failed.
    #[error(transparent)]
    Renew(#[from] RenewError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A retention rule is none.
    #[error("[retention]: {0}")]
    Policy(String),
}

impl Renewer<'_> {
    /// Renews what is due.
    ///
    /// # Errors
    /// [`RenewalError`]; what was renewed until then is in the ledger.
    pub async fn run(&self, wish: &Wish<'_>, watch: Watch<'_>) -> Result<Report, RenewalError> {
        let settings = self.settings;
        let network = &settings.network.value;
        let policy = Policy::of(&settings.retention.value).map_err(|bad| {
            let bad: Vec<String> = bad.iter().map(ToString::to_string).collect();
            RenewalError::Policy(bad.join("; "))
        })?;
        let local = match &network.place {
            NetworkPlace::Local { dir } => Some(LocalDir::open(dir, network.max_body)?),
            NetworkPlace::Http { .. } => None,
        };
        let remote = Remote(self.store.as_ref());
        let shelf: &dyn Shelf = match &local {
            Some(local) => local,
            None => &remote,
        };
        let ledger = Ledger::new(&settings.dirs.data.join("ledger"), &network.name);
        // On a disk of one's own nothing is paid.
        let free = Price {
            storage: 0.0,
            write: 0.0,
            ..Price::mainnet()
        };
        let price = match local.is_some() {
            true => free,
            false => settings.price.clone().unwrap_or_else(Price::mainnet),
        };
        let ground = Ground {
            shelf,
            loader: &self.loader,
            access: &self.access,
            refs: &RefStore::new(&settings.refs_dir()),
            held: wish.held,
            ledger: &ledger.entries()?,
            leases: &Leases::new(&settings.lifecycle_dir().join("leases")),
            policy: &policy,
            activity: &Activity::new(settings.activity()),
            levels: &settings.retention.value.activity,
            class_of: |path| Class::of(path, &[]).name(),
            dir: &settings.lifecycle_dir(),
            price: &price,
        };
        let payer = Payer {
            command: settings.renewal.value.command.clone(),
        };
        let options = Options {
            dry_run: wish.dry_run,
            terms: wish.terms,
            epoch_length: network.epoch_s.map(Duration::from_secs),
            now: unix_seconds(),
        };
        Ok(renew(&ground, &ledger, &self.store, &payer, &options, watch).await?)
    }
}
