//! Reads of blobs that this user stored recently.
//!
//! Behind a CDN or several gateways, a new blob may not be found for some seconds. A read
//! of such a blob waits for it, within the deadline of the operation. A blob that this
//! user did not store is reported as missing immediately.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ledger::Ledger;
use walgit_format::chunk::BlobId;
use walrus_client::clock::unix_seconds;
use walrus_client::net::{Retry, jittered};
use walrus_client::network::{Network, NetworkPlace};
use walrus_client::{
    BlobLifetimes, BlobReader, BlobStore, BlobWriter, PutOptions, PutReceipt, ReadRange,
    StoreError, StoreLayer, Verifier,
};

/// Time during which a blob counts as recently stored, in seconds.
const FRESH_SECONDS: u64 = 600;

/// A store that waits for recently stored blobs.
#[derive(Debug)]
pub struct FreshStore {
    inner: Arc<dyn BlobStore>,
    ledger: Ledger,
    /// Blobs stored through this store, which the ledger does not list yet.
    stored: Mutex<HashSet<BlobId>>,
    retry: Retry,
}

impl FreshStore {
    /// Wraps `inner`: reads of blobs that the ledger lists as recently stored wait for
    /// them, within `deadline`. Directory stores do not need to wait.
    pub fn over(
        inner: Arc<dyn BlobStore>,
        network: &Network,
        ledger: Ledger,
        deadline: Duration,
    ) -> Arc<dyn BlobStore> {
        match network.place {
            NetworkPlace::Local { .. } => inner,
            NetworkPlace::Http { .. } => Arc::new(FreshStore {
                inner,
                ledger,
                stored: Mutex::default(),
                retry: Retry::of(&network.policy, deadline),
            }),
        }
    }

    /// Whether this user stored a blob recently and still pays for it.
    async fn is_fresh(&self, blob: BlobId) -> bool {
        if self.stored.lock().contains(&blob) {
            return true;
        }
        let ledger = self.ledger.clone();
        let entries = tokio::task::spawn_blocking(move || ledger.entries());
        let Ok(Ok(entries)) = entries.await else {
            return false;
        };
        let since = unix_seconds().saturating_sub(FRESH_SECONDS);
        let mut recent = entries.iter().filter(|entry| entry.at >= since);
        let found = recent.find_map(|entry| entry.blobs.iter().find(|it| it.blob == blob));
        let Some(found) = found else {
            return false;
        };
        match (found.end_epoch, self.inner.epoch().await) {
            (Some(end), Ok(Some(epoch))) => epoch < end,
            _ => true,
        }
    }
}

impl StoreLayer for FreshStore {
    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&*self.inner)
    }
}

#[async_trait]
impl BlobReader for FreshStore {
    async fn read(
        &self,
        blob: BlobId,
        extent: ReadRange,
        accept: &mut Verifier<'_>,
    ) -> Result<(), StoreError> {
        let end = Instant::now() + self.retry.deadline;
        let mut pause = self.retry.first_pause;
        loop {
            let read = self.inner.read(blob, extent, accept).await;
            let wait = jittered(pause);
            if !matches!(read, Err(StoreError::NotFound { .. }))
                || Instant::now() + wait >= end
                || !self.is_fresh(blob).await
            {
                return read;
            }
            tracing::info!("blob {blob} was stored recently and is not found yet; retrying");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(self.retry.longest_pause);
        }
    }
}

#[async_trait]
impl BlobWriter for FreshStore {
    async fn put(
        &self,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<PutReceipt, StoreError> {
        let stored = self.inner.put(blob, body, options).await?;
        self.stored.lock().insert(blob);
        Ok(stored)
    }
}

#[async_trait]
impl BlobLifetimes for FreshStore {
    async fn delete(&self, blob: BlobId) -> Result<bool, StoreError> {
        self.stored.lock().remove(&blob);
        self.inner.delete(blob).await
    }
}
