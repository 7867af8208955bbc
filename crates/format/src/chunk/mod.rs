//! What a stored piece is: its hash, its location, its codec.
//!
//! Everything a repository consists of (directories, file content, commit
//! logs) is cut into **chunks**. A chunk is named by the BLAKE3-256 of its
//! plain bytes and lies, usually compressed, at some range of some blob. A
//! [`ChunkRef`] says all of that, and [`ChunkRef::open`] is the only door from
//! stored bytes to plain ones: it decompresses within the declared size and
//! gives nothing back whose hash is not the one asked for. Gateways are run by
//! strangers, so no other room parses, caches or serves bytes that have not
//! come through that door.
//!
//! This is the bottom of the house: pure code, no I/O, nothing imported from
//! other rooms. The names of things ([`BlobId`], [`ChunkHash`],
//! [`ByteRange`]) live here because every room above speaks of them.

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
    PrivateKeys, is_private, private_len, private_room,
};
pub use range::ByteRange;
pub use secret::{IV_LEN, NotAKey, SecretKey, TAG_LEN};
pub use whole::{NotProven, Proof, WholeBlob, check_git};

use bytes::Bytes;

/// Largest plain size of a chunk of file content, in bytes.
///
/// Files up to this size are one chunk, so a reader of one byte of such a file
/// fetches the whole of it; larger files are cut to about a quarter of it.
/// Part of the format: a reader may refuse more.
pub const MAX_DATA_CHUNK: u32 = 1 << 20;

/// Largest plain size of any chunk, directory nodes included, in bytes.
///
/// A parse bound, not a format choice: it is what a hostile reference can make
/// a reader allocate. A directory of 500,000 entries stays below it.
pub const MAX_CHUNK: u32 = 64 << 20;

/// Where the stored bytes of a chunk lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The blob that holds them.
    pub blob: BlobId,
    /// Offset of their first byte in the blob.
    pub offset: u64,
    /// How many bytes are stored.
    pub stored_len: u32,
    /// How they were encoded.
    pub codec: Codec,
}

impl Location {
    /// The range of the blob to ask for.
    pub fn range(&self) -> ByteRange {
        ByteRange::new(self.offset, u64::from(self.stored_len))
    }
}

/// A reference to a chunk: what it must hash to, and where its bytes are.
///
/// The hash is authority, the location a hint: a wrong location makes a chunk
/// unreadable, never wrong. The same goes for its bases.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// BLAKE3-256 of the plain bytes.
    pub hash: ChunkHash,
    /// Length of the plain bytes.
    pub raw_len: u32,
    /// Where the stored bytes are.
    pub at: Location,
    /// What they are decoded with: a dictionary, or the chunks that they are a
    /// patch against.
    pub bases: Bases,
}

impl ChunkRef {
    /// A reference that only names, for what is made in memory: nothing is
    /// stored under it.
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

    /// A reference to a node that is not stored yet, to decode it with: what lies
    /// in its own blob then seems to lie from offset 0 on.
    pub fn nominal_node(raw: &[u8]) -> Self {
        ChunkRef::nominal(BlobId::from_bytes([0; 32]), ChunkHash::of(raw))
    }

    /// Turns stored bytes into plain, verified ones.
    ///
    /// Time and memory are bounded by `raw_len` (itself at most
    /// [`MAX_CHUNK`]) and [`MAX_BASE_BYTES`], whatever `stored` holds. `bases`
    /// are the plain bytes of the chunk's bases, opened by this very function.
    ///
    /// # Errors
    /// When the stored length is not the declared one, the bytes do not
    /// decompress to exactly `raw_len` bytes, or their hash is another; when
    /// `bases` are not as many as the chunk needs.
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

/// Why stored bytes are not the chunk they should be.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ChunkError {
    /// The declared size is over [`MAX_CHUNK`].
    #[error("chunk declares {0} bytes, more than the {MAX_CHUNK} a reader accepts")]
    TooLarge(u32),
    /// Fewer or more bytes than the reference declares.
    #[error("chunk has {found} stored bytes where its reference says {expected}")]
    StoredLength {
        /// As the reference says.
        expected: u32,
        /// As received.
        found: usize,
    },
    /// The bytes do not decompress, or not to the declared length.
    #[error("chunk does not decompress to its declared {expected} bytes: {why}")]
    Decode {
        /// Declared plain length.
        expected: u32,
        /// What the decoder said.
        why: String,
    },
    /// Decompressed well, but to other content.
    #[error("chunk hashes to {found} where {expected} was expected")]
    Hash {
        /// The hash asked for.
        expected: ChunkHash,
        /// The hash of what was received.
        found: ChunkHash,
    },
    /// It is decoded with other chunks than it was given.
    #[error("chunk needs what it is a patch against, or its dictionary; it has {0}")]
    Bases(usize),
    /// A codec this version does not know.
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

    /// A chunk that `sealed` stores, decoded with `bases`.
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
            // Against anything else it is an error, or the very same by chance.
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
