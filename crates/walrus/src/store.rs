//! Traits of a store of blobs.
//!
//! A store reads ([`BlobReader`]), writes ([`BlobWriter`]) and manages lifetimes
//! ([`BlobLifetimes`]); a [`BlobStore`] does all three. A layer over another store returns
//! it from [`StoreLayer::inner`]. Every method has a default that forwards to it, so a
//! layer implements only the methods that it changes.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::net::{Conditions, EndpointHealth, FailureCount};
use walgit_format::chunk::{BlobId, ByteRange, SecretKey};

/// Verifies the bytes of a read and keeps what it needs of them.
///
/// Called once per gateway that answered, until it accepts.
pub type Verifier<'a> = dyn FnMut(Bytes) -> Result<(), Rejected> + Send + 'a;

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
pub enum ReadRange {
    /// The whole blob; a blob of more than `at_most` bytes is rejected as corrupt.
    Whole {
        /// Upper bound of the length, in bytes: limits the memory that a lying gateway can
        /// make us use.
        at_most: u64,
    },
    /// Exactly this range of bytes.
    Part(ByteRange),
}

impl ReadRange {
    /// Most bytes that a read may return.
    pub fn at_most(&self) -> u64 {
        match self {
            ReadRange::Whole { at_most } => *at_most,
            ReadRange::Part(range) => range.len(),
        }
    }
}

/// A store of immutable blobs, addressed by their Walrus IDs.
pub trait BlobStore: BlobReader + BlobWriter + BlobLifetimes {}

impl<T: BlobReader + BlobWriter + BlobLifetimes> BlobStore for T {}

/// A store, or a layer over another one.
pub trait StoreLayer: Send + Sync + fmt::Debug {
    /// Returns the store under this layer.
    fn inner(&self) -> Option<&dyn BlobStore> {
        None
    }
}

/// Reads blobs.
#[async_trait]
pub trait BlobReader: StoreLayer {
    /// Reads a blob, or a part of it, into `verify`.
    ///
    /// Never passes `verify` more bytes than requested. Ends within the store's deadline.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the bytes of every gateway were rejected, otherwise the
    /// error of the last gateway. A range that ends past the blob is
    /// [`StoreError::OutOfRange`].
    async fn read(
        &self,
        blob: BlobId,
        read_range: ReadRange,
        verify: &mut Verifier<'_>,
    ) -> Result<(), StoreError> {
        match self.inner() {
            Some(inner) => inner.read(blob, read_range, verify).await,
            None => Err(StoreError::NoEndpoint("aggregator")),
        }
    }

    /// Returns the length of a blob in bytes, as stored and billed, or `None` if the store
    /// does not have the blob.
    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        match self.inner() {
            Some(inner) => inner.len(blob).await,
            None => Ok(None),
        }
    }

    /// Returns the key that encrypts the content of this store in the disk cache, or `None`
    /// if the content is not secret.
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
        self.inner().map(|it| it.health()).unwrap_or_default()
    }
}

/// Stores blobs.
#[async_trait]
pub trait BlobWriter: StoreLayer {
    /// Returns the bytes to store for `body`; their ID is the ID of the blob. They are equal
    /// to `body` unless the store encrypts. Blocking.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    fn seal(&self, body: Bytes) -> Result<Bytes, StoreError> {
        match self.inner() {
            Some(inner) => inner.seal(body),
            None => Ok(body),
        }
    }

    /// Stores `body`, which [`BlobWriter::seal`] returned and whose ID the caller computed
    /// as `blob`.
    ///
    /// Storing an existing blob is not an error, and costs no upload unless its lifetime
    /// must be extended. The blob is durable after [`BlobWriter::flush`].
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] over the body limit, [`StoreError::WrongId`] if the
    /// publisher certifies a different ID.
    async fn put(
        &self,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<PutReceipt, StoreError> {
        match self.inner() {
            Some(inner) => inner.put(blob, body, options).await,
            None => Err(StoreError::NoEndpoint("publisher")),
        }
    }

    /// Largest blob that [`BlobWriter::put`] accepts, in bytes.
    fn max_body(&self) -> u64 {
        self.inner().map_or(0, |it| it.max_body())
    }

    /// Makes everything stored, extended and deleted so far durable. No name or ledger may
    /// durably record such a change before this returns.
    async fn flush(&self) -> Result<(), StoreError> {
        match self.inner() {
            Some(inner) => inner.flush().await,
            None => Ok(()),
        }
    }
}

/// Reads and changes the paid lifetimes of blobs.
#[async_trait]
pub trait BlobLifetimes: StoreLayer {
    /// Returns the present epoch, or `None` if it is unknown.
    async fn epoch(&self) -> Result<Option<u32>, StoreError> {
        match self.inner() {
            Some(inner) => inner.epoch().await,
            None => Ok(None),
        }
    }

    /// Ends `epochs` epochs of an embedded network and returns the present one. `None` if
    /// only time ends epochs.
    async fn advance(&self, epochs: u32) -> Result<Option<u32>, StoreError> {
        match self.inner() {
            Some(inner) => inner.advance(epochs).await,
            None => Ok(None),
        }
    }

    /// Returns the paid lifetime of a blob, or `None` if it is unknown or the store does not
    /// have the blob.
    async fn lifetime(&self, blob: BlobId) -> Result<Option<Lifetime>, StoreError> {
        match self.inner() {
            Some(inner) => inner.lifetime(blob).await,
            None => Ok(None),
        }
    }

    /// Pays for an existing blob until the epoch `end`, the first in which it may be gone,
    /// and returns its paid lifetime. Never shortens a lifetime. `None` if the store can
    /// only extend by another [`put`](BlobWriter::put).
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

/// Result of a [`BlobWriter::put`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutReceipt {
    /// Whether bytes were uploaded; `false` if the blob was already stored.
    pub uploaded: bool,
    /// First epoch in which the blob is gone, if known.
    pub end_epoch: Option<u32>,
    /// Sui object that owns the storage, if known.
    pub object_id: Option<String>,
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
    #[serde(rename = "not_asked")]
    pub skipped: u64,
    /// Failures by endpoint and kind.
    pub failures: Vec<FailureCount>,
    /// The aggregators, then the publishers, in the order configured.
    pub endpoints: Vec<EndpointHealth>,
}
