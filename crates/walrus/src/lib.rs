//! Walrus as a store of blobs: who keeps them, how they are named, what they cost.
//!
//! A [`BlobStore`] reads ranges of immutable blobs and takes new ones. Three
//! things implement it: [`LocalDir`] (a directory, no server), [`HttpStore`]
//! (aggregators and publishers of a real network, or of our own embedded one)
//! and, from the other side of the wire, [`devnet`] serves a `LocalDir` as the
//! network would. Nothing above this room knows HTTP.
//!
//! **No bytes leave a store unchecked.** [`BlobStore::read`] does not return
//! bytes; it hands them to the caller's [`Accept`], which verifies them against
//! hashes of its own and keeps what it needs. When it refuses them, the store
//! asks the next gateway: failover on bad bytes is the same code path as
//! failover on errors, and forgetting to verify is not possible by accident.
//!
//! May touch: `net` (retry, failover, the failure log), `auth`, and the names
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

/// Judges the bytes of a read and keeps what it needs of them.
///
/// Called once per gateway that answered, until it accepts.
pub type Accept<'a> = dyn FnMut(Bytes) -> Result<(), Rejected> + Send + 'a;

/// The bytes a gateway gave are not what was asked for; holds why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rejected(pub String);

impl Rejected {
    /// A refusal for this reason.
    pub fn because(why: impl fmt::Display) -> Self {
        Rejected(why.to_string())
    }
}

/// How much of a blob to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it; one of more than `at_most` bytes is refused as corrupt.
    Whole {
        /// Longest it may be, in bytes: what a lying gateway can make us hold.
        at_most: u64,
    },
    /// These bytes of it, neither more nor fewer.
    Part(ByteRange),
}

impl Extent {
    /// Most bytes a read may give.
    pub fn at_most(&self) -> u64 {
        match self {
            Extent::Whole { at_most } => *at_most,
            Extent::Part(range) => range.len(),
        }
    }
}

/// A place that keeps immutable blobs by their Walrus ID.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Reads a blob, or a part of it, into `accept`.
    ///
    /// Never hands `accept` more bytes than were asked for. Ends within the
    /// store's deadline.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when every gateway's bytes were refused, else
    /// what the last gateway failed with. A range that ends past the blob is
    /// [`StoreError::OutOfRange`].
    async fn read(
        &self,
        blob: BlobId,
        extent: Extent,
        accept: &mut Accept<'_>,
    ) -> Result<(), StoreError>;

    /// The length of a blob in bytes, as it is stored and billed, or `None` where
    /// the store has no such blob.
    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError>;

    /// What is put in place of these bytes, whose ID is then that of the blob:
    /// they themselves, but where the store encrypts. Blocks for as long as it
    /// takes.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    fn seal(&self, body: Bytes) -> Result<Bytes, StoreError> {
        Ok(body)
    }

    /// Stores `body`, whose ID the caller has computed to be `blob`, and which
    /// [`BlobStore::seal`] gave.
    ///
    /// Storing a blob that is there already is not an error and, unless it
    /// must live longer, costs no upload. It is durable after
    /// [`BlobStore::flush`].
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] over the body limit, [`StoreError::WrongId`]
    /// when the publisher certifies another ID than ours.
    async fn put(
        &self,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<Stored, StoreError>;

    /// Largest blob [`BlobStore::put`] takes, in bytes.
    fn max_body(&self) -> u64;

    /// The present epoch; `None` where nobody tells.
    async fn epoch(&self) -> Result<Option<u32>, StoreError> {
        Ok(None)
    }

    /// Ends so many epochs, where this is a network of one's own; the present one
    /// then. `None` where epochs end by themselves.
    async fn advance(&self, _epochs: u32) -> Result<Option<u32>, StoreError> {
        Ok(None)
    }

    /// Until when a blob is paid for; `None` where nobody tells, and where the
    /// store has no such blob.
    async fn lifetime(&self, _blob: BlobId) -> Result<Option<Lifetime>, StoreError> {
        Ok(None)
    }

    /// Pays for a blob that is there until the epoch `end`, which is the first
    /// in which it may be gone, and tells for how long it is paid for now. Never
    /// makes a lifetime shorter. `None` where this store has no way to do that
    /// but to [`put`](BlobStore::put) the blob once more.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where it is gone already.
    async fn extend(&self, _blob: BlobId, _end: u32) -> Result<Option<Lifetime>, StoreError> {
        Ok(None)
    }

    /// Deletes a blob for ever; whether it is gone. `false` where this store
    /// cannot, or may not: what is permanent, or is not ours.
    async fn delete(&self, _blob: BlobId) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Makes what was stored, extended and deleted survive a power loss. Before it
    /// has returned, nothing durable may say that this was done: no name, no ledger.
    ///
    /// # Errors
    /// When the disk refuses.
    async fn flush(&self) -> Result<(), StoreError>;

    /// The key that what is read here must be kept under on disk; `None` where
    /// it is nobody's secret.
    fn at_rest(&self) -> Option<&SecretKey> {
        None
    }

    /// What the way to it is like now: to the gateway that the next read goes
    /// to. `None` where there is no way (a directory), and before anything was
    /// read.
    fn conditions(&self) -> Option<Conditions> {
        None
    }

    /// Traffic and failures since the store was opened.
    fn health(&self) -> StoreHealth {
        StoreHealth::default()
    }
}

/// Until when a blob is paid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// First epoch in which it may be gone.
    pub end_epoch: u32,
    /// Whether its owner may delete it before.
    pub deletable: bool,
    /// The Sui object that owns its storage, where the store tells.
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
    /// Reads that were asked for a second time since they took too long.
    pub hedges: u64,
    /// Those of them where the second request was faster.
    pub hedges_won: u64,
    /// How often somebody was not asked, since it would have been in vain.
    pub not_asked: u64,
    /// Failures by endpoint and kind.
    pub failures: Vec<FailureCount>,
    /// The aggregators, then the publishers, in the order configured.
    pub endpoints: Vec<EndpointHealth>,
}

/// What is known about one gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointHealth {
    /// Its URL, without a password.
    pub url: String,
    /// What it is for.
    pub role: Role,
    /// What the way to it is like; `None` before its first answer, and for
    /// publishers.
    pub conditions: Option<Conditions>,
    /// Whether it is asked.
    pub breaker: BreakerState,
    /// Seconds until it is asked again, where it is left alone.
    pub probe_in_s: Option<u64>,
    /// Seconds for which it is asked last, after it lied.
    pub quarantined_s: Option<u64>,
    /// How often it lied, to our knowledge.
    pub lies: u32,
    /// Most requests it gets at once now.
    pub at_once: u32,
}

/// What a gateway is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To read from.
    Aggregator,
    /// To write to.
    Publisher,
}

/// Whether a gateway is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// As usual.
    Closed,
    /// It failed several times in a row, and is left alone.
    Open,
    /// It is being looked whether it is back.
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

/// A blob that was stored, as a ledger remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBlob {
    /// Its ID.
    pub blob: BlobId,
    /// Its length in bytes.
    pub len: u64,
    /// First epoch in which it is gone, where the store told.
    pub end_epoch: Option<u32>,
    /// The Sui object that owns its storage, where the store told.
    pub object_id: Option<String>,
}

/// Opens the store of a network profile to read from; failures are kept in
/// `journal`.
///
/// # Errors
/// When the directory of a local one cannot be used, a URL is none, or
/// certificates cannot be read.
pub fn open(
    network: &Network,
    deadline: Duration,
    journal: Option<Arc<Journal>>,
) -> Result<Arc<dyn BlobStore>, StoreError> {
    open_as(Credentials::default(), network, deadline, journal)
}

/// The same, to write to as well, as who we are.
///
/// # Errors
/// The same.
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
                // A server that is silent for a third of the time leaves some
                // for another one.
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

/// How a blob is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOptions {
    /// For how many epochs from now; 1 to 53.
    pub epochs: u32,
    /// Whether its owner may delete it before they end.
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

/// What became of a [`BlobStore::put`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Whether bytes were uploaded; `false` where the blob was there already.
    pub uploaded: bool,
    /// First epoch in which it is gone, where the store told.
    pub end_epoch: Option<u32>,
    /// The Sui object that owns the storage, where the store told.
    pub object_id: Option<String>,
}

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No gateway has it.
    #[error("blob {blob} is not stored in {place}")]
    NotFound {
        /// The blob asked for.
        blob: BlobId,
        /// Where it was looked for.
        place: String,
    },
    /// The range asked for ends past the blob.
    #[error("range {range} lies outside blob {blob}")]
    OutOfRange {
        /// The blob asked for.
        blob: BlobId,
        /// The range asked for.
        range: ByteRange,
    },
    /// Every gateway that answered gave bytes that failed verification.
    #[error("blob {blob} read from {place} is corrupt: {why}")]
    Corrupt {
        /// The blob asked for.
        blob: BlobId,
        /// The last gateway that lied.
        place: String,
        /// What the verification said.
        why: String,
    },
    /// Over the body limit of the publisher.
    #[error("blob of {len} bytes is over the {limit} that {place} accepts")]
    TooLarge {
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
        /// Who set it.
        place: String,
    },
    /// What is private is about to be stored for everybody to read.
    #[error("blob {blob} is not encrypted with the key of this repository, and is not stored")]
    Plaintext {
        /// The blob.
        blob: BlobId,
    },
    /// The publisher stored something else, or computes IDs differently.
    #[error("{place} certified blob {found} where {expected} was sent")]
    WrongId {
        /// What we computed.
        expected: BlobId,
        /// What it answered.
        found: String,
        /// The publisher.
        place: String,
    },
    /// The gateway refuses: credentials, law, or a request it does not accept.
    #[error("{place} refused ({status}): {why}")]
    Refused {
        /// The gateway.
        place: String,
        /// HTTP status.
        status: u16,
        /// Its own words.
        why: String,
    },
    /// A publisher does not know us, or there is nothing to show it; says what
    /// to do about that.
    #[error("{0}")]
    SignIn(String),
    /// Not reachable, timed out or failing, after all retries.
    #[error("{place} is unavailable: {why}")]
    Unavailable {
        /// The gateway tried last.
        place: String,
        /// What happened.
        why: String,
    },
    /// Nothing is configured that could do it.
    #[error("network profile has no {0}; add one with --{0} URL or in the config file")]
    NoEndpoint(&'static str),
    /// Not a URL we can use.
    #[error("`{url}` is not an endpoint: {why}")]
    BadEndpoint {
        /// As configured.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Certificates to trust are none.
    #[error(transparent)]
    BadCertificates(#[from] BadCertificates),
    /// The disk under a local store failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
