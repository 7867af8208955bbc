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
//! This module is pure code without I/O; of the crate, it depends on the identifiers only.

pub mod budget;
mod codec;
mod decode;
mod dictionary;
mod encode;
mod payload;
mod private;
mod range;
mod reference;
mod secret;
mod whole;

pub use crate::id::{BlobId, ChunkHash, ParseIdError};
pub use budget::{Budget, Refused, Stop};
pub use codec::{ChunkError, Codec, EncodedChunk, MAX_CHUNK, MAX_DATA_CHUNK, MAX_WINDOW_LOG};
pub use dictionary::Dictionary;
pub use encode::{PatchEncoder, encode_chunk, encode_patch};
pub use payload::{
    PAYLOAD_MAGIC, PAYLOAD_OVERHEAD, PayloadError, is_payload, open_payload, seal_payload,
};
pub use private::{
    BLOCK_LEN, Blocks, PRIVATE_HEADER_LEN, PRIVATE_MAGIC, PrivateBlob, PrivateError, PrivateHeader,
    PrivateKeys, is_private, private_capacity, private_len,
};
pub use range::ByteRange;
pub use reference::{
    Bases, Chunk, ChunkRef, Location, MAX_BASE_BYTES, MAX_BASES, PlannedChunk, PlannedLocation,
};
pub use secret::{IV_LEN, NotAKey, SecretKey, TAG_LEN};
pub use whole::{NotProven, Proof, WholeBlob, check_git};

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn plain(raw: &[u8]) -> ChunkRef {
        let blob = BlobId::from_bytes([7; 32]);
        let location = Location { blob, offset: 0 };
        Chunk::raw(ChunkHash::of(raw), raw.len() as u32, location)
    }

    fn stored(raw: &[u8]) -> (ChunkRef, Bytes) {
        let sealed = encode_chunk(raw, 3);
        let chunk = based(raw, &sealed, &[]);
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
    fn based(raw: &[u8], sealed: &EncodedChunk, bases: &[&[u8]]) -> ChunkRef {
        Chunk {
            bases: bases.iter().map(|base| stored(base).0).collect(),
            ..Chunk::encoded(raw, sealed, plain(raw).location)
        }
    }

    #[test]
    fn a_compressed_chunk_opens_only_with_its_dictionary() {
        let files: Vec<String> = (0..200)
            .map(|n| {
                format!("use std::io;\n\nfn number_{n}() -> io::Result<u32> {{\n    Ok({n})\n}}\n")
            })
            .collect();
        let samples: Vec<&[u8]> = files.iter().map(String::as_bytes).collect();
        let dictionary = Dictionary::train(&samples, 4096, 9).unwrap();
        let raw = samples[7];
        let sealed = dictionary.encode(raw);
        assert_eq!(sealed.codec, Codec::Dictionary);
        assert!(sealed.bytes.len() * 2 < encode_chunk(raw, 9).bytes.len());
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
            let sealed = encode_patch(&raw, &bases, 9).unwrap();
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
        fn a_sealed_chunk_opens_to_the_same_bytes(raw in proptest::collection::vec(any::<u8>(), 0..5000), repeat in 1usize..20) {
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
            let chunk = Chunk {
                raw_len,
                stored_len: junk.len() as u32,
                codec: if zstd { Codec::Zstd } else { Codec::Raw },
                ..plain(b"something else altogether")
            };
            prop_assert!(chunk.open(Bytes::from(junk), &[]).is_err());
        }
    }
}
