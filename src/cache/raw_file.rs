//! Files that are a blob of their own and identified by a foreign hash.
//!
//! A [`WholeBlob`] is fetched and verified as a whole once; then its pieces are
//! cached like other chunks, and a record lists them. From then on it is read like
//! any content: an evicted piece is fetched again by its range and verified by our
//! own hash.

use std::io::{Read as _, Seek as _, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use ring::digest;

use super::chunk_cache::Cache;
use super::error::CacheError;
use super::limits::MAX_IN_FLIGHT_BYTES;
use super::memory::detach;
use super::records::RecordNamespace;
use super::single_flight::{FetchGuard, InFlightFetch, PrefetchHandle, Priority};
use super::stats::CacheCounters;
use super::view::CacheView;
use walgit_format::chunk::{ByteRange, ChunkRef, MAX_DATA_CHUNK, Proof, WholeBlob};
use walrus_client::{BlobStore, MAX_PAYLOAD_BYTES, ReadRange, Rejected, StoreError};
use walrus_encoding::blob_id;

/// Blobs up to this length are verified in memory; longer ones on disk.
const MAX_IN_MEMORY_BYTES: u64 = MAX_IN_FLIGHT_BYTES;
/// Bytes per request for a longer blob.
const REQUEST_BYTES: u64 = 8 << 20;

impl CacheView<'_> {
    /// Returns the pieces of a blob if an earlier session or reader has verified it.
    pub fn raw_file(self, file: &WholeBlob) -> Option<Arc<[ChunkRef]>> {
        let record = self.record(RecordNamespace::RawFiles, file.name().as_bytes())?;
        file.decode(&record)
    }

    /// Caches a blob whose content has been verified by other means; returns its
    /// pieces.
    pub fn insert_raw_file(self, file: &WholeBlob, content: &Bytes) -> Vec<ChunkRef> {
        let pieces = self.insert_pieces(file, 0, content);
        self.set_raw_file(file, &pieces);
        pieces
    }

    /// Splits verified content that starts at `offset` of its blob, and caches the
    /// pieces.
    fn insert_pieces(self, file: &WholeBlob, offset: u64, content: &Bytes) -> Vec<ChunkRef> {
        let starts = (0..content.len()).step_by(MAX_DATA_CHUNK as usize);
        let pieces: Vec<(ChunkRef, Bytes)> = starts
            .map(|start| {
                let end = (start + MAX_DATA_CHUNK as usize).min(content.len());
                let bytes = content.slice(start..end);
                (file.piece(offset + start as u64, &bytes), bytes)
            })
            .collect();
        for (piece, bytes) in &pieces {
            (self.cache.memory).insert(piece.hash, detach(piece, bytes.clone()));
        }
        // A failing disk reduces speed but never fails a read.
        let _ = self.cache.disk.put(&pieces, self.at_rest);
        pieces.into_iter().map(|(piece, _)| piece).collect()
    }

    fn set_raw_file(self, file: &WholeBlob, pieces: &[ChunkRef]) {
        let record = WholeBlob::encode(pieces);
        self.set_record(RecordNamespace::RawFiles, file.name().as_bytes(), &record);
    }
}

impl Cache {
    /// Returns the pieces of a blob; fetches and verifies it first if necessary.
    ///
    /// # Errors
    /// The error of the store; [`StoreError::Corrupt`] if no gateway returns the
    /// right content.
    pub async fn get_raw_file(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        file: &WholeBlob,
    ) -> Result<Arc<[ChunkRef]>, CacheError> {
        if let Some(pieces) = self.view(store.at_rest()).raw_file(file) {
            return Ok(pieces);
        }
        CacheCounters::add(&self.counters.misses, 1);
        let fetch = self.join_or_start_file(store, file, Priority::Demand);
        fetch.completed().await
    }

    /// Starts a prefetch of a blob; returns `None` if its pieces are known. Must be
    /// called within a runtime.
    pub fn prefetch_raw_file(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        file: &WholeBlob,
    ) -> Option<PrefetchHandle<Arc<[ChunkRef]>>> {
        if self.view(store.at_rest()).raw_file(file).is_some() {
            return None;
        }
        let fetch = self.join_or_start_file(store, file, Priority::Prefetch);
        Some(PrefetchHandle::new(&self.in_flight.raw_files, fetch))
    }

    fn join_or_start_file(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        file: &WholeBlob,
        priority: Priority,
    ) -> Arc<InFlightFetch<Arc<[ChunkRef]>>> {
        let (table, name) = (&self.in_flight.raw_files, file.name());
        let (fetch, is_new) = table.join_or_start(&name, priority, |_| ((), vec![name]));
        if is_new.is_some() {
            let (cache, store, file) = (self.clone(), store.clone(), file.clone());
            let started = fetch.clone();
            tokio::spawn(async move { cache.run_file_fetch(&store, &file, &started).await });
        }
        fetch
    }

    async fn run_file_fetch(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        file: &WholeBlob,
        fetch: &Arc<InFlightFetch<Arc<[ChunkRef]>>>,
    ) {
        let guard = FetchGuard::new(&self.in_flight.raw_files, fetch);
        // A blob larger than the in-flight budget takes the whole budget.
        let Some(_permit) = self.acquire_permit(store, fetch, file.size).await else {
            return;
        };
        // A fetch that has just completed may have recorded it.
        if let Some(pieces) = self.view(store.at_rest()).raw_file(file) {
            guard.complete(pieces);
            return guard.end(Ok(()));
        }
        CacheCounters::add(&self.counters.fetches, 1);
        let verify = async {
            let is_long = file.size > MAX_IN_MEMORY_BYTES && !file.sealed;
            match &file.proof {
                Proof::Sha256(sum) if is_long => self.verify_on_disk(store, file, sum).await,
                _ => self.verify_in_memory(store, file).await,
            }
        };
        let verified = tokio::select! {
            biased;
            () = fetch.cancelled() => {
                CacheCounters::add(&self.counters.called_off, 1);
                return;
            }
            verified = verify => verified,
        };
        if verified.is_err() {
            CacheCounters::add(&self.counters.failed_fetches, 1);
        }
        let persisted = verified.map(|pieces| {
            CacheCounters::add(&self.counters.fetched_bytes, file.size);
            guard.complete(pieces.into());
        });
        guard.end(persisted);
    }

    async fn verify_in_memory(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        file: &WholeBlob,
    ) -> Result<Vec<ChunkRef>, CacheError> {
        if file.size > MAX_PAYLOAD_BYTES {
            return Err(CacheError::from(StoreError::TooLarge {
                len: file.size,
                limit: MAX_PAYLOAD_BYTES,
                place: "this program, which must hold such a file in memory to check it".into(),
            }));
        }
        let mut verified = None;
        let at_most = file.size;
        let mut accept = |bytes: Bytes| {
            let computed = |bytes: &[u8]| blob_id::blob_id(bytes).ok();
            file.check(&bytes, computed).map_err(Rejected::because)?;
            verified = Some(bytes);
            Ok(())
        };
        let read = store.read(file.blob, ReadRange::Whole { at_most }, &mut accept);
        read.await?;
        let content = verified.ok_or(CacheError::Interrupted)?;
        let (cache, file, key) = (self.clone(), file.clone(), store.at_rest().cloned());
        blocking(move || Ok(cache.view(key.as_ref()).insert_raw_file(&file, &content))).await
    }

    /// Verifies a blob that is too long for memory: its parts go to an unnamed
    /// file, which is verified and then split.
    async fn verify_on_disk(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        file: &WholeBlob,
        sha256: &[u8],
    ) -> Result<Vec<ChunkRef>, CacheError> {
        let corrupt = |why: &str| {
            CacheError::from(StoreError::Corrupt {
                blob: file.blob,
                place: "the network".into(),
                why: why.into(),
            })
        };
        let len = store.len(file.blob).await?;
        if len.is_some_and(|len| len != file.size) {
            return Err(corrupt("the length differs from the one in the manifest"));
        }
        let failed = |error| CacheError::Database(format!("temporary file: {error}"));
        // If the database's directory is not writable, the temporary directory may
        // be.
        let spool = tempfile::tempfile_in(self.disk.dir()).or_else(|_| tempfile::tempfile());
        let mut spool = spool.map_err(failed)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut at = 0;
        while at < file.size {
            let range = ByteRange::new(at, REQUEST_BYTES.min(file.size - at));
            let mut part = Bytes::new();
            let mut accept = |bytes: Bytes| {
                part = bytes;
                Ok(())
            };
            let read = store.read(file.blob, ReadRange::Part(range), &mut accept);
            read.await?;
            (hash, spool) = blocking(move || {
                hash.update(&part);
                spool.write_all(&part).map_err(failed)?;
                Ok((hash, spool))
            })
            .await?;
            at = range.end();
        }
        if hash.finish().as_ref() != sha256 {
            return Err(corrupt("the SHA-256 differs from the one in the manifest"));
        }
        let (cache, file, key) = (self.clone(), file.clone(), store.at_rest().cloned());
        blocking(move || {
            let view = cache.view(key.as_ref());
            spool.rewind().map_err(failed)?;
            let mut pieces = Vec::new();
            let mut at = 0;
            while at < file.size {
                let mut part = vec![0; REQUEST_BYTES.min(file.size - at) as usize];
                spool.read_exact(&mut part).map_err(failed)?;
                let part = Bytes::from(part);
                pieces.extend(view.insert_pieces(&file, at, &part));
                at += part.len() as u64;
            }
            view.set_raw_file(&file, &pieces);
            Ok(pieces)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| CacheError::Interrupted)?
}
