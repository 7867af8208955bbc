//! Content that is a blob of its own and identified by a foreign hash.
//!
//! A [`WholeBlob`] is fetched and verified as a whole once; then its pieces are
//! cached like other chunks, and a record lists them. From then on it is read like
//! any content: an evicted piece is fetched again by its range and verified by our
//! own hash.

use std::io::{Read as _, Seek as _, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use ring::digest;

use super::fetch::{IN_FLIGHT, detached};
use super::flight::{Carry, Flight, Pilot, Role, Underway, Urgency};
use super::records::Space;
use super::stats::Counters;
use super::{Cache, CacheError};
use walgit_format::chunk::{
    ByteRange, ChunkHash, ChunkRef, MAX_DATA_CHUNK, Proof, SecretKey, WholeBlob,
};
use walrus_client::{BlobStore, Extent, MAX_PAYLOAD, Rejected, StoreError};
use walrus_encoding::blob_id;

/// Blobs up to this length are verified in memory; longer ones on disk.
const IN_MEMORY: u64 = IN_FLIGHT;
/// Bytes per request for a longer blob.
const PART: u64 = 8 << 20;

/// Fetch plan of one whole blob.
struct Alone(ChunkHash);

impl Carry for Alone {
    fn leave_out(&mut self, _: &dyn Fn(&ChunkHash) -> bool) {}

    fn carries(&self) -> Vec<ChunkHash> {
        vec![self.0]
    }
}

impl Cache {
    /// Returns the pieces of a blob if an earlier session or reader has verified
    /// it. Never accesses the network.
    pub fn known_whole(
        &self,
        whole: &WholeBlob,
        at_rest: Option<&SecretKey>,
    ) -> Option<Arc<[ChunkRef]>> {
        let key = whole.name();
        let record = self.record(Space::Wholes, key.as_bytes(), at_rest)?;
        whole.decode(&record)
    }

    /// Returns the pieces of a blob; fetches and verifies it first if necessary.
    ///
    /// # Errors
    /// The error of the store; [`StoreError::Corrupt`] if no gateway returns the
    /// right content.
    pub async fn whole(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        whole: &WholeBlob,
    ) -> Result<Arc<[ChunkRef]>, CacheError> {
        if let Some(known) = self.known_whole(whole, store.at_rest()) {
            return Ok(known);
        }
        Counters::add(&self.counters.misses, 1);
        let flight = self.lead_whole(store, whole, Urgency::Now);
        flight.landed().await
    }

    /// Starts a prefetch of a blob; returns `None` if its pieces are known. Must be
    /// called within a runtime.
    pub fn begin_whole(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        whole: &WholeBlob,
    ) -> Option<Underway<Arc<[ChunkRef]>>> {
        if self.known_whole(whole, store.at_rest()).is_some() {
            return None;
        }
        let flight = self.lead_whole(store, whole, Urgency::Ahead);
        Some(Underway::of(&self.wholes, flight))
    }

    fn lead_whole(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        whole: &WholeBlob,
        urgency: Urgency,
    ) -> Arc<Flight<Arc<[ChunkRef]>>> {
        let name = whole.name();
        match (self.wholes).join_or_lead(&name, urgency, || Alone(name)) {
            Role::Wait(flight) => flight,
            Role::Lead(flight, _) => {
                let (cache, store) = (self.clone(), store.clone());
                let (whole, led) = (whole.clone(), flight.clone());
                tokio::spawn(async move { cache.fly_whole(&store, &whole, &led).await });
                flight
            }
        }
    }

    /// Caches a blob whose content has been verified by other means.
    pub fn keep_whole(&self, whole: &WholeBlob, content: &Bytes, at_rest: Option<&SecretKey>) {
        let kept = self.keep_pieces(whole, 0, content, at_rest);
        self.remember(whole, &kept, at_rest);
    }

    async fn fly_whole(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        whole: &WholeBlob,
        flight: &Arc<Flight<Arc<[ChunkRef]>>>,
    ) {
        let pilot = Pilot::of(&self.wholes, flight);
        // A blob larger than the in-flight budget takes the whole budget.
        let Some(_room) = self.room(store, flight, whole.size).await else {
            return;
        };
        // A flight that landed a moment ago may have recorded it.
        if let Some(known) = self.known_whole(whole, store.at_rest()) {
            pilot.land(known);
            return pilot.end(Ok(()));
        }
        Counters::add(&self.counters.fetches, 1);
        let streamed =
            whole.size > IN_MEMORY && !whole.sealed && matches!(whole.proof, Proof::Sha256(_));
        let fetch = async {
            match streamed {
                true => self.prove_on_disk(store, whole).await,
                false => self.prove_in_memory(store, whole).await,
            }
        };
        let fetched = tokio::select! {
            biased;
            () = flight.called_off() => {
                Counters::add(&self.counters.called_off, 1);
                return;
            }
            fetched = fetch => fetched,
        };
        let ended = fetched.map(|pieces| {
            Counters::add(&self.counters.fetched_bytes, whole.size);
            pilot.land(pieces.into());
        });
        if ended.is_err() {
            Counters::add(&self.counters.failed_fetches, 1);
        }
        pilot.end(ended);
    }

    async fn prove_in_memory(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        whole: &WholeBlob,
    ) -> Result<Vec<ChunkRef>, CacheError> {
        if whole.size > MAX_PAYLOAD {
            return Err(too_large(whole));
        }
        let mut proven = None;
        let at_most = whole.size;
        let mut accept = |bytes: Bytes| {
            let computed = |bytes: &[u8]| blob_id::blob_id(bytes).ok();
            whole.check(&bytes, computed).map_err(Rejected::because)?;
            proven = Some(bytes);
            Ok(())
        };
        let read = store.read(whole.blob, Extent::Whole { at_most }, &mut accept);
        read.await.map_err(|e| CacheError::Store(Arc::new(e)))?;
        let content = proven.ok_or(CacheError::Interrupted)?;
        let (cache, whole) = (self.clone(), whole.clone());
        let at_rest = store.at_rest().cloned();
        blocking(move || {
            let kept = cache.keep_pieces(&whole, 0, &content, at_rest.as_ref());
            cache.remember(&whole, &kept, at_rest.as_ref());
            Ok(kept)
        })
        .await
    }

    /// Verifies a blob that is too long for memory: its parts go to an unnamed
    /// file, which is verified and then split.
    async fn prove_on_disk(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        whole: &WholeBlob,
    ) -> Result<Vec<ChunkRef>, CacheError> {
        let failed = |error| CacheError::Store(Arc::new(error));
        let corrupt = |why: &str| {
            failed(StoreError::Corrupt {
                blob: whole.blob,
                place: "the network".into(),
                why: why.into(),
            })
        };
        let len = store.len(whole.blob).await.map_err(failed)?;
        if len.is_some_and(|len| len != whole.size) {
            return Err(corrupt("it is not as long as its manifest says"));
        }
        let spool =
            |error: std::io::Error| CacheError::Database(format!("temporary file: {error}"));
        // If the database's directory is not writable, the temporary directory may
        // be.
        let file = tempfile::tempfile_in(self.disk.dir()).or_else(|_| tempfile::tempfile());
        let mut file = file.map_err(spool)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut at = 0;
        while at < whole.size {
            let range = ByteRange::new(at, PART.min(whole.size - at));
            let mut part = Bytes::new();
            let mut accept = |bytes: Bytes| {
                part = bytes;
                Ok(())
            };
            let read = store.read(whole.blob, Extent::Part(range), &mut accept);
            read.await.map_err(failed)?;
            (hash, file) = blocking(move || {
                hash.update(&part);
                file.write_all(&part).map_err(spool)?;
                Ok((hash, file))
            })
            .await?;
            at = range.end();
        }
        if !matches!(&whole.proof, Proof::Sha256(expected) if hash.finish().as_ref() == expected) {
            return Err(corrupt("its SHA-256 is not what its manifest says"));
        }
        let (cache, whole) = (self.clone(), whole.clone());
        let at_rest = store.at_rest().cloned();
        blocking(move || {
            file.rewind().map_err(spool)?;
            let mut kept = Vec::new();
            let mut at = 0;
            while at < whole.size {
                let mut part = vec![0; PART.min(whole.size - at) as usize];
                file.read_exact(&mut part).map_err(spool)?;
                let part = Bytes::from(part);
                kept.extend(cache.keep_pieces(&whole, at, &part, at_rest.as_ref()));
                at += part.len() as u64;
            }
            cache.remember(&whole, &kept, at_rest.as_ref());
            Ok(kept)
        })
        .await
    }

    /// Splits verified content that starts at `offset` of its blob, and caches the
    /// pieces.
    fn keep_pieces(
        &self,
        whole: &WholeBlob,
        offset: u64,
        content: &Bytes,
        at_rest: Option<&SecretKey>,
    ) -> Vec<ChunkRef> {
        let starts = (0..content.len()).step_by(MAX_DATA_CHUNK as usize);
        let pieces: Vec<(ChunkRef, Bytes)> = starts
            .map(|start| {
                let end = (start + MAX_DATA_CHUNK as usize).min(content.len());
                let bytes = content.slice(start..end);
                (whole.piece(offset + start as u64, &bytes), bytes)
            })
            .collect();
        for (piece, bytes) in &pieces {
            self.memory
                .insert(piece.hash, detached(piece, bytes.clone()));
        }
        // A failing disk reduces speed but never fails a read.
        let _ = self.disk.put(&pieces, at_rest);
        pieces.into_iter().map(|(piece, _)| piece).collect()
    }

    fn remember(&self, whole: &WholeBlob, pieces: &[ChunkRef], at_rest: Option<&SecretKey>) {
        let record = WholeBlob::encode(pieces);
        self.set_record(Space::Wholes, whole.name().as_bytes(), &record, at_rest);
    }
}

fn too_large(whole: &WholeBlob) -> CacheError {
    CacheError::Store(Arc::new(StoreError::TooLarge {
        len: whole.size,
        limit: MAX_PAYLOAD,
        place: "this program, which must hold such a file in memory to check it".into(),
    }))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| CacheError::Interrupted)?
}
