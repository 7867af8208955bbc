//! Column families of the database, and the encoding of their entries.

use bytes::Bytes;

use walgit_format::chunk::{Bases, BlobId, ChunkHash, ChunkRef, Codec, Location};

/// Chunks: page name → codec, plain length, stored bytes.
pub(super) const PAGES: &str = "pages";
/// Metadata of chunks: page name → age, size, whether it was promoted. All that
/// eviction needs, so that opening does not read content.
pub(super) const METADATA: &str = "marks";
/// Small durable records of other modules.
pub(super) const RECORDS: &str = "records";

/// Key and value of a record as stored.
pub(super) type RawRecord = (Box<[u8]>, Box<[u8]>);

/// Bytes for codec and plain length before the stored bytes.
const PAGE_HEADER_LEN: usize = 5;

pub(super) fn encode_metadata(age: u64, size: u32, promoted: bool) -> [u8; 13] {
    let mut value = [0; 13];
    value[..8].copy_from_slice(&age.to_le_bytes());
    value[8..12].copy_from_slice(&size.to_le_bytes());
    value[12] = u8::from(promoted);
    value
}

pub(super) fn decode_metadata(key: &[u8], value: &[u8]) -> Option<(u64, ChunkHash, u32, bool)> {
    let hash = ChunkHash::from_bytes(key.try_into().ok()?);
    let (age, rest) = value.split_first_chunk::<8>()?;
    let (size, rest) = rest.split_first_chunk::<4>()?;
    let promoted = *rest.first()? == 1;
    let (age, size) = (u64::from_le_bytes(*age), u32::from_le_bytes(*size));
    Some((age, hash, size, promoted))
}

/// Encodes the value of a chunk's page.
pub(super) fn encode_page(chunk: &ChunkRef, stored: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(PAGE_HEADER_LEN + stored.len());
    value.push(chunk.codec as u8);
    value.extend_from_slice(&chunk.raw_len.to_le_bytes());
    value.extend_from_slice(stored);
    value
}

/// Decodes a value like any stored chunk: checks bounds, then the hash.
pub(super) fn open_page(hash: &ChunkHash, value: Vec<u8>) -> Option<Bytes> {
    let value = Bytes::from(value);
    let (header, _) = value.split_first_chunk::<PAGE_HEADER_LEN>()?;
    let [codec, a, b, c, d] = *header;
    let stored = value.slice(PAGE_HEADER_LEN..);
    let chunk = ChunkRef {
        hash: *hash,
        raw_len: u32::from_le_bytes([a, b, c, d]),
        stored_len: u32::try_from(stored.len()).ok()?,
        codec: Codec::try_from(codec).ok()?,
        location: Location {
            blob: BlobId::from_bytes([0; 32]),
            offset: 0,
        },
        // Pages never have bases.
        bases: Bases::NONE,
    };
    chunk.open(stored, &[]).ok()
}
