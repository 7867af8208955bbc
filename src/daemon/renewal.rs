//! Renewal of needed blobs with the user's settings.

use std::sync::Arc;
use std::time::Duration;

use super::ground::{GroundError, Grounds};
use crate::config::Settings;
use crate::lifecycle::Ledger;
use crate::lifecycle::policy::Policy;
use crate::lifecycle::renew::{Options, Payer, RenewError, Report, Terms, Watch, renew};
use crate::repo::{Access, Loader};
use walrus_client::BlobStore;
use walrus_client::clock::unix_seconds;
use walrus_encoding::Price;

/// Renews the blobs that the names of a network need.
pub struct Renewer<'a> {
    /// Settings in force.
    pub settings: &'a Settings,
    /// Loads and decodes nodes.
    pub loader: Arc<Loader>,
    /// How heads are opened.
    pub access: Access,
    /// Store in which blobs are extended or stored again.
    pub store: Arc<dyn BlobStore>,
}

/// Options of a renewal.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Margin, target and budget.
    pub terms: Terms,
    /// Reports without paying.
    pub dry_run: bool,
}

/// Reason why nothing could be renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The renewal failed.
    #[error(transparent)]
    Renew(#[from] RenewError),
    /// The needed blobs are unknown.
    #[error(transparent)]
    Ground(#[from] GroundError),
    /// A retention rule is invalid.
    #[error("[retention]: {0}")]
    Policy(String),
}

impl Renewer<'_> {
    /// Renews all due blobs.
    ///
    /// # Errors
    /// [`RenewalError`]; completed renewals are in the ledger.
    pub async fn run(&self, wish: &Wish, watch: Watch<'_>) -> Result<Report, RenewalError> {
        let settings = self.settings;
        let network = &settings.network.value;
        let policy = Policy::of(&settings.retention.value).map_err(|bad| {
            let bad: Vec<String> = bad.iter().map(ToString::to_string).collect();
            RenewalError::Policy(bad.join("; "))
        })?;
        // Storage on a local disk is free.
        let price = match network.is_free() {
            true => Price {
                storage: 0.0,
                write: 0.0,
                ..Price::mainnet()
            },
            false => settings.price(),
        };
        let (loader, access) = (&self.loader, &self.access);
        let grounds = tokio::task::block_in_place(|| {
            Grounds::new(settings, loader, access, &self.store, (policy, price))
        })?;
        let ground = grounds.ground();
        let ledger = Ledger::of(settings);
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
