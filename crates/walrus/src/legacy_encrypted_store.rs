//! Layer over a store of encrypted payloads: decrypts them on read.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    BlobLifetimes, BlobReader, BlobStore, BlobWriter, PutOptions, PutReceipt, ReadRange, Rejected,
    StoreError, StoreLayer, Verifier,
};
use walgit_format::chunk::{BlobId, PAYLOAD_OVERHEAD, SecretKey, open_payload};

/// Longest payload that is decrypted, in bytes: its tag covers the whole payload, which
/// is therefore in memory before any byte is returned.
pub const MAX_PAYLOAD_BYTES: u64 = 256 << 20;

/// Returns the content of encrypted payloads: offsets and lengths are those of the plain
/// bytes. A payload with a wrong tag is corrupt, and the next gateway is tried.
#[derive(Debug)]
pub struct LegacyEncryptedStore {
    inner: Arc<dyn BlobStore>,
    keys: Vec<SecretKey>,
    at_rest: SecretKey,
}

impl LegacyEncryptedStore {
    /// Decrypts the blobs of `inner` with any of `keys`. A key derived from the first
    /// one encrypts the content in the disk cache.
    ///
    /// `None` without a key.
    pub fn new(inner: Arc<dyn BlobStore>, keys: Vec<SecretKey>) -> Option<Self> {
        let at_rest = keys.first()?.at_rest();
        Some(LegacyEncryptedStore {
            inner,
            keys,
            at_rest,
        })
    }
}

impl StoreLayer for LegacyEncryptedStore {
    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&*self.inner)
    }
}

impl BlobLifetimes for LegacyEncryptedStore {}

#[async_trait]
impl BlobReader for LegacyEncryptedStore {
    async fn read(
        &self,
        blob: BlobId,
        read_range: ReadRange,
        verify: &mut Verifier<'_>,
    ) -> Result<(), StoreError> {
        let at_most = match read_range {
            ReadRange::Whole { at_most } => at_most.saturating_add(PAYLOAD_OVERHEAD),
            ReadRange::Part(_) => MAX_PAYLOAD_BYTES,
        };
        let full_range = ReadRange::Whole {
            at_most: at_most.min(MAX_PAYLOAD_BYTES),
        };
        self.inner
            .read(blob, full_range, &mut |payload: Bytes| {
                let (_, plain) = open_payload(&self.keys, &payload).map_err(Rejected::because)?;
                match read_range {
                    ReadRange::Whole { .. } => verify(plain),
                    ReadRange::Part(range) if range.end() <= plain.len() as u64 => {
                        verify(plain.slice(range.start() as usize..range.end() as usize))
                    }
                    ReadRange::Part(_) => Err(Rejected::because(
                        "the content ends before the requested range",
                    )),
                }
            })
            .await
    }

    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        let len = self.inner.len(blob).await?;
        Ok(len.map(|len| len.saturating_sub(PAYLOAD_OVERHEAD)))
    }

    fn at_rest(&self) -> Option<&SecretKey> {
        Some(&self.at_rest)
    }
}

#[async_trait]
impl BlobWriter for LegacyEncryptedStore {
    async fn put(&self, _: BlobId, _: Bytes, _: &PutOptions) -> Result<PutReceipt, StoreError> {
        Err(StoreError::NoEndpoint("publisher of encrypted content"))
    }

    fn max_body(&self) -> u64 {
        0
    }
}
