//! Packs: blobs of data chunks, filled in tree order.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::mpsc::Sender;

use super::PublishError;
use super::known::Known;
use super::placed::{Placed, Spot, chunk_len};
use walgit_format::blob::BlobBuilder;
use walgit_format::chunk::{Bases, BlobId, Chunk, ChunkHash, PlannedLocation, Sealed, seal};

/// Sent packs, by number: their IDs, and the offsets of their data.
pub(super) type Sent = HashMap<usize, (BlobId, u64)>;

/// Fills packs and sends full ones to the uploader.
pub(super) struct Packs {
    limit: u64,
    sender: Option<Sender<Bytes>>,
    open: BlobBuilder,
    /// Number of the open pack; later packs have higher numbers.
    open_number: usize,
    next_number: usize,
    /// Packs in the order of sending: number, offset of the data.
    sent: Vec<(usize, u64)>,
    /// Content that has been placed, whatever its source.
    placed: HashMap<ChunkHash, Placed>,
}

impl Packs {
    pub(super) fn new(limit: u64, sender: Sender<Bytes>) -> Self {
        Packs {
            limit,
            sender: Some(sender),
            open: BlobBuilder::new(),
            open_number: 0,
            next_number: 1,
            sent: Vec::new(),
            placed: HashMap::new(),
        }
    }

    /// Maximum blob size, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns the location of a content, if it is stored.
    pub(super) fn find(&self, hash: &ChunkHash, known: &Known) -> Option<Placed> {
        (self.placed.get(hash).or_else(|| known.chunk(hash))).cloned()
    }

    /// Adds an encoded chunk that is decoded with `bases`.
    pub(super) fn add(
        &mut self,
        hash: ChunkHash,
        raw_len: u32,
        sealed: &Sealed,
        bases: Bases<Placed>,
    ) -> Result<Placed, PublishError> {
        let len = sealed.bytes.len() as u64;
        if !self.open.is_empty() && self.open.len() + len > self.limit {
            self.close()?;
        }
        if self.open.len() + len > self.limit {
            return Err(PublishError::NodeTooLarge {
                len: self.open.len() + len,
                limit: self.limit,
            });
        }
        let pack = self.open_number;
        let stored_len = chunk_len(sealed.bytes.len())?;
        let PlannedLocation::Local(at) = self.open.push_data(&sealed.bytes) else {
            return Err(PublishError::Internal("data of a pack lies elsewhere"));
        };
        let placed = Placed {
            hash,
            raw_len,
            stored_len,
            codec: sealed.codec,
            location: Spot::Pack { pack, at },
            bases,
        };
        self.placed.insert(hash, placed.clone());
        Ok(placed)
    }

    /// Hashes, compresses and adds a chunk, unless it is stored already.
    pub(super) fn add_raw(
        &mut self,
        raw: &[u8],
        level: i32,
        known: &Known,
    ) -> Result<Placed, PublishError> {
        let hash = ChunkHash::of(raw);
        if let Some(placed) = self.find(&hash, known) {
            return Ok(placed);
        }
        let raw_len = chunk_len(raw.len())?;
        let sealed = seal(raw, level);
        self.add(hash, raw_len, &sealed, Bases::NONE)
    }

    /// Sends a file as a separate blob without a header. `cuts` are the hashes and
    /// lengths of its chunks.
    pub(super) fn add_plain(
        &mut self,
        body: Bytes,
        cuts: &[(ChunkHash, u32)],
    ) -> Result<Vec<Placed>, PublishError> {
        let pack = self.take_number();
        self.sent.push((pack, 0));
        self.send(body)?;
        let mut at = 0;
        let mut chunks = Vec::with_capacity(cuts.len());
        for &(hash, len) in cuts {
            let placed = Chunk::raw(hash, len, Spot::Pack { pack, at });
            at += i64::from(len);
            self.placed.insert(hash, placed.clone());
            chunks.push(placed);
        }
        Ok(chunks)
    }

    /// Sends the open pack.
    pub(super) fn close(&mut self) -> Result<(), PublishError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let pack = std::mem::take(&mut self.open);
        self.sent.push((self.open_number, pack.offset(0)));
        self.open_number = self.take_number();
        let body = pack.finish().map_err(PublishError::encode("a pack"))?;
        self.send(body.into())
    }

    fn take_number(&mut self) -> usize {
        self.next_number += 1;
        self.next_number - 1
    }

    fn send(&self, body: Bytes) -> Result<(), PublishError> {
        let no = PublishError::Internal("a pack was closed after the last one");
        let sender = self.sender.as_ref().ok_or(no)?;
        // The receiver is gone after a failed upload; that error is reported.
        sender
            .blocking_send(body)
            .map_err(|_| PublishError::Interrupted)
    }

    /// Discards the open pack: nothing needs it.
    pub(super) fn abandon(&mut self) {
        self.open = BlobBuilder::new();
    }

    /// Ends the uploads: no more packs follow.
    pub(super) fn hang_up(&mut self) {
        self.sender = None;
    }

    /// Returns the open pack, which becomes part of the head's blob. `ids` are those of
    /// the sent packs, in order.
    pub(super) fn finish(self, ids: &[BlobId]) -> Result<(BlobBuilder, usize, Sent), PublishError> {
        if self.sent.len() != ids.len() {
            return Err(PublishError::Internal("a pack has no ID"));
        }
        let numbered = self.sent.iter().zip(ids);
        let sent = numbered.map(|(&(number, start), &id)| (number, (id, start)));
        Ok((self.open, self.open_number, sent.collect()))
    }
}
