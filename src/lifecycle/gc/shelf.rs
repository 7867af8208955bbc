//! Store operations for the collector.

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
        // The journal records it as gone, so a crash must not restore it.
        self.flush().await?;
        Ok(match deleted {
            true => Deletion::Deleted,
            false => Deletion::Refused,
        })
    }
}

/// A network store: cannot list blobs, but may report expiry epochs and may delete.
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
        // The source of epochs may be a different service than the one that stores blobs.
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
