//! Layer over a store for dry runs: discards writes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Accept, BlobStore, Extent, Lifetime, PutOptions, StoreError, StoreHealth, Stored};
use crate::net::Conditions;
use walgit_format::chunk::{BlobId, SecretKey};

/// Reads from `inner`, and reports writes as successful without storing anything.
#[derive(Debug)]
pub struct DryStore {
    inner: Arc<dyn BlobStore>,
}

impl DryStore {
    /// Creates a layer over `inner`.
    pub fn new(inner: Arc<dyn BlobStore>) -> Self {
        DryStore { inner }
    }
}

#[async_trait]
impl BlobStore for DryStore {
    async fn read(
        &self,
        blob: BlobId,
        extent: Extent,
        accept: &mut Accept<'_>,
    ) -> Result<(), StoreError> {
        self.inner.read(blob, extent, accept).await
    }

    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        self.inner.len(blob).await
    }

    fn seal(&self, body: Bytes) -> Result<Bytes, StoreError> {
        self.inner.seal(body)
    }

    async fn put(&self, _: BlobId, _: Bytes, _: &PutOptions) -> Result<Stored, StoreError> {
        Ok(Stored {
            uploaded: true,
            end_epoch: None,
            object_id: None,
        })
    }

    fn max_body(&self) -> u64 {
        self.inner.max_body()
    }

    async fn epoch(&self) -> Result<Option<u32>, StoreError> {
        self.inner.epoch().await
    }

    async fn lifetime(&self, blob: BlobId) -> Result<Option<Lifetime>, StoreError> {
        self.inner.lifetime(blob).await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush().await
    }

    fn at_rest(&self) -> Option<&SecretKey> {
        self.inner.at_rest()
    }

    fn conditions(&self) -> Option<Conditions> {
        self.inner.conditions()
    }

    fn health(&self) -> StoreHealth {
        self.inner.health()
    }
}
