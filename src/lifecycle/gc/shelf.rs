//! What stores tell a collector, and let it do.

use async_trait::async_trait;

use super::{Deletion, Shelf, Shelved};
use crate::chunk::BlobId;
use crate::walrus::{LocalDir, StoreError};

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

    async fn is_expired(&self, _: BlobId) -> Result<Option<bool>, StoreError> {
        Ok(None)
    }

    async fn delete(&self, blob: BlobId) -> Result<Deletion, StoreError> {
        let path = self.blob_path(blob);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(Deletion::Deleted),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Deletion::Deleted),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }
}

/// A store that tells nothing and deletes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Untold;

#[async_trait]
impl Shelf for Untold {
    async fn blobs(&self) -> Result<Option<Vec<Shelved>>, StoreError> {
        Ok(None)
    }

    async fn is_expired(&self, _: BlobId) -> Result<Option<bool>, StoreError> {
        Ok(None)
    }

    async fn delete(&self, _: BlobId) -> Result<Deletion, StoreError> {
        Ok(Deletion::Refused)
    }
}
