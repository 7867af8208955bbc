//! Blobs that nodes are written to: the head's blob, and as many others as necessary.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::error::PublishError;
use super::packs::{OpenPack, SentPacks};
use super::pending_chunk::{PendingChunk, PendingLocation, chunk_len};
use super::upload::seal_blob;
use walgit_format::EncodeError;
use walgit_format::blob::{BlobBuilder, MAX_NODE_BYTES};
use walgit_format::chunk::{
    BlobId, Chunk, Location, MAX_CHUNK, PlannedChunk, PlannedLocation, encode_chunk,
};
use walrus_client::BlobStore;

/// Writes nodes to a series of blobs, which continue the packs: one is open, earlier ones
/// are full.
pub(super) struct NodeBlobs<'a> {
    store: &'a dyn BlobStore,
    open: BlobBuilder,
    open_number: usize,
    next_number: usize,
    limit: u64,
    full: Vec<(BlobId, Bytes)>,
    sent: SentPacks,
}

impl<'a> NodeBlobs<'a> {
    /// Starts with the pack that is not full; `sent` are the others.
    pub(super) fn new(store: &'a dyn BlobStore, open: OpenPack, sent: SentPacks) -> Self {
        NodeBlobs {
            store,
            open: open.builder,
            open_number: open.number,
            next_number: open.next_number,
            limit: store.max_body(),
            full: Vec::new(),
            sent,
        }
    }

    /// Returns the present location of a chunk and of its bases.
    pub(super) fn locate(&self, chunk: &PendingChunk) -> PlannedChunk {
        chunk.map_location(&|location| match *location {
            PendingLocation::Stored(location) => PlannedLocation::External(location),
            PendingLocation::Pack { pack, at } => match self.sent.get(&pack) {
                Some(&(blob, start)) => {
                    // The encoder of the reference rejects the offset of an overflow.
                    let offset = start.checked_add_signed(at).unwrap_or(u64::MAX);
                    PlannedLocation::External(Location { blob, offset })
                }
                None => PlannedLocation::Local(at),
            },
        })
    }

    pub(super) fn locate_all(&self, chunks: &[PendingChunk]) -> Vec<PlannedChunk> {
        chunks.iter().map(|chunk| self.locate(chunk)).collect()
    }

    /// Writes a node to the open blob, or to a new one if it does not fit. `encode`
    /// receives the end offset of the node; it is called again for a new blob, because
    /// locations have changed.
    pub(super) fn push_node(
        &mut self,
        what: &'static str,
        encode: impl Fn(&Self, i64) -> Result<Vec<u8>, EncodeError>,
    ) -> Result<PendingChunk, PublishError> {
        let encode = |blobs: &Self| {
            encode(blobs, blobs.open.next_node_end()).map_err(PublishError::encode(what))
        };
        let mut raw = encode(self)?;
        // Compression never increases the size.
        self.reserve(raw.len() as u64)?;
        if self.open.is_empty() {
            raw = encode(self)?;
        }
        if raw.len() as u64 > u64::from(MAX_CHUNK) {
            return Err(self.too_large(raw.len() as u64));
        }
        let node = self.open.push_node(&raw);
        self.pushed(node)
    }

    /// Appends data to the open blob.
    pub(super) fn push_data(
        &mut self,
        raw: &[u8],
        level: i32,
    ) -> Result<PendingChunk, PublishError> {
        chunk_len(raw.len())?;
        let sealed = encode_chunk(raw, level);
        self.reserve(sealed.bytes.len() as u64)?;
        let location = self.open.push_data(&sealed.bytes);
        self.pushed(Chunk::encoded(raw, &sealed, location))
    }

    /// Returns the location of a chunk that was added to the open blob.
    fn pushed(&self, chunk: PlannedChunk) -> Result<PendingChunk, PublishError> {
        if self.open.len() > self.limit {
            return Err(self.too_large(self.open.len()));
        }
        let pack = self.open_number;
        Ok(chunk.map_location(&|location| match *location {
            PlannedLocation::Local(at) => PendingLocation::Pack { pack, at },
            PlannedLocation::External(location) => PendingLocation::Stored(location),
        }))
    }

    fn too_large(&self, len: u64) -> PublishError {
        let limit = self.limit;
        PublishError::NodeTooLarge { len, limit }
    }

    /// Finishes the open blob if it has no space for `len` more bytes.
    fn reserve(&mut self, len: u64) -> Result<(), PublishError> {
        let nodes_fit = self.open.node_bytes() + len <= MAX_NODE_BYTES;
        if self.open.is_empty() || (nodes_fit && self.open.len() + len <= self.limit) {
            return Ok(());
        }
        let full = std::mem::take(&mut self.open);
        let start = full.offset(0);
        let body = full.finish().map_err(PublishError::encode("a blob"))?;
        let (id, bytes) = seal_blob(self.store, body.into())?;
        self.full.push((id, bytes));
        self.sent.insert(self.open_number, (id, start));
        self.open_number = self.next_number;
        self.next_number += 1;
        Ok(())
    }

    /// All blobs so far except the open one.
    pub(super) fn finished(&self) -> BTreeSet<BlobId> {
        self.sent.values().map(|(id, _)| *id).collect()
    }

    /// Returns the full blobs, and last the one with `head`, the node pushed last.
    pub(super) fn finish(
        mut self,
        head: &PendingChunk,
    ) -> Result<Vec<(BlobId, Bytes)>, PublishError> {
        let head = self.locate(head);
        let last = self.open.finish_with_head(&head);
        let last = last.map_err(PublishError::encode("the blob of the head"))?;
        self.full.push(seal_blob(self.store, last.into())?);
        Ok(self.full)
    }
}
