//! Layer over a store for dry runs: discards writes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    BlobLifetimes, BlobReader, BlobStore, BlobWriter, Lifetime, PutOptions, PutReceipt, StoreError,
    StoreLayer,
};
use walgit_format::chunk::BlobId;

/// Reads from `inner`, and reports writes as successful without storing anything.
#[derive(Debug)]
pub struct DryRunStore {
    inner: Arc<dyn BlobStore>,
}

impl DryRunStore {
    /// Creates a layer over `inner`.
    pub fn new(inner: Arc<dyn BlobStore>) -> Self {
        DryRunStore { inner }
    }
}

impl StoreLayer for DryRunStore {
    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&*self.inner)
    }
}

impl BlobReader for DryRunStore {}

#[async_trait]
impl BlobWriter for DryRunStore {
    async fn put(&self, _: BlobId, _: Bytes, _: &PutOptions) -> Result<PutReceipt, StoreError> {
        Ok(PutReceipt {
            uploaded: true,
            end_epoch: None,
            object_id: None,
        })
    }
}

#[async_trait]
impl BlobLifetimes for DryRunStore {
    async fn advance(&self, _: u32) -> Result<Option<u32>, StoreError> {
        Ok(None)
    }

    async fn extend(&self, _: BlobId, _: u32) -> Result<Option<Lifetime>, StoreError> {
        Ok(None)
    }

    async fn delete(&self, _: BlobId) -> Result<bool, StoreError> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalDir;
    use walrus_encoding::blob_id::blob_id;

    #[tokio::test]
    async fn a_dry_run_reads_stored_blobs_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let local: Arc<dyn BlobStore> = Arc::new(LocalDir::open(dir.path(), 1 << 20).unwrap());
        let [there, new] = ["there", "new"].map(|text| (blob_id(text.as_bytes()).unwrap(), text));
        let options = PutOptions::default();
        local.put(there.0, there.1.into(), &options).await.unwrap();
        let lifetime = local.lifetime(there.0).await.unwrap();
        assert!(lifetime.is_some());

        let dry = DryRunStore::new(local.clone());
        assert_eq!(dry.lifetime(there.0).await.unwrap(), lifetime);
        assert_eq!(dry.epoch().await.unwrap(), Some(1));
        dry.put(new.0, new.1.into(), &options).await.unwrap();
        assert_eq!(dry.extend(there.0, 20).await.unwrap(), None);
        assert!(!dry.delete(there.0).await.unwrap());
        assert_eq!(dry.advance(1).await.unwrap(), None);

        assert_eq!(local.lifetime(there.0).await.unwrap(), lifetime);
        assert_eq!(local.epoch().await.unwrap(), Some(1));
        assert_eq!(local.len(new.0).await.unwrap(), None);
    }
}
