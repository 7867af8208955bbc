//! Blobs of private repositories: sealed block by block, so that any part can be fetched
//! and verified by itself.
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

use ring::aead::{Aad, LessSafeKey, Nonce, Tag};

use super::range::ByteRange;
use super::secret::{IV_LEN, SecretKey, TAG_LEN};
use crate::id::ChunkHash;

/// Plain bytes per block.
///
/// Reading one byte fetches and opens a whole block; its tag of 16 bytes adds a
/// thousandth. Part of the format.
pub const BLOCK: u64 = 16 << 10;
/// Length of the header in bytes.
pub const PRIVATE_HEADER: usize = 80;
/// Magic number of a sealed blob.
pub const PRIVATE_MAGIC: &[u8; 8] = b"WGSEALED";

/// Version of this layout; older versions of the program reject newer ones.
const VERSION: u16 = 1;
/// Stored bytes per block.
const STORED: usize = BLOCK as usize + TAG_LEN;
/// Fields of the header before key check and checksum.
const FIELDS: usize = 48;
const CHECK: usize = 16;

/// Why the blob of a private repository cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateError {
    /// Not a sealed blob.
    #[error("it is not encrypted (it does not start with WGSEALED)")]
    NotPrivate,
    /// A newer version of the format.
    #[error("it is encrypted in version {0}, this walgit-fs reads up to {VERSION}; update it")]
    Version(u16),
    /// Its header or its length is damaged.
    #[error("what it is encrypted in is damaged")]
    Damaged,
    /// No key is given.
    #[error(
        "it is encrypted; give its key with --key FILE, or keep it with walgit-fs key add NAME FILE"
    )]
    NoKey,
    /// The blob is intact, but sealed with another key.
    #[error(
        "it is encrypted with another key than those at hand; give the right one with --key FILE, or keep it with walgit-fs key add NAME FILE"
    )]
    WrongKey,
    /// A block that is damaged.
    #[error("block {0} is not what was encrypted")]
    Block(u32),
    /// More bytes than a blob can hold.
    #[error("{0} bytes are more than one encrypted blob holds")]
    TooLong(u64),
}

/// Whether bytes are the start of a sealed blob.
pub fn is_private(bytes: &[u8]) -> bool {
    bytes.starts_with(PRIVATE_MAGIC)
}

/// Returns the stored length of `plain` bytes; `None` if a blob cannot hold them.
pub fn private_len(plain: u64) -> Option<u64> {
    let blocks = u32::try_from(plain.div_ceil(BLOCK).max(1)).ok()?;
    Some(PRIVATE_HEADER as u64 + u64::from(blocks) * STORED as u64)
}

/// Returns how many plain bytes fit into `stored` bytes.
pub fn private_capacity(stored: u64) -> u64 {
    stored.saturating_sub(PRIVATE_HEADER as u64) / STORED as u64 * BLOCK
}

/// All keys derived from the key of a private repository. Wiped on drop.
#[derive(Clone, Debug)]
pub struct PrivateKeys {
    /// The repository's own key, which seals nothing.
    own: SecretKey,
    salts: SecretKey,
    blobs: SecretKey,
    checks: SecretKey,
    roots: SecretKey,
    at_rest: SecretKey,
}

impl PrivateKeys {
    /// Derives the keys from `own`.
    pub fn of(own: &SecretKey) -> Self {
        PrivateKeys {
            own: own.clone(),
            salts: own.derive("walgit-fs 2026 private blob 1: salt"),
            blobs: own.derive("walgit-fs 2026 private blob 1: key of a blob"),
            checks: own.derive("walgit-fs 2026 private blob 1: key check"),
            roots: own.derive("walgit-fs 2026 private blob 1: root of an address"),
            at_rest: own.at_rest(),
        }
    }

    /// Returns the repository's own key.
    pub fn own(&self) -> &SecretKey {
        &self.own
    }

    /// Returns the key that encrypts the disk cache.
    pub fn at_rest(&self) -> &SecretKey {
        &self.at_rest
    }

    /// Returns the root of the head in an address. A guessed head cannot be confirmed by
    /// it.
    pub fn root(&self, head: &ChunkHash) -> ChunkHash {
        ChunkHash::from_bytes(self.roots.name(head.as_bytes()))
    }

    /// Seals plain bytes as a blob; deterministic.
    ///
    /// # Errors
    /// [`PrivateError::TooLong`].
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, PrivateError> {
        let too_long = || PrivateError::TooLong(plain.len() as u64);
        let blocks = plain.len().div_ceil(BLOCK as usize).max(1);
        let padded = blocks * BLOCK as usize;
        let header = PrivateHeader {
            blocks: u32::try_from(blocks).map_err(|_| too_long())?,
            salt: self.salt(plain, padded),
            check: [0; CHECK],
        };
        let header = PrivateHeader {
            check: self.check(&header),
            ..header
        };
        let blob = self.blob(&header);
        let mut sealed = Vec::with_capacity(PRIVATE_HEADER + blocks * STORED);
        sealed.extend_from_slice(&header.encode());
        let mut pieces = plain.chunks(BLOCK as usize);
        for number in 0..header.blocks {
            let start = sealed.len();
            sealed.extend_from_slice(pieces.next().unwrap_or_default());
            sealed.resize(start + BLOCK as usize, 0);
            let tag = blob.seal(number, &mut sealed[start..]);
            sealed.extend_from_slice(&tag.ok_or_else(too_long)?);
        }
        Ok(sealed)
    }

    /// Opens a whole blob; the plain bytes include the zero padding.
    ///
    /// # Errors
    /// [`PrivateError`]; no content is returned then.
    pub fn open(&self, stored: &[u8]) -> Result<Vec<u8>, PrivateError> {
        let header = PrivateHeader::decode(stored)?;
        if stored.len() as u64 != header.stored_len() {
            return Err(PrivateError::Damaged);
        }
        self.unlock(&header)?.open(0, &stored[PRIVATE_HEADER..])
    }

    /// Returns the blob with the key of this header.
    ///
    /// # Errors
    /// [`PrivateError::WrongKey`] if the blob is sealed with another key.
    pub fn unlock(&self, header: &PrivateHeader) -> Result<PrivateBlob, PrivateError> {
        // Compares in constant time.
        let same = blake3::Hash::from_bytes(widened(self.check(header)))
            == blake3::Hash::from_bytes(widened(header.check));
        match same {
            true => Ok(self.blob(header)),
            false => Err(PrivateError::WrongKey),
        }
    }

    fn salt(&self, plain: &[u8], padded: usize) -> [u8; 32] {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        let mut hasher = self.salts.hasher();
        hasher.update(plain);
        hasher.update(&ZEROS[..padded - plain.len()]);
        *hasher.finalize().as_bytes()
    }

    fn check(&self, header: &PrivateHeader) -> [u8; CHECK] {
        let mut hasher = self.checks.hasher();
        hasher.update(&header.fields());
        let mut check = [0; CHECK];
        check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK]);
        check
    }

    fn blob(&self, header: &PrivateHeader) -> PrivateBlob {
        PrivateBlob {
            key: SecretKey::from_bytes(self.blobs.name(&header.salt)),
            header: *header,
        }
    }
}

fn widened(check: [u8; CHECK]) -> [u8; 32] {
    let mut wide = [0; 32];
    wide[..CHECK].copy_from_slice(&check);
    wide
}

/// The header of a sealed blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateHeader {
    blocks: u32,
    salt: [u8; 32],
    check: [u8; CHECK],
}

impl PrivateHeader {
    /// Decodes the header from the first bytes of a blob.
    ///
    /// # Errors
    /// [`PrivateError`]. A valid header does not authenticate its author: see
    /// [`PrivateKeys::unlock`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PrivateError> {
        if !is_private(bytes) {
            return Err(PrivateError::NotPrivate);
        }
        let bytes: &[u8; PRIVATE_HEADER] = bytes.first_chunk().ok_or(PrivateError::Damaged)?;
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(PrivateError::Version(version));
        }
        let (mut salt, mut check) = ([0; 32], [0; CHECK]);
        salt.copy_from_slice(&bytes[16..FIELDS]);
        check.copy_from_slice(&bytes[FIELDS..FIELDS + CHECK]);
        let header = PrivateHeader {
            blocks: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            salt,
            check,
        };
        // Compares the checksum as well: a header has exactly one encoding.
        match header.encode() == *bytes && header.blocks > 0 {
            true => Ok(header),
            false => Err(PrivateError::Damaged),
        }
    }

    /// Returns the number of blocks; at least one.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns the stored length of the blob, in bytes.
    pub fn stored_len(&self) -> u64 {
        PRIVATE_HEADER as u64 + u64::from(self.blocks) * STORED as u64
    }

    fn fields(&self) -> [u8; FIELDS] {
        let mut bytes = [0; FIELDS];
        bytes[..8].copy_from_slice(PRIVATE_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[16..].copy_from_slice(&self.salt);
        bytes
    }

    fn encode(&self) -> [u8; PRIVATE_HEADER] {
        let mut bytes = [0; PRIVATE_HEADER];
        bytes[..FIELDS].copy_from_slice(&self.fields());
        bytes[FIELDS..FIELDS + CHECK].copy_from_slice(&self.check);
        let sum = blake3::hash(&bytes[..FIELDS + CHECK]);
        bytes[FIELDS + CHECK..].copy_from_slice(&sum.as_bytes()[..CHECK]);
        bytes
    }
}

/// A run of blocks that contains a range of plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Number of the first block.
    pub first: u32,
    /// Number of blocks; at least one.
    pub count: u32,
}

impl Blocks {
    /// Returns the blocks that contain `range`; `None` if no blob can have all of them.
    pub fn holding(range: ByteRange) -> Option<Self> {
        let first = range.start() / BLOCK;
        let end = range.end().div_ceil(BLOCK).max(first + 1);
        Some(Blocks {
            first: u32::try_from(first).ok()?,
            count: u32::try_from(end).ok()?.checked_sub(first as u32)?,
        })
    }

    /// Returns the number of the block after the last.
    pub fn end(&self) -> u64 {
        u64::from(self.first) + u64::from(self.count)
    }

    /// Returns their range in the stored blob.
    pub fn stored(&self) -> ByteRange {
        let start = PRIVATE_HEADER as u64 + u64::from(self.first) * STORED as u64;
        ByteRange::new(start, u64::from(self.count) * STORED as u64)
    }

    /// Returns `range` relative to the plain bytes of these blocks.
    pub fn within(&self, range: ByteRange) -> std::ops::Range<usize> {
        let start = (range.start() - u64::from(self.first) * BLOCK) as usize;
        start..start + range.len() as usize
    }
}

/// A sealed blob with its key.
#[derive(Clone, Debug)]
pub struct PrivateBlob {
    key: SecretKey,
    header: PrivateHeader,
}

impl PrivateBlob {
    /// Returns the header, which the key has authenticated.
    pub fn header(&self) -> &PrivateHeader {
        &self.header
    }

    /// Opens whole blocks starting at number `first`. Returns no bytes before all tags
    /// are checked.
    ///
    /// # Errors
    /// [`PrivateError::Block`] with the first damaged block; [`PrivateError::Damaged`] if
    /// there are partial blocks, or more blocks than the blob has.
    pub fn open(&self, first: u32, stored: &[u8]) -> Result<Vec<u8>, PrivateError> {
        let count = stored.len() / STORED;
        let end = u64::from(first) + count as u64;
        if !stored.len().is_multiple_of(STORED) || end > u64::from(self.header.blocks) {
            return Err(PrivateError::Damaged);
        }
        let cipher = self.key.cipher().ok_or(PrivateError::WrongKey)?;
        let mut plain = Vec::with_capacity(count * BLOCK as usize);
        for (number, block) in (first..).zip(stored.chunks_exact(STORED)) {
            let failed = || PrivateError::Block(number);
            let (sealed, tag) = block.split_last_chunk::<TAG_LEN>().ok_or_else(failed)?;
            let start = plain.len();
            plain.extend_from_slice(sealed);
            self.open_block(&cipher, number, *tag, &mut plain[start..])
                .ok_or_else(failed)?;
        }
        Ok(plain)
    }

    /// Opens the whole blocks in a prefix of the stored blob, header included; returns no
    /// bytes if the prefix holds no whole block.
    ///
    /// # Errors
    /// As [`PrivateBlob::open`].
    pub fn open_start(&self, stored: &[u8]) -> Result<Vec<u8>, PrivateError> {
        let body = stored.get(PRIVATE_HEADER..).unwrap_or_default();
        let whole = (body.len() / STORED).min(self.header.blocks as usize);
        self.open(0, &body[..whole * STORED])
    }

    fn open_block(
        &self,
        cipher: &LessSafeKey,
        number: u32,
        tag: [u8; TAG_LEN],
        block: &mut [u8],
    ) -> Option<()> {
        let aad = Aad::from(self.additional(number));
        let opened = cipher.open_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce(number)),
            aad,
            Tag::from(tag),
            block,
            0..,
        );
        opened.ok().map(|_| ())
    }

    fn seal(&self, number: u32, block: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        (self.key).seal(nonce(number), &self.additional(number), block)
    }

    fn additional(&self, number: u32) -> [u8; FIELDS + 4] {
        let mut bytes = [0; FIELDS + 4];
        bytes[..FIELDS].copy_from_slice(&self.header.fields());
        bytes[FIELDS..].copy_from_slice(&number.to_le_bytes());
        bytes
    }
}

/// Encodes a block number as a nonce of twelve bytes.
fn nonce(number: u32) -> [u8; IV_LEN] {
    let mut nonce = [0; IV_LEN];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn whole_blobs_come_back_padded_and_the_same_bytes_are_the_same_blob() {
        for len in [0, 1, 16_383, 16_384, 16_385, 100_000] {
            let plain = noise(len, 1);
            let sealed = keys(1).seal(&plain).unwrap();
            assert_eq!(sealed.len() as u64, private_len(len as u64).unwrap());
            assert!(private_capacity(sealed.len() as u64) >= len as u64);
            assert_eq!(
                private_capacity(sealed.len() as u64 - 1) + BLOCK,
                private_capacity(sealed.len() as u64)
            );
            let opened = keys(1).open(&sealed).unwrap();
            assert_eq!(opened[..len], plain);
            assert!(opened[len..].iter().all(|&byte| byte == 0));
            assert!(opened.len() - len < BLOCK as usize || len == 0);
            assert_eq!(sealed, keys(1).seal(&plain).unwrap());
            assert_ne!(sealed, keys(2).seal(&plain).unwrap());
        }
    }

    #[test]
    fn a_wrong_key_is_told_from_damage() {
        let sealed = keys(1).seal(b"text").unwrap();
        assert_eq!(keys(2).open(&sealed), Err(PrivateError::WrongKey));
        let mut bad = sealed.clone();
        for byte in 8..PRIVATE_HEADER {
            bad.clone_from(&sealed);
            bad[byte] ^= 1;
            let said = keys(1).open(&bad).unwrap_err();
            assert!(
                matches!(said, PrivateError::Damaged | PrivateError::Version(_)),
                "{byte}: {said}"
            );
        }
        bad.clone_from(&sealed);
        bad[PRIVATE_HEADER] ^= 1;
        assert_eq!(keys(1).open(&bad), Err(PrivateError::Block(0)));
        assert_eq!(keys(1).open(b"WALGITFS"), Err(PrivateError::NotPrivate));
        assert_eq!(keys(1).open(&sealed[..79]), Err(PrivateError::Damaged));
    }

    #[test]
    fn blocks_of_another_place_or_blob_do_not_open() {
        let one = keys(1).seal(&noise(50_000, 1)).unwrap();
        let other = keys(1).seal(&noise(50_000, 2)).unwrap();
        let block = |number: usize| {
            PRIVATE_HEADER + number * STORED..PRIVATE_HEADER + (number + 1) * STORED
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
        cut[..PRIVATE_HEADER].copy_from_slice(&fewer.encode());
        assert_eq!(keys(1).open(&cut), Err(PrivateError::WrongKey));
        // The blocks do not open even if the header is trusted.
        let believed = keys(1).blob(&fewer);
        let first = &one[PRIVATE_HEADER..PRIVATE_HEADER + STORED];
        assert_eq!(believed.open(0, first), Err(PrivateError::Block(0)));
    }

    #[test]
    fn roots_tell_nothing_without_the_key() {
        let head = ChunkHash::of(b"head");
        let roots = [keys(1).root(&head), keys(2).root(&head), head];
        assert!(roots[0] != roots[1] && roots[0] != roots[2] && roots[1] != roots[2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_range_is_what_was_sealed(len in 1usize..120_000, a in any::<proptest::sample::Index>(), b in any::<proptest::sample::Index>()) {
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
