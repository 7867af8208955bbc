//! Uploads blobs, except those that are stored already.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use super::{Progress, PublishError};
use crate::leases::Lease;
use walgit_format::chunk::BlobId;
use walrus_client::{BlobStore, PutOptions, StoredBlob};
use walrus_encoding::blob_id::blob_id;

/// Returns the stored form of a blob, and its ID. Every published blob passes through
/// this function.
pub(super) fn finished(
    store: &dyn BlobStore,
    body: Bytes,
) -> Result<(BlobId, Bytes), PublishError> {
    let body = store.seal(body)?;
    Ok((blob_id(&body)?, body))
}

/// Uploads of one publish.
#[derive(Clone)]
pub(super) struct Uploads {
    store: Arc<dyn BlobStore>,
    options: PutOptions,
    lease: Option<Arc<Lease>>,
    progress: Arc<dyn Progress>,
    done: Arc<Mutex<Uploaded>>,
}

/// Result of the uploads.
#[derive(Clone, Debug, Default)]
pub(super) struct Uploaded {
    /// All blobs, in order.
    pub(super) all: Vec<StoredBlob>,
    /// Blobs that the store did not have.
    pub(super) uploaded: Vec<StoredBlob>,
    /// Number of blobs that the store had.
    pub(super) present: u64,
}

impl Uploads {
    pub(super) fn new(
        store: Arc<dyn BlobStore>,
        options: PutOptions,
        lease: Option<Arc<Lease>>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        Uploads {
            store,
            options,
            lease,
            progress,
            done: Arc::default(),
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    /// Uploads packs as they arrive; returns their IDs, in order.
    pub(super) async fn run(
        &self,
        mut packs: Receiver<Bytes>,
    ) -> Result<Vec<BlobId>, PublishError> {
        let mut ids = Vec::new();
        while let Some(body) = packs.recv().await {
            let store = self.store.clone();
            let (id, body) = super::blocking(move || finished(store.as_ref(), body)).await?;
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
            super::blocking(move || Ok(lease.claim(id)?)).await?;
        }
        if self.store.len(id).await? == Some(len) {
            self.pay_for(&mut blob).await?;
            let mut done = self.done();
            done.present += 1;
            done.all.push(blob);
            return Ok(());
        }
        self.progress.uploading(len);
        let stored = self.store.put(id, body, &self.options).await?;
        blob.end_epoch = stored.end_epoch;
        blob.object_id = stored.object_id;
        let mut done = self.done();
        match stored.uploaded {
            true => done.uploaded.push(blob.clone()),
            false => done.present += 1,
        }
        done.all.push(blob);
        Ok(())
    }

    /// Extends an existing blob to the end epoch of a new one, if the store supports it.
    async fn pay_for(&self, blob: &mut StoredBlob) -> Result<(), PublishError> {
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

    fn done(&self) -> MutexGuard<'_, Uploaded> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the results.
    pub(super) fn finish(self) -> Uploaded {
        self.done().clone()
    }
}
