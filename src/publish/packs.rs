//! Packs: blobs of data chunks, filled in tree order.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::mpsc::Sender;

use super::error::PublishError;
use super::pending_chunk::{PendingChunk, PendingLocation, chunk_len};
use walgit_format::blob::BlobBuilder;
use walgit_format::chunk::{
    Bases, BlobId, Chunk, ChunkHash, EncodedChunk, PlannedLocation, encode_chunk,
};

/// Sent packs, by number: their IDs, and the offsets of their data.
pub(super) type SentPacks = HashMap<usize, (BlobId, u64)>;

/// A pack that is being filled.
pub(super) struct OpenPack {
    pub(super) builder: BlobBuilder,
    pub(super) number: usize,
    /// Number of the next pack.
    pub(super) next_number: usize,
}

/// Fills packs and sends full ones to the uploader.
pub(super) struct Packs {
    limit: u64,
    sender: Option<Sender<Bytes>>,
    open: OpenPack,
    /// Packs in the order of sending: number, offset of the data.
    sent: Vec<(usize, u64)>,
    /// Chunks with a location, in these packs or in blobs of an earlier publish.
    chunks: HashMap<ChunkHash, PendingChunk>,
}

impl Packs {
    /// Starts with the `chunks` of an earlier publish.
    pub(super) fn new(
        limit: u64,
        sender: Sender<Bytes>,
        chunks: HashMap<ChunkHash, PendingChunk>,
    ) -> Self {
        Packs {
            limit,
            sender: Some(sender),
            open: OpenPack {
                builder: BlobBuilder::new(),
                number: 0,
                next_number: 1,
            },
            sent: Vec::new(),
            chunks,
        }
    }

    /// Maximum blob size, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns the location of a content, if it is stored.
    pub(super) fn find(&self, hash: &ChunkHash) -> Option<PendingChunk> {
        self.chunks.get(hash).cloned()
    }

    /// Adds an encoded chunk that is decoded with `bases`.
    pub(super) fn add(
        &mut self,
        hash: ChunkHash,
        raw_len: u32,
        sealed: &EncodedChunk,
        bases: Bases<PendingChunk>,
    ) -> Result<PendingChunk, PublishError> {
        let bytes = sealed.bytes.len() as u64;
        if !self.open.builder.is_empty() && self.open.builder.len() + bytes > self.limit {
            self.close()?;
        }
        let len = self.open.builder.len() + bytes;
        if len > self.limit {
            let limit = self.limit;
            return Err(PublishError::NodeTooLarge { len, limit });
        }
        let stored_len = chunk_len(sealed.bytes.len())?;
        let PlannedLocation::Local(at) = self.open.builder.push_data(&sealed.bytes) else {
            return Err(PublishError::Internal("data of a pack is in another blob"));
        };
        let pack = self.open.number;
        let chunk = Chunk {
            hash,
            raw_len,
            stored_len,
            codec: sealed.codec,
            location: PendingLocation::Pack { pack, at },
            bases,
        };
        self.chunks.insert(hash, chunk.clone());
        Ok(chunk)
    }

    /// Hashes, compresses and adds a chunk, unless it is stored already.
    pub(super) fn add_raw(&mut self, raw: &[u8], level: i32) -> Result<PendingChunk, PublishError> {
        let hash = ChunkHash::of(raw);
        if let Some(stored) = self.find(&hash) {
            return Ok(stored);
        }
        self.add(
            hash,
            chunk_len(raw.len())?,
            &encode_chunk(raw, level),
            Bases::NONE,
        )
    }

    /// Sends a file as a separate blob without a header; `chunks` are the hashes and
    /// lengths of its chunks.
    pub(super) fn add_plain(
        &mut self,
        body: Bytes,
        chunks: &[(ChunkHash, u32)],
    ) -> Result<Vec<PendingChunk>, PublishError> {
        let pack = self.take_number();
        self.sent.push((pack, 0));
        self.send(body)?;
        let mut at = 0;
        let add = |&(hash, len): &(ChunkHash, u32)| {
            let chunk = Chunk::raw(hash, len, PendingLocation::Pack { pack, at });
            at += i64::from(len);
            self.chunks.insert(hash, chunk.clone());
            chunk
        };
        Ok(chunks.iter().map(add).collect())
    }

    /// Sends the open pack.
    fn close(&mut self) -> Result<(), PublishError> {
        let pack = std::mem::take(&mut self.open.builder);
        self.sent.push((self.open.number, pack.offset(0)));
        self.open.number = self.take_number();
        let body = pack.finish().map_err(PublishError::encode("a pack"))?;
        self.send(body.into())
    }

    fn take_number(&mut self) -> usize {
        self.open.next_number += 1;
        self.open.next_number - 1
    }

    fn send(&self, body: Bytes) -> Result<(), PublishError> {
        let closed = PublishError::Internal("a pack follows the last one");
        let sender = self.sender.as_ref().ok_or(closed)?;
        // The receiver is gone after a failed upload; that error is reported.
        sender
            .blocking_send(body)
            .map_err(|_| PublishError::Interrupted)
    }

    /// Discards the open pack, which is unreferenced.
    pub(super) fn discard_open(&mut self) {
        self.open.builder = BlobBuilder::new();
    }

    /// Ends the uploads: no more packs follow.
    pub(super) fn end_uploads(&mut self) {
        self.sender = None;
    }

    /// Returns the open pack, which becomes part of the head's blob, and the sent ones,
    /// whose IDs are `ids`, in order.
    pub(super) fn finish(self, ids: &[BlobId]) -> Result<(OpenPack, SentPacks), PublishError> {
        if self.sent.len() != ids.len() {
            return Err(PublishError::Internal("a pack has no ID"));
        }
        let numbered = self.sent.iter().zip(ids);
        let sent = numbered.map(|(&(number, start), &id)| (number, (id, start)));
        Ok((self.open, sent.collect()))
    }
}
