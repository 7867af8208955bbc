//! Blobs that nodes are written to: the head's blob, and as many others as necessary.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::PublishError;
use super::packs::Sent;
use super::placed::{Placed, Spot, Stored, chunk_len};
use super::upload::finished;
use walgit_format::EncodeError;
use walgit_format::blob::{BlobBuilder, MAX_NODE_BYTES};
use walgit_format::chunk::{
    BlobId, Chunk, Location, MAX_CHUNK, PlannedChunk, PlannedLocation, seal,
};
use walrus_client::BlobStore;

/// Full blobs, and the last one.
pub(super) type Finished = (Vec<(BlobId, Bytes)>, (BlobId, Bytes));

/// Blobs of nodes: one is open, earlier ones are full.
pub(super) struct Blobs<'a> {
    store: &'a dyn BlobStore,
    open: BlobBuilder,
    number: usize,
    limit: u64,
    full: HashMap<usize, (BlobId, u64)>,
    spilled: Vec<(BlobId, Bytes)>,
    sent: Sent,
    /// Number of the pack that the first blob started as.
    open_pack: usize,
}

/// Converts the offset `at` of [`PlannedLocation::Local`] for a finished blob. `start` is the offset
/// of the blob's data.
fn there(blob: BlobId, start: u64, at: i64) -> PlannedLocation {
    // The encoder of the reference rejects the offset of an overflow.
    let offset = start.checked_add_signed(at).unwrap_or(u64::MAX);
    PlannedLocation::External(Location { blob, offset })
}

impl<'a> Blobs<'a> {
    /// Starts with the pack that is not full; `sent` are the others.
    pub(super) fn new(
        store: &'a dyn BlobStore,
        open: BlobBuilder,
        open_pack: usize,
        sent: Sent,
    ) -> Self {
        Blobs {
            store,
            open,
            number: 0,
            limit: store.max_body(),
            full: HashMap::new(),
            spilled: Vec::new(),
            sent,
            open_pack,
        }
    }

    /// Returns the present location of a stored item.
    pub(super) fn place(&self, stored: &Stored) -> PlannedChunk {
        match stored {
            Stored::Old(chunk) => chunk.clone(),
            Stored::Made(chunk, number) => {
                chunk.map_location(&|location| match (location, self.full.get(number)) {
                    (PlannedLocation::Local(at), Some((id, start))) => there(*id, *start, *at),
                    (location, _) => *location,
                })
            }
            Stored::Data(data) => self.place_data(data),
        }
    }

    /// Returns the present location of data and of its bases.
    pub(super) fn place_data(&self, data: &Placed) -> PlannedChunk {
        data.map_location(&|spot| match *spot {
            Spot::Blob(location) => PlannedLocation::External(location),
            Spot::Pack { pack, at } => match self.sent.get(&pack) {
                Some((id, start)) => there(*id, *start, at),
                None => PlannedLocation::Local(at),
            },
        })
    }

    /// Writes a node to the open blob, or to a new one if it does not fit. `encode`
    /// receives the end offset of the node; it is called again for a new blob, because
    /// locations have changed.
    pub(super) fn push_node(
        &mut self,
        what: &'static str,
        encode: impl Fn(&Self, i64) -> Result<Vec<u8>, EncodeError>,
    ) -> Result<Stored, PublishError> {
        let mut raw =
            encode(self, self.open.next_node_end()).map_err(PublishError::encode(what))?;
        // Compression never increases the size.
        self.make_room(raw.len() as u64)?;
        if self.open.is_empty() {
            raw = encode(self, self.open.next_node_end()).map_err(PublishError::encode(what))?;
        }
        if raw.len() as u64 > u64::from(MAX_CHUNK) {
            return Err(self.too_large(raw.len() as u64));
        }
        let chunk = self.open.push_node(&raw);
        match self.open.len() <= self.limit {
            true => Ok(Stored::Made(chunk, self.number)),
            false => Err(self.too_large(self.open.len())),
        }
    }

    /// Appends data to the open blob.
    pub(super) fn push_data(&mut self, raw: &[u8], level: i32) -> Result<Stored, PublishError> {
        chunk_len(raw.len())?;
        let sealed = seal(raw, level);
        self.make_room(sealed.bytes.len() as u64)?;
        let location = self.open.push_data(&sealed.bytes);
        let chunk = Chunk::encoded(raw, &sealed, location);
        match self.open.len() <= self.limit {
            true => Ok(Stored::Made(chunk, self.number)),
            false => Err(self.too_large(self.open.len())),
        }
    }

    fn too_large(&self, len: u64) -> PublishError {
        PublishError::NodeTooLarge {
            len,
            limit: self.limit,
        }
    }

    /// Finishes the open blob if it has no space for `len` more bytes.
    fn make_room(&mut self, len: u64) -> Result<(), PublishError> {
        let countable = self.open.node_bytes() + len <= MAX_NODE_BYTES;
        if self.open.is_empty() || (countable && self.open.len() + len <= self.limit) {
            return Ok(());
        }
        let full = std::mem::take(&mut self.open);
        let start = full.offset(0);
        let body = full.finish().map_err(PublishError::encode("a blob"))?;
        let (id, bytes) = finished(self.store, body.into())?;
        self.spilled.push((id, bytes));
        self.full.insert(self.number, (id, start));
        if self.number == 0 {
            self.sent.insert(self.open_pack, (id, start));
        }
        self.number += 1;
        Ok(())
    }

    /// All blobs so far except the open one.
    pub(super) fn others(&self) -> BTreeSet<BlobId> {
        let packs = self.sent.values().map(|(id, _)| *id);
        packs
            .chain(self.spilled.iter().map(|(id, _)| *id))
            .collect()
    }

    /// Returns the full blobs, and the last one with `head`, the node pushed last.
    pub(super) fn finish(self, head: &PlannedChunk) -> Result<Finished, PublishError> {
        let last = self.open.finish_with_head(head);
        let last = last.map_err(PublishError::encode("the blob of the head"))?;
        Ok((self.spilled, finished(self.store, last.into())?))
    }
}
