//! What stores tell a collector, and let it do.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Deletion, Shelf, Shelved};
use walgit_format::chunk::BlobId;
use walrus_client::{BlobStore, LocalDir, StoreError};

#[async_trait]
impl Shelf for LocalDir {
    async fn blobs(&self) -> Result<Option<Vec<Shelved>>, StoreError> {
        let mut shelved = Vec::new();
        for blob in self.list()? {
            // Gone since it was listed.
            let Ok(metadata) = std::fs::metadata(self.blob_path(blob)) else {
                continue;
            };
            let since = metadata.modified().ok();
            let since = since.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            shelved.push(Shelved {
                blob,
                len: metadata.len(),
                since: since.map(|since| since.as_secs()),
            });
        }
        Ok(Some(shelved))
    }

    async fn is_expired(&self, blob: BlobId) -> Result<Option<bool>, StoreError> {
        self.has_expired(blob).map(Some)
    }

    async fn delete(&self, blob: BlobId) -> Result<Deletion, StoreError> {
        let deleted = BlobStore::delete(self, blob).await?;
        // It is noted as gone now, and must not come back.
        self.flush().await?;
        Ok(match deleted {
            true => Deletion::Deleted,
            false => Deletion::Refused,
        })
    }
}

/// A network: it does not tell what it has, but perhaps until when something is
/// paid for, and deletes perhaps.
#[derive(Clone, Debug)]
pub struct Remote(pub Arc<dyn BlobStore>);

#[async_trait]
impl Shelf for Remote {
    async fn blobs(&self) -> Result<Option<Vec<Shelved>>, StoreError> {
        Ok(None)
    }

    async fn is_expired(&self, blob: BlobId) -> Result<Option<bool>, StoreError> {
        if self.0.epoch().await?.is_none() {
            return Ok(None);
        }
        if self.0.lifetime(blob).await?.is_some() {
            return Ok(Some(false));
        }
        // Who tells epochs may be somebody else than who keeps blobs.
        Ok(match self.0.len(blob).await? {
            Some(_) => None,
            None => Some(true),
        })
    }

    async fn delete(&self, blob: BlobId) -> Result<Deletion, StoreError> {
        Ok(match self.0.delete(blob).await? {
            true => Deletion::Deleted,
            false => Deletion::Refused,
        })
    }
}
