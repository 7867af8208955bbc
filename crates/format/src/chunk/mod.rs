//! Chunks: hash, location and codec of stored pieces.
//!
//! All parts of a repository (directories, file content, commit logs) are split into
//! **chunks**. A chunk is identified by the BLAKE3-256 of its plain bytes and stored,
//! usually compressed, in a range of a blob. A [`ChunkRef`] records all of these, and
//! [`ChunkRef::open`] is the only function that turns stored bytes into plain ones: it
//! decompresses within the declared size and returns only bytes with the expected hash.
//! Gateways are not trusted, so no other module parses, caches or serves bytes that have
//! not passed this check.
//!
//! This module is pure code without I/O and without dependencies on other modules. The
//! identifiers ([`BlobId`], [`ChunkHash`], [`ByteRange`]) are defined here because all
//! layers use them.

mod bases;
pub mod budget;
mod codec;
mod dictionary;
mod id;
mod payload;
mod private;
mod range;
mod secret;
mod whole;

pub use bases::{Bases, MAX_BASE_BYTES, MAX_BASES};
pub use budget::{Budget, Refused, Stop};
pub use codec::{Codec, MAX_WINDOW_LOG, Patcher, Sealed, seal, seal_patch};
pub use dictionary::Dictionary;
pub use id::{BlobId, ChunkHash, ParseIdError};
pub use payload::{
    PAYLOAD_MAGIC, PAYLOAD_OVERHEAD, PayloadError, is_payload, open_payload, seal_payload,
};
pub use private::{
    BLOCK, Blocks, PRIVATE_HEADER, PRIVATE_MAGIC, PrivateBlob, PrivateError, PrivateHeader,
    PrivateKeys, is_private, private_capacity, private_len,
};
pub use range::ByteRange;
pub use secret::{IV_LEN, NotAKey, SecretKey, TAG_LEN};
pub use whole::{NotProven, Proof, WholeBlob, check_git};

use bytes::Bytes;

/// Largest plain size of a chunk of file content, in bytes.
///
/// A file up to this size is one chunk, so reading one byte fetches all of it; larger
/// files are split into chunks of about a quarter of this size. Part of the format: a
/// reader may reject larger chunks.
pub const MAX_DATA_CHUNK: u32 = 1 << 20;

/// Largest plain size of any chunk, directory nodes included, in bytes.
///
/// A limit for decoders, not a format choice: it bounds what a hostile reference can make
/// a reader allocate. A directory of 500,000 entries stays below it.
pub const MAX_CHUNK: u32 = 64 << 20;

/// The location of a chunk's stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The blob that contains them.
    pub blob: BlobId,
    /// Offset of the first byte in the blob.
    pub offset: u64,
    /// Number of stored bytes.
    pub stored_len: u32,
    /// Encoding of the stored bytes.
    pub codec: Codec,
}

impl Location {
    /// Returns the range of the stored bytes in the blob.
    pub fn range(&self) -> ByteRange {
        ByteRange::new(self.offset, u64::from(self.stored_len))
    }
}

/// A reference to a chunk: its hash and its location.
///
/// The hash is authoritative, the location a hint: a wrong location makes a chunk
/// unreadable, never wrong. The same applies to its bases.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// BLAKE3-256 of the plain bytes.
    pub hash: ChunkHash,
    /// Length of the plain bytes.
    pub raw_len: u32,
    /// Location of the stored bytes.
    pub at: Location,
    /// The dictionary or patch bases required to decode it.
    pub bases: Bases,
}

impl ChunkRef {
    /// Creates a reference that only identifies a node made in memory; nothing is stored
    /// at its location.
    pub fn nominal(blob: BlobId, hash: ChunkHash) -> Self {
        ChunkRef {
            hash,
            raw_len: 0,
            at: Location {
                blob,
                offset: 0,
                stored_len: 0,
                codec: Codec::Raw,
            },
            bases: Bases::NONE,
        }
    }

    /// Creates a reference to decode a node that is not stored yet. References into the
    /// node's own blob then start at offset 0.
    pub fn nominal_node(raw: &[u8]) -> Self {
        ChunkRef::nominal(BlobId::from_bytes([0; 32]), ChunkHash::of(raw))
    }

    /// Decodes stored bytes and verifies the plain ones.
    ///
    /// `raw_len` (at most [`MAX_CHUNK`]) and [`MAX_BASE_BYTES`] bound time and memory,
    /// whatever `stored` contains. `bases` are the plain bytes of the chunk's bases, each
    /// opened by this function.
    ///
    /// # Errors
    /// When the stored length differs from the declared one, the bytes do not decompress
    /// to exactly `raw_len` bytes, the hash differs, or the number of `bases` is wrong.
    pub fn open(&self, stored: Bytes, bases: &[Bytes]) -> Result<Bytes, ChunkError> {
        if self.raw_len > MAX_CHUNK {
            return Err(ChunkError::TooLarge(self.raw_len));
        }
        if stored.len() as u64 != u64::from(self.at.stored_len) {
            return Err(ChunkError::StoredLength {
                expected: self.at.stored_len,
                found: stored.len(),
            });
        }
        if bases.len() != self.bases.len() {
            return Err(ChunkError::Bases(bases.len()));
        }
        let dictionary = self.bases.first().map(|base| base.hash);
        let raw = (self.at.codec).decode(stored, self.raw_len, bases, dictionary)?;
        let found = ChunkHash::of(&raw);
        if found != self.hash {
            return Err(ChunkError::Hash {
                expected: self.hash,
                found,
            });
        }
        Ok(raw)
    }
}

/// Why stored bytes are not the expected chunk.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ChunkError {
    /// The declared size is over [`MAX_CHUNK`].
    #[error("chunk declares {0} bytes, more than the {MAX_CHUNK} a reader accepts")]
    TooLarge(u32),
    /// Fewer or more bytes than the reference declares.
    #[error("chunk has {found} stored bytes where its reference says {expected}")]
    StoredLength {
        /// Declared by the reference.
        expected: u32,
        /// Received.
        found: usize,
    },
    /// The bytes do not decompress, or not to the declared length.
    #[error("chunk does not decompress to its declared {expected} bytes: {why}")]
    Decode {
        /// Declared plain length.
        expected: u32,
        /// Error of the decoder.
        why: String,
    },
    /// The bytes decompress to different content.
    #[error("chunk hashes to {found} where {expected} was expected")]
    Hash {
        /// The expected hash.
        expected: ChunkHash,
        /// The hash of the received content.
        found: ChunkHash,
    },
    /// Wrong number of bases.
    #[error("chunk needs what it is a patch against, or its dictionary; it has {0}")]
    Bases(usize),
    /// A codec that this version does not support.
    #[error("chunk uses codec {0}, which this version of walgit-fs does not know; update it")]
    UnknownCodec(u8),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(raw: &[u8]) -> (ChunkRef, Bytes) {
        let sealed = seal(raw, 3);
        let at = Location {
            blob: BlobId::from_bytes([7; 32]),
            offset: 0,
            stored_len: sealed.bytes.len() as u32,
            codec: sealed.codec,
        };
        let chunk = ChunkRef {
            hash: ChunkHash::of(raw),
            raw_len: raw.len() as u32,
            at,
            bases: Bases::NONE,
        };
        (chunk, Bytes::from(sealed.bytes))
    }

    #[test]
    fn a_bomb_is_stopped_at_the_declared_size() {
        let zeros = vec![0u8; 32 << 20];
        let (mut chunk, bytes) = stored(&zeros);
        assert!(bytes.len() < 4096);
        chunk.raw_len = 1000;
        assert!(matches!(
            chunk.open(bytes, &[]),
            Err(ChunkError::Decode { expected: 1000, .. })
        ));
    }

    #[test]
    fn a_declared_size_over_the_bound_is_refused_before_decoding() {
        let (mut chunk, bytes) = stored(b"x");
        chunk.raw_len = MAX_CHUNK + 1;
        assert_eq!(
            chunk.open(bytes, &[]),
            Err(ChunkError::TooLarge(MAX_CHUNK + 1))
        );
    }

    /// A chunk stored as `sealed` with these bases.
    fn based(raw: &[u8], sealed: &Sealed, bases: &[&[u8]]) -> ChunkRef {
        let (chunk, _) = stored(raw);
        let at = Location {
            stored_len: sealed.bytes.len() as u32,
            codec: sealed.codec,
            ..chunk.at
        };
        let bases: Vec<ChunkRef> = bases.iter().map(|base| stored(base).0).collect();
        let bases = bases.into();
        ChunkRef { at, bases, ..chunk }
    }

    #[test]
    fn what_a_dictionary_compressed_opens_with_it_alone() {
        let files: Vec<String> = (0..200)
            .map(|n| {
                format!("use std::io;\n\nfn number_{n}() -> io::Result<u32> {{\n    Ok({n})\n}}\n")
            })
            .collect();
        let samples: Vec<&[u8]> = files.iter().map(String::as_bytes).collect();
        let dictionary = Dictionary::train(&samples, 4096, 9).unwrap();
        let raw = samples[7];
        let sealed = dictionary.seal(raw);
        assert_eq!(sealed.codec, Codec::Dictionary);
        assert!(sealed.bytes.len() * 2 < seal(raw, 9).bytes.len());
        let chunk = based(raw, &sealed, &[dictionary.bytes()]);
        let bytes = Bytes::from(sealed.bytes);
        let base = Bytes::copy_from_slice(dictionary.bytes());
        assert_eq!(
            chunk
                .open(bytes.clone(), std::slice::from_ref(&base))
                .unwrap(),
            raw
        );
        assert_eq!(chunk.open(bytes.clone(), &[]), Err(ChunkError::Bases(0)));
        let mut other = chunk.clone();
        other.bases = Bases::NONE;
        assert_eq!(other.open(bytes, &[]), Err(ChunkError::Bases(0)));
    }

    proptest! {
        #[test]
        fn a_patch_opens_with_its_bases_in_their_order(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..800), 1..5), insert in proptest::collection::vec(any::<u8>(), 0..50), at in any::<proptest::sample::Index>()) {
            let mut raw = parts.concat();
            let at = at.index(raw.len());
            raw.splice(at..at, insert);
            let bases: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let sealed = seal_patch(&raw, &bases, 9).unwrap();
            prop_assert!(sealed.bytes.len() < 200);
            let chunk = based(&raw, &sealed, &bases);
            let bytes = Bytes::from(sealed.bytes);
            let given: Vec<Bytes> = parts.iter().cloned().map(Bytes::from).collect();
            prop_assert_eq!(&chunk.open(bytes.clone(), &given).unwrap()[..], &raw[..]);
            // With other bases it fails, or gives the same content by chance.
            let wrong: Vec<Bytes> = given.iter().map(|base| Bytes::from(vec![0; base.len()])).collect();
            if let Ok(opened) = chunk.open(bytes, &wrong) {
                prop_assert_eq!(&opened[..], &raw[..]);
            }
        }

        #[test]
        fn what_is_sealed_opens_to_the_same_bytes(raw in proptest::collection::vec(any::<u8>(), 0..5000), repeat in 1usize..20) {
            let raw = raw.repeat(repeat);
            let (chunk, bytes) = stored(&raw);
            prop_assert_eq!(&chunk.open(bytes, &[]).unwrap()[..], &raw[..]);
        }

        #[test]
        fn a_flipped_bit_or_a_cut_never_yields_other_bytes(raw in proptest::collection::vec(any::<u8>(), 1..3000), repeat in 1usize..8, at in any::<proptest::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
            let raw = raw.repeat(repeat);
            let (chunk, bytes) = stored(&raw);
            let mut bad = bytes.to_vec();
            let i = at.index(bad.len());
            if cut { bad.truncate(i) } else { bad[i] ^= 1 << bit }
            match chunk.open(Bytes::from(bad), &[]) {
                Ok(opened) => prop_assert_eq!(&opened[..], &raw[..]),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn arbitrary_bytes_never_open(junk in proptest::collection::vec(any::<u8>(), 0..2000), raw_len in 0u32..100_000, zstd in any::<bool>()) {
            let chunk = ChunkRef {
                hash: ChunkHash::of(b"something else altogether"),
                raw_len,
                at: Location {
                    blob: BlobId::from_bytes([0; 32]),
                    offset: 0,
                    stored_len: junk.len() as u32,
                    codec: if zstd { Codec::Zstd } else { Codec::Raw },
                },
                bases: Bases::NONE,
            };
            prop_assert!(chunk.open(Bytes::from(junk), &[]).is_err());
        }
    }
}
