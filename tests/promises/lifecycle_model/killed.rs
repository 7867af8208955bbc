//! What is killed in the middle: collections, renewals and publishes.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use walgit_format::chunk::BlobId;
use walgit_fs::lifecycle::Lease;
use walgit_fs::lifecycle::gc::{Deletion, Shelf, Shelved};
use walgit_fs::publish::Claims;
use walrus_client::{
    Accept, BlobStore, Extent, Lifetime, LocalDir, PutOptions, StoreError, Stored,
};

use super::MAX_BODY;
use super::parts::Parts;
use crate::support::block_on;

/// Fails at some deletion, as a process that is killed there would end.
pub(super) struct Mortal<'a> {
    pub(super) dir: &'a LocalDir,
    /// Deletions until then; none for never.
    pub(super) left: AtomicU64,
    pub(super) before: bool,
}

#[async_trait]
impl Shelf for Mortal<'_> {
    async fn blobs(&self) -> Result<Option<Vec<Shelved>>, StoreError> {
        self.dir.blobs().await
    }

    async fn is_expired(&self, blob: BlobId) -> Result<Option<bool>, StoreError> {
        Shelf::is_expired(self.dir, blob).await
    }

    async fn delete(&self, blob: BlobId) -> Result<Deletion, StoreError> {
        let dies = self.left.fetch_sub(1, Ordering::SeqCst) == 0;
        let killed = || StoreError::Unavailable {
            place: "the test".into(),
            why: "killed".into(),
        };
        if dies && self.before {
            return Err(killed());
        }
        let deleted = Shelf::delete(self.dir, blob).await?;
        match dies {
            true => Err(killed()),
            false => Ok(deleted),
        }
    }
}

/// A store on which a renewal stops for ever at some blob, as a process that is
/// killed there would.
#[derive(Debug)]
pub(super) struct Stopping {
    pub(super) dir: LocalDir,
    pub(super) left: AtomicU64,
    pub(super) stopped: tokio::sync::Notify,
}

#[async_trait]
impl BlobStore for Stopping {
    async fn read(
        &self,
        blob: BlobId,
        extent: Extent,
        accept: &mut Accept<'_>,
    ) -> Result<(), StoreError> {
        self.dir.read(blob, extent, accept).await
    }

    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        self.dir.len(blob).await
    }

    async fn put(&self, _: BlobId, _: Bytes, _: &PutOptions) -> Result<Stored, StoreError> {
        panic!("what can be extended is not stored once more")
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.dir.flush().await
    }

    fn max_body(&self) -> u64 {
        MAX_BODY
    }

    async fn epoch(&self) -> Result<Option<u32>, StoreError> {
        self.dir.epoch().await
    }

    async fn lifetime(&self, blob: BlobId) -> Result<Option<Lifetime>, StoreError> {
        self.dir.lifetime(blob).await
    }

    async fn extend(&self, blob: BlobId, end: u32) -> Result<Option<Lifetime>, StoreError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.stopped.notify_one();
            std::future::pending::<()>().await;
        }
        self.dir.extend(blob, end).await
    }
}

/// Claims so many blobs and then no more.
#[derive(Debug)]
pub(super) struct Claiming {
    pub(super) lease: Lease,
    pub(super) left: AtomicU64,
    /// What is collected after each, and when.
    pub(super) beside: Option<(Parts, u64)>,
    pub(super) collected: AtomicU64,
}

impl Claims for Claiming {
    fn claim(&self, blob: BlobId) -> Result<(), String> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            0 => return Err("killed".into()),
            _ => self.lease.claim(blob).map_err(|error| error.to_string())?,
        }
        if let Some((parts, now)) = &self.beside {
            self.collected.fetch_add(1, Ordering::SeqCst);
            let (parts, now) = (parts.clone(), *now);
            let collector = std::thread::spawn(move || {
                block_on(async { parts.collect(&parts.store, now).await.unwrap() })
            });
            collector.join().unwrap();
        }
        Ok(())
    }
}
