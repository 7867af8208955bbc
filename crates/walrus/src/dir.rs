//! A directory of blobs: the `local` network, and what `devnet` serves.
//!
//! `blobs/ID` holds a blob, `meta/ID.json` what a publisher would know about
//! it, and `epoch` the number of the present epoch: 1 where there is no such
//! file. A directory has no clock, so an epoch ends when somebody says so
//! ([`LocalDir::advance`]). Then what was paid for until that epoch is gone: nobody
//! can read it, and whoever stores it stores it anew. Files appear whole or not
//! at all. Several processes may use a directory: what is known is changed by one
//! at a time ([`LocalDir::alone`]), so that nobody shortens what another paid for.
//!
//! What is stored, extended or deleted survives a power loss once
//! [`BlobStore::flush`] has returned: names are flushed once for many blobs. What a
//! blob holds is on disk before it has a name.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Accept, BlobStore, Extent, Lifetime, PutOptions, StoreError, Stored};
use crate::network::MAX_EPOCHS;
use walgit_durable::{AtomicFile, FileLock, PRIVATE_FILE};
use walgit_format::chunk::{BlobId, ByteRange};

/// Largest file that is read beside blobs, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// What is known about a stored blob beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobMeta {
    /// Length in bytes.
    pub size: u64,
    /// The Sui object that owns it, as `0x` and 64 digits.
    pub object_id: String,
    /// Epoch in which it was stored.
    pub registered_epoch: u32,
    /// First epoch in which it is gone.
    pub end_epoch: u32,
    /// Whether its owner may delete it before.
    pub deletable: bool,
    /// The address its object was sent to; `None` where its publisher kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// How many objects were made for it before this one.
    #[serde(default)]
    pub earlier_objects: u32,
}

impl BlobMeta {
    /// What is taken to be true of a blob whose record is lost.
    fn unknown(blob: BlobId, size: u64, epoch: u32) -> Self {
        BlobMeta {
            size,
            object_id: object_id(blob),
            registered_epoch: epoch,
            end_epoch: epoch.saturating_add(1),
            deletable: true,
            owner: None,
            earlier_objects: 0,
        }
    }

    /// The same, with what is known of the same blob already: it lives until the
    /// last of its objects ends, and nobody can delete one that is permanent.
    pub fn beside(mut self, known: Option<&BlobMeta>) -> Self {
        if let Some(known) = known {
            self.end_epoch = self.end_epoch.max(known.end_epoch);
            self.deletable &= known.deletable;
        }
        self
    }

    fn lifetime(self) -> Lifetime {
        Lifetime {
            end_epoch: self.end_epoch,
            deletable: self.deletable,
            object_id: Some(self.object_id),
        }
    }
}

/// Held by whoever changes what is known ([`LocalDir::alone`]).
#[derive(Debug)]
pub struct Alone {
    _lock: FileLock,
}

/// Blobs in a directory.
#[derive(Clone, Debug)]
pub struct LocalDir {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    max_body: u64,
}

/// The epoch of a directory that is new.
const FIRST_EPOCH: u32 = 1;

impl LocalDir {
    /// Opens a directory, or makes it.
    ///
    /// # Errors
    /// When it cannot be made or written to.
    pub fn open(root: &Path, max_body: u64) -> Result<Self, StoreError> {
        for part in ["blobs", "meta"] {
            let path = root.join(part);
            walgit_durable::create_private_dir(&path)
                .map_err(|source| StoreError::Io { path, source })?;
        }
        let root = root.into();
        Ok(LocalDir {
            inner: Arc::new(Inner { root, max_body }),
        })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Where the bytes of a blob are or would be.
    pub fn blob_path(&self, blob: BlobId) -> PathBuf {
        self.inner.root.join("blobs").join(blob.to_string())
    }

    fn meta_path(&self, blob: BlobId) -> PathBuf {
        self.inner.root.join("meta").join(format!("{blob}.json"))
    }

    fn epoch_path(&self) -> PathBuf {
        self.inner.root.join("epoch")
    }

    /// The present epoch.
    ///
    /// # Errors
    /// When the file that tells it cannot be read, or is damaged: then nobody
    /// knows what has expired.
    pub fn present_epoch(&self) -> Result<u32, StoreError> {
        let path = self.epoch_path();
        let read = match walgit_durable::read_regular(&path, MAX_FILE) {
            Ok(text) => (String::from_utf8_lossy(&text).trim().parse()).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FIRST_EPOCH),
            Err(error) => Err(error),
        };
        read.map_err(|source| StoreError::Io { path, source })
    }

    /// Ends so many epochs; the present one then.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn advance(&self, epochs: u32) -> Result<u32, StoreError> {
        let path = self.epoch_path();
        let _alone = self.alone()?;
        let epoch = self.present_epoch()?.saturating_add(epochs);
        walgit_durable::write_atomic(&path, epoch.to_string().as_bytes())
            .map_err(|source| StoreError::Io { path, source })?;
        Ok(epoch)
    }

    /// Keeps every other process and thread from changing what is known, until it
    /// is dropped. Whoever has it must not ask for it again.
    ///
    /// # Errors
    /// When its file cannot be made or locked.
    pub fn alone(&self) -> Result<Alone, StoreError> {
        let path = self.inner.root.join("lock");
        match FileLock::exclusive(&path) {
            Ok(lock) => Ok(Alone { _lock: lock }),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    /// Whether the last epoch that a blob was paid for is over.
    ///
    /// # Errors
    /// When the present epoch cannot be read.
    pub fn has_expired(&self, blob: BlobId) -> Result<bool, StoreError> {
        let epoch = self.present_epoch()?;
        // Nothing ends before the second.
        let meta = (epoch > FIRST_EPOCH).then(|| self.meta(blob)).flatten();
        Ok(meta.is_some_and(|meta| meta.end_epoch <= epoch))
    }

    /// Until when a blob is paid for that can be read. One of which nothing is
    /// known lives on, and is told as paid for until the next epoch.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn lifetime_blocking(&self, blob: BlobId) -> Result<Option<Lifetime>, StoreError> {
        let Some(size) = self.stat(blob)? else {
            return Ok(None);
        };
        let meta = match self.meta(blob) {
            Some(meta) => meta,
            None => BlobMeta::unknown(blob, size, self.present_epoch()?),
        };
        Ok(Some(meta.lifetime()))
    }

    /// Pays for a blob until the epoch `end`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where it is gone; [`StoreError::Refused`] for an
    /// epoch further ahead than can be paid for.
    pub fn extend_blocking(&self, blob: BlobId, end: u32) -> Result<Lifetime, StoreError> {
        let place = self.inner.root.display().to_string();
        let _alone = self.alone()?;
        let Some(size) = self.stat(blob)? else {
            return Err(StoreError::NotFound { blob, place });
        };
        let epoch = self.present_epoch()?;
        if end > epoch.saturating_add(MAX_EPOCHS) {
            return Err(StoreError::Refused {
                place,
                status: 400,
                why: format!("at most {MAX_EPOCHS} epochs ahead can be paid for"),
            });
        }
        let known = self.meta(blob);
        let mut meta = known.unwrap_or_else(|| BlobMeta::unknown(blob, size, epoch));
        if end > meta.end_epoch {
            meta.end_epoch = end;
            self.write_meta(blob, &meta)?;
        }
        Ok(meta.lifetime())
    }

    /// Deletes a blob, expired or not; `false` where it is permanent and has not.
    /// After a power loss it may be there again, unless the store was flushed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn delete_blocking(&self, blob: BlobId) -> Result<bool, StoreError> {
        let _alone = self.alone()?;
        let permanent = self.meta(blob).is_some_and(|meta| !meta.deletable);
        if permanent && self.stat(blob)?.is_some() {
            return Ok(false);
        }
        for path in [self.blob_path(blob), self.meta_path(blob)] {
            walgit_durable::unlink(&path).map_err(|source| StoreError::Io { path, source })?;
        }
        Ok(true)
    }

    /// Length of a blob, if it is there and has not expired.
    pub fn stat(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        if self.has_expired(blob)? {
            return Ok(None);
        }
        self.on_disk(blob)
    }

    /// Length of a blob whose bytes are there, whether or not it has expired.
    fn on_disk(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        let path = self.blob_path(blob);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    /// Bytes of a blob.
    pub fn read_blocking(&self, blob: BlobId, extent: Extent) -> Result<Bytes, StoreError> {
        let path = self.blob_path(blob);
        let gone = || StoreError::NotFound {
            blob,
            place: self.inner.root.display().to_string(),
        };
        if self.has_expired(blob)? {
            return Err(gone());
        }
        let file = match walgit_durable::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        let read = || -> io::Result<Option<Vec<u8>>> {
            let len = file.metadata()?.len();
            let range = match extent {
                Extent::Whole { at_most } if len > at_most => return Ok(None),
                Extent::Whole { .. } => ByteRange::new(0, len),
                Extent::Part(range) if range.end() > len => return Ok(None),
                Extent::Part(range) => range,
            };
            let mut bytes = vec![0; range.len() as usize];
            file.read_exact_at(&mut bytes, range.start())?;
            Ok(Some(bytes))
        };
        match read() {
            Ok(Some(bytes)) => Ok(bytes.into()),
            Ok(None) => Err(StoreError::OutOfRange {
                blob,
                range: ByteRange::new(0, extent.at_most()),
            }),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    /// What is known about a blob, if it is there. A damaged record counts as
    /// none: it is written anew at the next `put`.
    pub fn meta(&self, blob: BlobId) -> Option<BlobMeta> {
        let text = walgit_durable::read_regular(&self.meta_path(blob), MAX_FILE).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes a blob whole or not at all, then what is known about it. Both are
    /// durable after [`LocalDir::flush_blocking`].
    pub fn write(&self, blob: BlobId, body: &[u8], meta: &BlobMeta) -> Result<(), StoreError> {
        self.write_body(blob, body)?;
        self.write_meta(blob, meta)
    }

    fn write_body(&self, blob: BlobId, body: &[u8]) -> Result<(), StoreError> {
        let path = self.blob_path(blob);
        place(&path, body).map_err(|source| StoreError::Io { path, source })
    }

    /// Writes what is known about a blob.
    pub fn write_meta(&self, blob: BlobId, meta: &BlobMeta) -> Result<(), StoreError> {
        let path = self.meta_path(blob);
        let json = serde_json::to_vec_pretty(meta).map_err(io::Error::from);
        json.and_then(|json| place(&path, &json))
            .map_err(|source| StoreError::Io { path, source })
    }

    /// Makes everything durable that this or another process has stored, extended
    /// or deleted here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush_blocking(&self) -> Result<(), StoreError> {
        for part in ["blobs", "meta"] {
            let path = self.inner.root.join(part);
            walgit_durable::sync_dir(&path).map_err(|source| StoreError::Io { path, source })?;
        }
        Ok(())
    }

    /// Every blob that is there, expired ones too.
    pub fn list(&self) -> Result<Vec<BlobId>, StoreError> {
        let path = self.inner.root.join("blobs");
        let entries = fs::read_dir(&path).map_err(|source| StoreError::Io { path, source })?;
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        Ok(entries
            .filter_map(|entry| name(entry)?.parse().ok())
            .collect())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = self.clone();
        let place = self.inner.root.display().to_string();
        match tokio::task::spawn_blocking(move || work(&this)).await {
            Ok(done) => done,
            Err(error) => Err(StoreError::Unavailable {
                place,
                why: error.to_string(),
            }),
        }
    }
}

/// The object a publisher would make: any 32 bytes will do, so those of the
/// blob's ID, hashed.
pub fn object_id(blob: BlobId) -> String {
    format!("0x{}", blake3::hash(blob.as_bytes()).to_hex())
}

/// Writes a file whose content is on disk before it has its name.
fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path, PRIVATE_FILE)?;
    file.write_all(bytes)?;
    file.place()
}

#[async_trait]
impl BlobStore for LocalDir {
    async fn read(
        &self,
        blob: BlobId,
        extent: Extent,
        accept: &mut Accept<'_>,
    ) -> Result<(), StoreError> {
        let bytes = self
            .blocking(move |this| this.read_blocking(blob, extent))
            .await?;
        accept(bytes).map_err(|rejected| StoreError::Corrupt {
            blob,
            place: self.inner.root.display().to_string(),
            why: rejected.0,
        })
    }

    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        self.blocking(move |this| this.stat(blob)).await
    }

    async fn put(
        &self,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<Stored, StoreError> {
        if !(1..=MAX_EPOCHS).contains(&options.epochs) {
            return Err(StoreError::Refused {
                place: self.inner.root.display().to_string(),
                status: 400,
                why: format!("blobs are stored for 1 to {MAX_EPOCHS} epochs"),
            });
        }
        let len = body.len() as u64;
        if len > self.inner.max_body {
            return Err(StoreError::TooLarge {
                len,
                limit: self.inner.max_body,
                place: self.inner.root.display().to_string(),
            });
        }
        let options = options.clone();
        self.blocking(move |this| {
            // One of another length is what a crash or a meddler left.
            let mut uploaded = this.stat(blob)? != Some(len);
            if uploaded {
                this.write_body(blob, &body)?;
            }
            let _alone = this.alone()?;
            // Somebody deleted it meanwhile.
            if this.on_disk(blob)? != Some(len) {
                this.write_body(blob, &body)?;
                uploaded = true;
            }
            let epoch = this.present_epoch()?;
            let known = this.meta(blob).filter(|known| known.end_epoch > epoch);
            let meta = BlobMeta {
                size: len,
                end_epoch: epoch.saturating_add(options.epochs),
                deletable: options.deletable,
                ..known
                    .clone()
                    .unwrap_or_else(|| BlobMeta::unknown(blob, len, epoch))
            }
            .beside(known.as_ref());
            this.write_meta(blob, &meta)?;
            Ok(Stored {
                uploaded,
                end_epoch: Some(meta.end_epoch),
                object_id: Some(meta.object_id),
            })
        })
        .await
    }

    fn max_body(&self) -> u64 {
        self.inner.max_body
    }

    async fn epoch(&self) -> Result<Option<u32>, StoreError> {
        self.blocking(|this| this.present_epoch()).await.map(Some)
    }

    async fn advance(&self, epochs: u32) -> Result<Option<u32>, StoreError> {
        let advanced = self.blocking(move |this| LocalDir::advance(this, epochs));
        advanced.await.map(Some)
    }

    async fn lifetime(&self, blob: BlobId) -> Result<Option<Lifetime>, StoreError> {
        self.blocking(move |this| this.lifetime_blocking(blob))
            .await
    }

    async fn extend(&self, blob: BlobId, end: u32) -> Result<Option<Lifetime>, StoreError> {
        let extended = self.blocking(move |this| this.extend_blocking(blob, end));
        extended.await.map(Some)
    }

    async fn delete(&self, blob: BlobId) -> Result<bool, StoreError> {
        self.blocking(move |this| this.delete_blocking(blob)).await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.blocking(|this| this.flush_blocking()).await
    }
}

#[cfg(test)]
mod tests;
