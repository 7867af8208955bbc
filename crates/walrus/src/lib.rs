//! Blob storage on Walrus: reading, storing, blob IDs and lifetimes.
//!
//! A [`BlobStore`] reads ranges of immutable blobs and stores new ones. [`LocalDir`]
//! implements it with a directory and no server, [`HttpStore`] with the aggregators and
//! publishers of a real network or of `walrus_devnet`, which serves a `LocalDir` as the
//! network would. Callers need no knowledge of HTTP.
//!
//! **No bytes leave a store unverified.** [`BlobReader::read`] does not return bytes. It
//! passes them to the caller's [`Verifier`], which checks them against its own hashes and
//! keeps the parts that it needs. If the verifier rejects them, the store tries the next
//! gateway, as it does after an error. A caller cannot forget to verify.
//!
//! `examples/local_store.rs` stores a blob and reads it back.
//!
//! May depend on: `walrus_encoding`, `walgit_format`, `walgit_durable`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod auth;
pub mod clock;
mod dry_run_store;
mod encrypted_store;
mod error;
mod http;
mod legacy_encrypted_store;
mod local_dir;
pub mod net;
pub mod network;
mod store;

pub use dry_run_store::DryRunStore;
pub use encrypted_store::{EncryptedHeaders, EncryptedStore};
pub use error::StoreError;
pub use http::{HttpConfig, HttpStore};
pub use legacy_encrypted_store::{LegacyEncryptedStore, MAX_PAYLOAD_BYTES};
pub use local_dir::{BlobMeta, LocalDir, object_id};
pub use store::{
    BlobLifetimes, BlobReader, BlobStore, BlobWriter, Lifetime, PutOptions, PutReceipt, ReadRange,
    Rejected, StoreHealth, StoreLayer, StoredBlob, Verifier,
};

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Credentials;
use crate::net::Journal;
use crate::network::{Network, NetworkPlace};

/// Opens the store of a network profile for reading; failures are logged in `journal`.
pub fn open(
    network: &Network,
    deadline: Duration,
    journal: Option<Arc<Journal>>,
) -> Result<Arc<dyn BlobStore>, StoreError> {
    open_as(Credentials::default(), network, deadline, journal)
}

/// Same as [`open`], also for writing, with `credentials`.
pub fn open_as(
    credentials: Credentials,
    network: &Network,
    deadline: Duration,
    journal: Option<Arc<Journal>>,
) -> Result<Arc<dyn BlobStore>, StoreError> {
    let (aggregators, publishers) = match &network.place {
        NetworkPlace::Local { dir } => {
            return Ok(Arc::new(LocalDir::open(dir, network.max_body)?));
        }
        NetworkPlace::Http {
            aggregators,
            publishers,
        } => (aggregators.clone(), publishers.clone()),
    };
    Ok(Arc::new(HttpStore::new(HttpConfig {
        aggregators,
        publishers,
        max_body: network.max_body,
        policy: network.policy.clone(),
        deadline,
        // Leaves time for another server when one is silent for a third of the deadline.
        read_timeout: HttpConfig::default().read_timeout.min(deadline / 3),
        journal,
        credentials,
        admin: network.admin.clone(),
    })?))
}
