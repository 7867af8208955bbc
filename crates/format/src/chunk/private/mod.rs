//! Blobs of private repositories: sealed block by block, so that any part can be fetched
//! and verified alone.
//!
//! ```text
//! 0        80                 16480                                      end
//! | header | block 0 | tag 16 | block 1 | tag 16 | …                        |
//! ```
//!
//! - Plain bytes are padded with zeros to whole blocks of 16 KiB: a reader of a part does
//!   not need the length of the blob, and lengths reveal less.
//! - **One key per blob.** The header holds a salt, and the blob's key derives from the
//!   repository's key and the salt. The salt is a keyed hash of the plain bytes: the same
//!   bytes give the same blob (so an interrupted publish resumes), and different bytes
//!   give a different key. So the block number can be the nonce: a key and nonce never
//!   seal two plaintexts, without a counter or random numbers that could fail.
//! - **Additional data** of a block are all fields of the header and the block number: a
//!   block from another position, another blob, a truncated blob or another version does
//!   not open.
//! - The header carries a checksum, which can be checked without the key, and a key
//!   check, which only the right key passes: this distinguishes damage from a wrong key.
//!
//! All keys are derived: the repository's own key seals nothing.

mod blob;
mod header;
mod keys;

pub use blob::PrivateBlob;
pub use header::{
    BLOCK_LEN, Blocks, PRIVATE_HEADER_LEN, PRIVATE_MAGIC, PrivateError, PrivateHeader, is_private,
    private_capacity, private_len,
};
pub use keys::PrivateKeys;

#[cfg(test)]
mod tests {
    use super::header::SEALED_BLOCK_LEN;
    use super::*;
    use crate::chunk::{ByteRange, SecretKey};
    use crate::id::ChunkHash;
    use proptest::prelude::*;

    fn keys(fill: u8) -> PrivateKeys {
        PrivateKeys::of(&SecretKey::from_bytes([fill; 32]))
    }

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn sealed_blobs_open_padded_and_equal_bytes_give_equal_blobs() {
        for len in [0, 1, 16_383, 16_384, 16_385, 100_000] {
            let plain = noise(len, 1);
            let sealed = keys(1).seal(&plain).unwrap();
            assert_eq!(sealed.len() as u64, private_len(len as u64).unwrap());
            assert!(private_capacity(sealed.len() as u64) >= len as u64);
            assert_eq!(
                private_capacity(sealed.len() as u64 - 1) + BLOCK_LEN,
                private_capacity(sealed.len() as u64)
            );
            let opened = keys(1).open(&sealed).unwrap();
            assert_eq!(opened[..len], plain);
            assert!(opened[len..].iter().all(|&byte| byte == 0));
            assert!(opened.len() - len < BLOCK_LEN as usize || len == 0);
            assert_eq!(sealed, keys(1).seal(&plain).unwrap());
            assert_ne!(sealed, keys(2).seal(&plain).unwrap());
        }
    }

    #[test]
    fn a_wrong_key_is_distinguished_from_damage() {
        let sealed = keys(1).seal(b"text").unwrap();
        assert_eq!(keys(2).open(&sealed), Err(PrivateError::WrongKey));
        let mut bad = sealed.clone();
        for byte in 8..PRIVATE_HEADER_LEN {
            bad.clone_from(&sealed);
            bad[byte] ^= 1;
            let error = keys(1).open(&bad).unwrap_err();
            assert!(
                matches!(error, PrivateError::Damaged | PrivateError::Version(_)),
                "{byte}: {error}"
            );
        }
        bad.clone_from(&sealed);
        bad[PRIVATE_HEADER_LEN] ^= 1;
        assert_eq!(keys(1).open(&bad), Err(PrivateError::Block(0)));
        assert_eq!(keys(1).open(b"WALGITFS"), Err(PrivateError::NotPrivate));
        assert_eq!(keys(1).open(&sealed[..79]), Err(PrivateError::Damaged));
    }

    #[test]
    fn blocks_of_another_place_or_blob_do_not_open() {
        let one = keys(1).seal(&noise(50_000, 1)).unwrap();
        let other = keys(1).seal(&noise(50_000, 2)).unwrap();
        let block = |number: usize| {
            PRIVATE_HEADER_LEN + number * SEALED_BLOCK_LEN
                ..PRIVATE_HEADER_LEN + (number + 1) * SEALED_BLOCK_LEN
        };
        let mut swapped = one.clone();
        swapped[block(1)].copy_from_slice(&one[block(2)]);
        assert_eq!(keys(1).open(&swapped), Err(PrivateError::Block(1)));
        let mut spliced = one.clone();
        spliced[block(2)].copy_from_slice(&other[block(2)]);
        assert_eq!(keys(1).open(&spliced), Err(PrivateError::Block(2)));
        // A header with fewer blocks and a right checksum fails the key check.
        let header = PrivateHeader::decode(&one).unwrap();
        let fewer = PrivateHeader {
            blocks: 3,
            ..header
        };
        let mut cut = one[..fewer.stored_len() as usize].to_vec();
        cut[..PRIVATE_HEADER_LEN].copy_from_slice(&fewer.encode());
        assert_eq!(keys(1).open(&cut), Err(PrivateError::WrongKey));
        // The blocks do not open even if the header is trusted.
        let believed = keys(1).blob(&fewer);
        let first = &one[PRIVATE_HEADER_LEN..PRIVATE_HEADER_LEN + SEALED_BLOCK_LEN];
        assert_eq!(believed.open(0, first), Err(PrivateError::Block(0)));
    }

    #[test]
    fn roots_reveal_nothing_without_the_key() {
        let head = ChunkHash::of(b"head");
        let roots = [keys(1).root(&head), keys(2).root(&head), head];
        assert!(roots[0] != roots[1] && roots[0] != roots[2] && roots[1] != roots[2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_range_opens_to_the_sealed_bytes(len in 1usize..120_000, a in any::<proptest::sample::Index>(), b in any::<proptest::sample::Index>()) {
            let plain = noise(len, 3);
            let sealed = keys(1).seal(&plain).unwrap();
            let (a, b) = (a.index(len), b.index(len));
            let range = ByteRange::new(a.min(b) as u64, a.abs_diff(b) as u64 + 1);
            let blocks = Blocks::holding(range).unwrap();
            let stored = blocks.stored();
            let stored = &sealed[stored.start() as usize..stored.end() as usize];
            let blob = keys(1).unlock(&PrivateHeader::decode(&sealed).unwrap()).unwrap();
            let opened = blob.open(blocks.first, stored).unwrap();
            prop_assert_eq!(&opened[blocks.within(range)], &plain[range.start() as usize..range.end() as usize]);
        }

        #[test]
        fn any_flipped_bit_is_refused(len in 0usize..40_000, at in any::<proptest::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
            let mut sealed = keys(1).seal(&noise(len, 4)).unwrap();
            let at = at.index(sealed.len());
            if cut { sealed.truncate(at) } else { sealed[at] ^= 1 << bit }
            prop_assert!(keys(1).open(&sealed).is_err());
        }

        #[test]
        fn other_bytes_have_another_salt(a in proptest::collection::vec(any::<u8>(), 0..50), b in proptest::collection::vec(any::<u8>(), 0..50)) {
            let salt = |bytes: &[u8]| PrivateHeader::decode(&keys(1).seal(bytes).unwrap()).unwrap().salt;
            // Trailing zeros are padding, and do not change the blob.
            let trimmed = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            let same = a[..trimmed(&a)] == b[..trimmed(&b)];
            prop_assert_eq!(salt(&a) == salt(&b), same);
        }
    }
}
