//! Interrupted collections, renewals and publishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use walgit_format::chunk::BlobId;
use walrus_client::{
    BlobLifetimes, BlobReader, BlobStore, BlobWriter, Lifetime, LocalDir, PutOptions, PutReceipt,
    StoreError, StoreLayer,
};

use super::components::Components;
use crate::support::block_on;

/// Fails at a deletion, like a killed process.
#[derive(Debug)]
pub(super) struct KilledCollection {
    pub(super) dir: LocalDir,
    /// Deletions until then; zero for never.
    pub(super) left: AtomicU64,
    pub(super) before: bool,
}

impl StoreLayer for KilledCollection {
    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&self.dir)
    }
}

impl BlobReader for KilledCollection {}

#[async_trait]
impl BlobWriter for KilledCollection {
    async fn put(&self, _: BlobId, _: Bytes, _: &PutOptions) -> Result<PutReceipt, StoreError> {
        panic!("a collection stores nothing")
    }
}

#[async_trait]
impl BlobLifetimes for KilledCollection {
    async fn delete(&self, blob: BlobId) -> Result<bool, StoreError> {
        let dies = self.left.fetch_sub(1, Ordering::SeqCst) == 0;
        let killed = || StoreError::Unavailable {
            place: "the test".into(),
            why: "killed".into(),
        };
        if dies && self.before {
            return Err(killed());
        }
        let deleted = BlobLifetimes::delete(&self.dir, blob).await?;
        match dies {
            true => Err(killed()),
            false => Ok(deleted),
        }
    }
}

/// A store on which a renewal stops at some blob, like a killed process.
#[derive(Debug)]
pub(super) struct InterruptedRenewal {
    pub(super) dir: LocalDir,
    pub(super) left: AtomicU64,
    pub(super) stopped: tokio::sync::Notify,
}

impl StoreLayer for InterruptedRenewal {
    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&self.dir)
    }
}

impl BlobReader for InterruptedRenewal {}

#[async_trait]
impl BlobWriter for InterruptedRenewal {
    async fn put(&self, _: BlobId, _: Bytes, _: &PutOptions) -> Result<PutReceipt, StoreError> {
        panic!("extendable blobs are not stored again")
    }
}

#[async_trait]
impl BlobLifetimes for InterruptedRenewal {
    async fn extend(&self, blob: BlobId, end: u32) -> Result<Option<Lifetime>, StoreError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.stopped.notify_one();
            std::future::pending::<()>().await;
        }
        self.dir.extend(blob, end).await
    }
}

/// A store that is killed after a number of claims. A publish asks for the length of
/// each blob right after it has claimed it.
#[derive(Debug)]
pub(super) struct KilledPublish {
    pub(super) dir: LocalDir,
    pub(super) left: AtomicU64,
    /// What to collect after each claim, and when.
    pub(super) collection: Option<(Components, u64)>,
    pub(super) collected: AtomicU64,
}

impl StoreLayer for KilledPublish {
    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&self.dir)
    }
}

#[async_trait]
impl BlobReader for KilledPublish {
    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Err(StoreError::Unavailable {
                place: "the test".into(),
                why: "killed".into(),
            });
        }
        if let Some((components, now)) = self.collection.clone() {
            self.collected.fetch_add(1, Ordering::SeqCst);
            let collect = move || {
                let store = Arc::new(components.store.clone());
                block_on(async { components.collect(store, now).await.unwrap() });
            };
            tokio::task::spawn_blocking(collect).await.unwrap();
        }
        self.dir.len(blob).await
    }
}

impl BlobWriter for KilledPublish {}

impl BlobLifetimes for KilledPublish {}
