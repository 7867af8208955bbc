//! Blob storage on Walrus: reading, storing, blob IDs and lifetimes.
//!
//! A [`BlobStore`] reads ranges of immutable blobs and stores new ones. [`LocalDir`]
//! implements it with a directory and no server, [`HttpStore`] with the aggregators and
//! publishers of a real network or of our embedded one. On the server side, `walrus_devnet`
//! serves a `LocalDir` as the network would. No module above this one depends on HTTP.
//!
//! **No bytes leave a store unverified.** [`BlobStore::read`] does not return bytes. It
//! passes them to the caller's [`Accept`], which verifies them against its own hashes
//! and keeps what it needs. When `Accept` rejects them, the store tries the next
//! gateway. Failover on bad bytes is thus the same code path as failover on errors, and
//! a caller cannot forget to verify.
//!
//! Allowed dependencies: `net` (retry, failover, the failure log), `auth`, and the names
//! in `chunk`.
//! in `chunk`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod auth;
pub mod clock;
mod dir;
mod dry;
mod http;
pub mod net;
pub mod network;
mod private;
mod sealed;

pub use dir::{Alone, BlobMeta, LocalDir, object_id};
pub use dry::DryStore;
pub use http::{HttpConfig, HttpStore};
pub use private::{PrivateHeaders, PrivateStore};
pub use sealed::{MAX_PAYLOAD, SealedStore};

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::auth::Credentials;
use crate::net::{
    BadCertificates, Conditions, EndpointRules, FailureCount, HedgeRules, Journal, Retry, Standing,
};
use crate::network::{Network, NetworkPlace};
use walgit_format::chunk::{BlobId, ByteRange, SecretKey};

/// Verifies the bytes of a read and keeps what it needs of them.
///
/// Called once per gateway that answered, until it accepts.
pub type Accept<'a> = dyn FnMut(Bytes) -> Result<(), Rejected> + Send + 'a;

/// The bytes from a gateway do not match the request; holds the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rejected(pub String);

impl Rejected {
    /// Creates a rejection with this reason.
    pub fn because(why: impl fmt::Display) -> Self {
        Rejected(why.to_string())
    }
}

/// How much of a blob to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The whole blob; a blob of more than `at_most` bytes is rejected as corrupt.
    Whole {
        /// Upper bound of the length, in bytes: limits what a lying gateway can make us
        /// hold.
        at_most: u64,
    },
    /// Exactly this range of bytes.
    Part(ByteRange),
}

impl Extent {
    /// Most bytes that a read may return.
    pub fn at_most(&self) -> u64 {
        match self {
            Extent::Whole { at_most } => *at_most,
            Extent::Part(range) => range.len(),
        }
    }
}

/// A store of immutable blobs, addressed by their Walrus IDs.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Returns the store under this one, if this is a layer over another store. Methods
    /// with a default call it, so a layer implements only the methods that it changes.
    fn inner(&self) -> Option<&dyn BlobStore> {
        None
    }

    /// Reads a blob, or a part of it, into `accept`.
    ///
    /// Never passes `accept` more bytes than requested. Ends within the store's
    /// deadline.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the bytes of every gateway were rejected, otherwise
    /// the error of the last gateway. A range that ends past the blob is
    /// [`StoreError::OutOfRange`].
    async fn read(
        &self,
        blob: BlobId,
        extent: Extent,
        accept: &mut Accept<'_>,
    ) -> Result<(), StoreError>;

    /// Returns the length of a blob in bytes, as stored and billed, or `None` if the
    /// store does not have the blob.
    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError>;

    /// Returns the bytes to store for `body`; their ID is the ID of the blob. They are
    /// equal to `body` unless the store encrypts. Blocking.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    fn seal(&self, body: Bytes) -> Result<Bytes, StoreError> {
        match self.inner() {
            Some(inner) => inner.seal(body),
            None => Ok(body),
        }
    }

    /// Stores `body`, which [`BlobStore::seal`] returned and whose ID the caller
    /// computed as `blob`.
    ///
    /// Storing an existing blob is not an error, and costs no upload unless its lifetime
    /// must be extended. The blob is durable after [`BlobStore::flush`].
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] over the body limit, [`StoreError::WrongId`] if the
    /// publisher certifies a different ID.
    async fn put(
        &self,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<Stored, StoreError>;

    /// Largest blob that [`BlobStore::put`] accepts, in bytes.
    fn max_body(&self) -> u64;

    /// Returns the present epoch, or `None` if it is unknown.
    async fn epoch(&self) -> Result<Option<u32>, StoreError> {
        match self.inner() {
            Some(inner) => inner.epoch().await,
            None => Ok(None),
        }
    }

    /// Ends `epochs` epochs of an embedded network and returns the present one. `None`
    /// if epochs end by themselves.
    async fn advance(&self, epochs: u32) -> Result<Option<u32>, StoreError> {
        match self.inner() {
            Some(inner) => inner.advance(epochs).await,
            None => Ok(None),
        }
    }

    /// Returns the paid lifetime of a blob, or `None` if it is unknown or the store does
    /// not have the blob.
    async fn lifetime(&self, blob: BlobId) -> Result<Option<Lifetime>, StoreError> {
        match self.inner() {
            Some(inner) => inner.lifetime(blob).await,
            None => Ok(None),
        }
    }

    /// Pays for an existing blob until the epoch `end`, the first in which it may be
    /// gone, and returns its paid lifetime. Never shortens a lifetime. `None` if the
    /// store can only extend by another [`put`](BlobStore::put).
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the blob is already gone.
    async fn extend(&self, blob: BlobId, end: u32) -> Result<Option<Lifetime>, StoreError> {
        match self.inner() {
            Some(inner) => inner.extend(blob, end).await,
            None => Ok(None),
        }
    }

    /// Deletes a blob permanently and returns whether it is gone. `false` if the store
    /// cannot or may not delete it: the blob is permanent or has another owner.
    async fn delete(&self, blob: BlobId) -> Result<bool, StoreError> {
        match self.inner() {
            Some(inner) => inner.delete(blob).await,
            None => Ok(false),
        }
    }

    /// Makes everything stored, extended and deleted so far durable. No name or ledger
    /// may durably record such a change before this returns.
    ///
    /// # Errors
    /// If writing to disk fails.
    async fn flush(&self) -> Result<(), StoreError>;

    /// Returns the key that encrypts the content of this store in the disk cache, or
    /// `None` if the content is not secret.
    fn at_rest(&self) -> Option<&SecretKey> {
        self.inner()?.at_rest()
    }

    /// Returns the network conditions to the gateway of the next read. `None` for a
    /// directory, and before the first read.
    fn conditions(&self) -> Option<Conditions> {
        self.inner()?.conditions()
    }

    /// Traffic and failures since the store was opened.
    fn health(&self) -> StoreHealth {
        self.inner().map(BlobStore::health).unwrap_or_default()
    }
}

/// Paid lifetime of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// First epoch in which the blob may be gone.
    pub end_epoch: u32,
    /// Whether the owner may delete the blob earlier.
    pub deletable: bool,
    /// Sui object that owns the storage, if known.
    pub object_id: Option<String>,
}

/// Traffic and failures of a store since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreHealth {
    /// Requests made.
    pub requests: u64,
    /// Bytes of content received.
    pub received: u64,
    /// Bytes of content sent.
    pub sent: u64,
    /// Answers that failed verification.
    pub corrupt: u64,
    /// Reads that were hedged because they took too long.
    pub hedges: u64,
    /// Hedged reads in which the second request was faster.
    pub hedges_won: u64,
    /// Requests skipped because they would have failed.
    pub not_asked: u64,
    /// Failures by endpoint and kind.
    pub failures: Vec<FailureCount>,
    /// The aggregators, then the publishers, in the order configured.
    pub endpoints: Vec<EndpointHealth>,
}

/// State of one gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointHealth {
    /// URL, without a password.
    pub url: String,
    /// Role of the gateway.
    pub role: Role,
    /// Network conditions; `None` before the first answer, and for publishers.
    pub conditions: Option<Conditions>,
    /// State of its circuit breaker.
    pub breaker: BreakerState,
    /// Seconds until the next probe, if the breaker is open.
    pub probe_in_s: Option<u64>,
    /// Remaining seconds of quarantine, during which it is asked last, after corrupt
    /// bytes.
    pub quarantined_s: Option<u64>,
    /// Number of proven corrupt answers.
    pub lies: u32,
    /// Present limit of concurrent requests.
    pub at_once: u32,
}

/// Role of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// For reads.
    Aggregator,
    /// For writes.
    Publisher,
}

/// State of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All requests pass.
    Closed,
    /// No requests pass, after several failures in a row.
    Open,
    /// A probe tests whether the server has recovered.
    HalfOpen,
}

impl From<Standing> for BreakerState {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Closed => BreakerState::Closed,
            Standing::Open(_) => BreakerState::Open,
            Standing::HalfOpen => BreakerState::HalfOpen,
        }
    }
}

/// A stored blob, as a ledger records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBlob {
    /// Blob ID.
    pub blob: BlobId,
    /// Length in bytes.
    pub len: u64,
    /// First epoch in which the blob is gone, if known.
    pub end_epoch: Option<u32>,
    /// Sui object that owns the storage, if known.
    pub object_id: Option<String>,
}

/// Opens the store of a network profile for reading; failures are logged in `journal`.
///
/// # Errors
/// If the directory of a local network cannot be used, a URL is invalid, or certificates
/// cannot be read.
/// certificates cannot be read.
pub fn open(
    network: &Network,
    deadline: Duration,
    journal: Option<Arc<Journal>>,
) -> Result<Arc<dyn BlobStore>, StoreError> {
    open_as(Credentials::default(), network, deadline, journal)
}

/// Opens the store for reading and for writing with `credentials`.
///
/// # Errors
/// Same as [`open`].
pub fn open_as(
    credentials: Credentials,
    network: &Network,
    deadline: Duration,
    journal: Option<Arc<Journal>>,
) -> Result<Arc<dyn BlobStore>, StoreError> {
    match &network.place {
        NetworkPlace::Local { dir } => Ok(Arc::new(LocalDir::open(dir, network.max_body)?)),
        NetworkPlace::Http {
            aggregators,
            publishers,
        } => {
            let (policy, defaults) = (&network.policy, HttpConfig::default());
            Ok(Arc::new(HttpStore::new(HttpConfig {
                aggregators: aggregators.clone(),
                publishers: publishers.clone(),
                max_body: network.max_body,
                // Leaves time for another server when one is silent for a third of the
                // deadline.
                silence: defaults.silence.min(deadline / 3),
                retry: Retry::of(policy, deadline),
                rules: EndpointRules::of(policy),
                hedge: HedgeRules::of(policy),
                ca: policy.ca.clone(),
                journal,
                credentials,
                admin: network.admin.clone(),
            })?))
        }
    }
}

/// Options for storing a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOptions {
    /// Number of epochs from now; 1 to 53.
    pub epochs: u32,
    /// Whether the owner may delete the blob before they end.
    pub deletable: bool,
}

impl Default for PutOptions {
    fn default() -> Self {
        PutOptions {
            epochs: 1,
            deletable: true,
        }
    }
}

/// Result of a [`BlobStore::put`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Whether bytes were uploaded; `false` if the blob was already stored.
    pub uploaded: bool,
    /// First epoch in which the blob is gone, if known.
    pub end_epoch: Option<u32>,
    /// Sui object that owns the storage, if known.
    pub object_id: Option<String>,
}

/// Error of a store operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No gateway has the blob.
    #[error("blob {blob} is not stored in {place}")]
    NotFound {
        /// Requested blob.
        blob: BlobId,
        /// Place that was searched.
        place: String,
    },
    /// The requested range ends past the blob.
    #[error("range {range} lies outside blob {blob}")]
    OutOfRange {
        /// Requested blob.
        blob: BlobId,
        /// Requested range.
        range: ByteRange,
    },
    /// The bytes of every gateway that answered failed verification.
    #[error("blob {blob} read from {place} is corrupt: {why}")]
    Corrupt {
        /// Requested blob.
        blob: BlobId,
        /// Last gateway that returned bad bytes.
        place: String,
        /// Verification error.
        why: String,
    },
    /// The blob exceeds the body limit of the publisher.
    #[error("blob of {len} bytes is over the {limit} that {place} accepts")]
    TooLarge {
        /// Length of the blob.
        len: u64,
        /// The limit.
        limit: u64,
        /// Publisher or store that sets the limit.
        place: String,
    },
    /// Plaintext of a private repository would be stored where everyone can read it.
    #[error("blob {blob} is not encrypted with the key of this repository, and is not stored")]
    Plaintext {
        /// The blob.
        blob: BlobId,
    },
    /// The publisher stored different bytes, or computes IDs differently.
    #[error("{place} certified blob {found} where {expected} was sent")]
    WrongId {
        /// ID computed locally.
        expected: BlobId,
        /// ID in the publisher's answer.
        found: String,
        /// The publisher.
        place: String,
    },
    /// The gateway refused: credentials, law, or an invalid request.
    #[error("{place} refused ({status}): {why}")]
    Refused {
        /// The gateway.
        place: String,
        /// HTTP status.
        status: u16,
        /// Message of the gateway.
        why: String,
    },
    /// A publisher did not accept the credentials, or none exist; the message says what
    /// to do.
    #[error("{0}")]
    SignIn(String),
    /// Unreachable, timed out or failing, after all retries.
    #[error("{place} is unavailable: {why}")]
    Unavailable {
        /// Gateway tried last.
        place: String,
        /// Reason.
        why: String,
    },
    /// No endpoint is configured for the operation.
    #[error("network profile has no {0}; add one with --{0} URL or in the config file")]
    NoEndpoint(&'static str),
    /// The URL is not usable.
    #[error("`{url}` is not an endpoint: {why}")]
    BadEndpoint {
        /// URL as configured.
        url: String,
        /// Reason.
        why: String,
    },
    /// The trusted certificates are not usable.
    #[error(transparent)]
    BadCertificates(#[from] BadCertificates),
    /// The disk under a local store failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
}
