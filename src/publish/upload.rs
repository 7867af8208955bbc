//! Uploads blobs, except those that are stored already.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinError;

use super::error::PublishError;
use super::options::Progress;
use crate::leases::PublishLease;
use walgit_format::chunk::BlobId;
use walrus_client::{BlobStore, PutOptions, StoredBlob};
use walrus_encoding::blob_id::blob_id;

/// Returns the stored form of a blob, and its ID. Every published blob passes through
/// this function.
pub(super) fn seal_blob(
    store: &dyn BlobStore,
    body: Bytes,
) -> Result<(BlobId, Bytes), PublishError> {
    let body = store.seal(body)?;
    Ok((blob_id(&body)?, body))
}

/// Runs blocking work; a task that ends without a result is an error.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PublishError> + Send + 'static,
) -> Result<T, PublishError> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// The result of a task.
pub(super) fn joined<T>(
    result: Result<Result<T, PublishError>, JoinError>,
) -> Result<T, PublishError> {
    match result {
        Ok(done) => done,
        Err(error) if error.is_panic() => Err(PublishError::Internal("a task panicked")),
        Err(_) => Err(PublishError::Interrupted),
    }
}

/// Uploads of one publish.
#[derive(Clone)]
pub(super) struct Uploads {
    pub(super) store: Arc<dyn BlobStore>,
    pub(super) options: PutOptions,
    pub(super) lease: Option<Arc<PublishLease>>,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) summary: Arc<Mutex<UploadSummary>>,
}

/// Result of the uploads.
#[derive(Clone, Debug, Default)]
pub(super) struct UploadSummary {
    /// All blobs, in order.
    pub(super) all: Vec<StoredBlob>,
    /// Blobs that the store did not have.
    pub(super) uploaded: Vec<StoredBlob>,
    /// Number of blobs that the store had.
    pub(super) present: u64,
}

impl Uploads {
    /// Uploads packs as they arrive; returns their IDs, in order.
    pub(super) async fn run(
        &self,
        mut packs: Receiver<Bytes>,
    ) -> Result<Vec<BlobId>, PublishError> {
        let mut ids = Vec::new();
        while let Some(body) = packs.recv().await {
            let store = self.store.clone();
            let (id, body) = blocking(move || seal_blob(store.as_ref(), body)).await?;
            self.put(id, body).await?;
            ids.push(id);
        }
        Ok(ids)
    }

    /// Ensures that a blob is stored.
    pub(super) async fn put(&self, id: BlobId, body: Bytes) -> Result<(), PublishError> {
        let len = body.len() as u64;
        let mut blob = StoredBlob {
            blob: id,
            len,
            end_epoch: None,
            object_id: None,
        };
        // First, so that the blob is not collected after the store was queried for it.
        if let Some(lease) = self.lease.clone() {
            blocking(move || Ok(lease.claim(id)?)).await?;
        }
        let is_new = if self.store.len(id).await? == Some(len) {
            self.ensure_lifetime(&mut blob).await?;
            false
        } else {
            self.progress.uploading(len);
            let stored = self.store.put(id, body, &self.options).await?;
            blob.end_epoch = stored.end_epoch;
            blob.object_id = stored.object_id;
            stored.uploaded
        };
        let mut summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        if is_new {
            summary.uploaded.push(blob.clone());
        } else {
            summary.present += 1;
        }
        summary.all.push(blob);
        Ok(())
    }

    /// Extends an existing blob to the end epoch of a new one, if the store supports it.
    async fn ensure_lifetime(&self, blob: &mut StoredBlob) -> Result<(), PublishError> {
        let Some(epoch) = self.store.epoch().await? else {
            return Ok(());
        };
        let end = epoch.saturating_add(self.options.epochs);
        if let Some(paid) = self.store.extend(blob.blob, end).await? {
            blob.end_epoch = Some(paid.end_epoch);
            blob.object_id = paid.object_id;
        }
        Ok(())
    }

    /// Returns the results.
    pub(super) fn summary(&self) -> UploadSummary {
        let summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        summary.clone()
    }
}
