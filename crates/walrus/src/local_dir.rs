//! A directory of blobs: the `local` network, and the store behind `devnet`.
//!
//! `blobs/ID` holds a blob, `meta/ID.json` the metadata that a publisher would keep, and
//! `epoch` the number of the present epoch: 1 if the file does not exist. A directory
//! has no clock, so an epoch ends only by [`LocalDir::advance`]. A blob paid for until
//! that epoch is then gone: it cannot be read, and storing it again writes it again.
//! Files appear whole or not at all. Several processes may share a directory: metadata
//! changes are serialized ([`LocalDir::lock_exclusive`]), so that no process shortens a
//! lifetime that another one paid for.
//!
//! Stored, extended and deleted blobs survive a power loss once [`BlobWriter::flush`] has
//! returned: file names are flushed once for many blobs. The content of a blob is on
//! disk before the blob has a name.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::network::MAX_EPOCHS;
use crate::{
    BlobLifetimes, BlobReader, BlobWriter, Lifetime, PutOptions, PutReceipt, ReadRange, StoreError,
    StoreLayer, Verifier,
};
use walgit_durable::{AtomicFile, FileLock, PRIVATE_FILE_MODE};
use walgit_format::chunk::{BlobId, ByteRange};

/// Largest file read other than blobs, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Metadata of a stored blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobMeta {
    /// Length in bytes.
    pub size: u64,
    /// Sui object that owns the blob, as `0x` and 64 digits.
    pub object_id: String,
    /// Epoch in which the blob was stored.
    pub registered_epoch: u32,
    /// First epoch in which the blob is gone.
    pub end_epoch: u32,
    /// Whether the owner may delete the blob earlier.
    pub deletable: bool,
    /// Address that received the object; `None` if the publisher kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Number of objects created for the blob before this one.
    #[serde(default)]
    pub earlier_objects: u32,
}

impl BlobMeta {
    /// Metadata assumed for a blob whose record is lost.
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

    /// Merges with existing metadata of the same blob: it lives until the last of its
    /// objects ends, and a permanent object prevents deletion.
    pub fn merge_max(mut self, known: Option<&BlobMeta>) -> Self {
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

/// Blobs in a directory.
#[derive(Clone, Debug)]
pub struct LocalDir {
    root: Arc<Path>,
    max_body: u64,
}

/// Epoch of a new directory.
const FIRST_EPOCH: u32 = 1;

impl LocalDir {
    /// Opens a directory, or creates it.
    pub fn open(root: &Path, max_body: u64) -> Result<Self, StoreError> {
        for part in ["blobs", "meta"] {
            let path = root.join(part);
            walgit_durable::create_private_dir(&path).map_err(StoreError::io(&path))?;
        }
        let root = root.into();
        Ok(LocalDir { root, max_body })
    }

    /// Root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn place(&self) -> String {
        self.root.display().to_string()
    }

    /// Path of a blob, whether or not it exists.
    pub fn blob_path(&self, blob: BlobId) -> PathBuf {
        self.root.join("blobs").join(blob.to_string())
    }

    fn meta_path(&self, blob: BlobId) -> PathBuf {
        self.root.join("meta").join(format!("{blob}.json"))
    }

    fn epoch_path(&self) -> PathBuf {
        self.root.join("epoch")
    }

    /// Returns the present epoch. A damaged file is an error, because expiry is then unknown.
    pub fn present_epoch(&self) -> Result<u32, StoreError> {
        let path = self.epoch_path();
        let read = match walgit_durable::read_regular(&path, MAX_FILE_BYTES) {
            Ok(text) => (String::from_utf8_lossy(&text).trim().parse()).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FIRST_EPOCH),
            Err(error) => Err(error),
        };
        read.map_err(StoreError::io(&path))
    }

    /// Ends `epochs` epochs and returns the present one.
    pub fn advance(&self, epochs: u32) -> Result<u32, StoreError> {
        let path = self.epoch_path();
        let _lock = self.lock_exclusive()?;
        let epoch = self.present_epoch()?.saturating_add(epochs);
        walgit_durable::write_atomic(&path, epoch.to_string().as_bytes())
            .map_err(StoreError::io(&path))?;
        Ok(epoch)
    }

    /// Locks metadata against changes by other processes and threads until the guard is
    /// dropped. Not reentrant.
    pub fn lock_exclusive(&self) -> Result<FileLock, StoreError> {
        let path = self.root.join("lock");
        FileLock::exclusive(&path).map_err(StoreError::io(&path))
    }

    /// Whether the last paid epoch of a blob is over.
    pub fn has_expired(&self, blob: BlobId) -> Result<bool, StoreError> {
        let epoch = self.present_epoch()?;
        // No blob expires before the second epoch.
        let meta = (epoch > FIRST_EPOCH).then(|| self.meta(blob)).flatten();
        Ok(meta.is_some_and(|meta| meta.end_epoch <= epoch))
    }

    /// Returns the paid lifetime of a readable blob. A blob without metadata does not
    /// expire and is reported as paid for until the next epoch.
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
    /// [`StoreError::NotFound`] if the blob is gone; [`StoreError::Refused`] if the
    /// epoch is further ahead than can be paid for.
    pub fn extend_blocking(&self, blob: BlobId, end: u32) -> Result<Lifetime, StoreError> {
        let place = self.place();
        let _lock = self.lock_exclusive()?;
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

    /// Deletes a blob, expired or not; `false` if it is permanent and has not expired.
    /// After a power loss the blob may exist again, unless the store was flushed.
    pub fn delete_blocking(&self, blob: BlobId) -> Result<bool, StoreError> {
        let _lock = self.lock_exclusive()?;
        let permanent = self.meta(blob).is_some_and(|meta| !meta.deletable);
        if permanent && self.stat(blob)?.is_some() {
            return Ok(false);
        }
        for path in [self.blob_path(blob), self.meta_path(blob)] {
            walgit_durable::unlink(&path).map_err(StoreError::io(&path))?;
        }
        Ok(true)
    }

    /// Returns the length of a blob that exists and has not expired.
    pub fn stat(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        if self.has_expired(blob)? {
            return Ok(None);
        }
        self.on_disk(blob)
    }

    /// Returns the length of a blob that exists on disk, expired or not.
    fn on_disk(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        let path = self.blob_path(blob);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    /// Reads bytes of a blob.
    pub fn read_blocking(&self, blob: BlobId, read_range: ReadRange) -> Result<Bytes, StoreError> {
        let path = self.blob_path(blob);
        let not_found = || StoreError::NotFound {
            blob,
            place: self.place(),
        };
        if self.has_expired(blob)? {
            return Err(not_found());
        }
        let file = match walgit_durable::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found()),
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        let read = || -> io::Result<Option<Vec<u8>>> {
            let len = file.metadata()?.len();
            let range = match read_range {
                ReadRange::Whole { at_most } if len > at_most => return Ok(None),
                ReadRange::Whole { .. } => ByteRange::new(0, len),
                ReadRange::Part(range) if range.end() > len => return Ok(None),
                ReadRange::Part(range) => range,
            };
            let mut bytes = vec![0; range.len() as usize];
            file.read_exact_at(&mut bytes, range.start())?;
            Ok(Some(bytes))
        };
        match read() {
            Ok(Some(bytes)) => Ok(bytes.into()),
            Ok(None) => Err(StoreError::OutOfRange {
                blob,
                range: ByteRange::new(0, read_range.at_most()),
            }),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    /// Returns the metadata of a blob. A damaged record counts as missing: the next
    /// `put` rewrites it.
    pub fn meta(&self, blob: BlobId) -> Option<BlobMeta> {
        let text = walgit_durable::read_regular(&self.meta_path(blob), MAX_FILE_BYTES).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes a blob atomically, then its metadata. Both are durable after
    /// [`LocalDir::flush_blocking`].
    pub fn write(&self, blob: BlobId, body: &[u8], meta: &BlobMeta) -> Result<(), StoreError> {
        self.write_body(blob, body)?;
        self.write_meta(blob, meta)
    }

    fn write_body(&self, blob: BlobId, body: &[u8]) -> Result<(), StoreError> {
        let path = self.blob_path(blob);
        place(&path, body).map_err(StoreError::io(&path))
    }

    /// Writes the metadata of a blob.
    pub fn write_meta(&self, blob: BlobId, meta: &BlobMeta) -> Result<(), StoreError> {
        let path = self.meta_path(blob);
        let json = serde_json::to_vec_pretty(meta).map_err(io::Error::from);
        json.and_then(|json| place(&path, &json))
            .map_err(StoreError::io(&path))
    }

    /// Makes durable what this or any other process has stored, extended or deleted
    /// here.
    pub fn flush_blocking(&self) -> Result<(), StoreError> {
        for part in ["blobs", "meta"] {
            let path = self.root.join(part);
            walgit_durable::sync_dir(&path).map_err(StoreError::io(&path))?;
        }
        Ok(())
    }

    /// Lists all blobs, including expired ones.
    pub fn list(&self) -> Result<Vec<BlobId>, StoreError> {
        let path = self.root.join("blobs");
        let entries = fs::read_dir(&path).map_err(StoreError::io(&path))?;
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
        let done = tokio::task::spawn_blocking(move || work(&this)).await;
        done.map_err(|error| StoreError::unavailable(self.place(), error))?
    }
}

/// Object ID as a publisher would create: any 32 bytes are valid, here the hash of the
/// blob ID.
pub fn object_id(blob: BlobId) -> String {
    format!("0x{}", blake3::hash(blob.as_bytes()).to_hex())
}

/// Writes a file and syncs its content before it has its name.
fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path, PRIVATE_FILE_MODE)?;
    file.write_all(bytes)?;
    file.place()
}

impl StoreLayer for LocalDir {}

#[async_trait]
impl BlobReader for LocalDir {
    async fn read(
        &self,
        blob: BlobId,
        read_range: ReadRange,
        verify: &mut Verifier<'_>,
    ) -> Result<(), StoreError> {
        let bytes = self
            .blocking(move |this| this.read_blocking(blob, read_range))
            .await?;
        verify(bytes).map_err(|rejected| StoreError::corrupt(blob, self.place(), rejected.0))
    }

    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        self.blocking(move |this| this.stat(blob)).await
    }
}

#[async_trait]
impl BlobWriter for LocalDir {
    async fn put(
        &self,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<PutReceipt, StoreError> {
        if !(1..=MAX_EPOCHS).contains(&options.epochs) {
            return Err(StoreError::Refused {
                place: self.place(),
                status: 400,
                why: format!("blobs are stored for 1 to {MAX_EPOCHS} epochs"),
            });
        }
        let len = body.len() as u64;
        if len > self.max_body {
            return Err(StoreError::TooLarge {
                len,
                limit: self.max_body,
                place: self.place(),
            });
        }
        let options = options.clone();
        self.blocking(move |this| {
            // A different length results from a crash or from tampering.
            let mut uploaded = this.stat(blob)? != Some(len);
            if uploaded {
                this.write_body(blob, &body)?;
            }
            let _lock = this.lock_exclusive()?;
            // The blob may have been deleted concurrently.
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
            .merge_max(known.as_ref());
            this.write_meta(blob, &meta)?;
            Ok(PutReceipt {
                uploaded,
                end_epoch: Some(meta.end_epoch),
                object_id: Some(meta.object_id),
            })
        })
        .await
    }

    fn max_body(&self) -> u64 {
        self.max_body
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.blocking(|this| this.flush_blocking()).await
    }
}

#[async_trait]
impl BlobLifetimes for LocalDir {
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
}

#[cfg(test)]
mod tests;
