//! Encryption of values that must not be on disk in plain text.
//!
//! ```text
//! 0x80 | checksum (16 bytes) | IV (12) | GCM tag (16) | encrypted value
//! ```
//!
//! The key comes from the store ([`walrus_client::BlobReader::at_rest`]) and is
//! never stored here. The checksum covers everything after it, so that `cache
//! verify` finds damage without the key. Page names are keyed too: a plain hash on
//! disk would reveal to anyone who has the text that it was read.

use ring::rand::{SecureRandom as _, SystemRandom};

use super::error::CacheError;
use walgit_format::chunk::{ChunkHash, IV_LEN, SecretKey, TAG_LEN};

/// Marker of an encrypted value; not a codec number.
const ENCRYPTED: u8 = 0x80;
const CHECKSUM_LEN: usize = 16;

/// Encryption of names and values with the key of a store; none without a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtRest<'a>(Option<&'a SecretKey>);

impl<'a> AtRest<'a> {
    pub(super) fn new(key: Option<&'a SecretKey>) -> Self {
        AtRest(key)
    }

    /// Returns the name of a chunk's page.
    pub(super) fn page_name(self, hash: &ChunkHash) -> ChunkHash {
        let keyed = |key: &SecretKey| ChunkHash::from_bytes(key.name(hash.as_bytes()));
        self.0.map_or(*hash, keyed)
    }

    /// Returns the name of a record. The names of blobs that were read are private too.
    pub(super) fn record_name(self, name: &[u8]) -> Vec<u8> {
        match self.0 {
            None => name.into(),
            Some(key) => key.name(ChunkHash::of(name).as_bytes()).into(),
        }
    }

    /// Encrypts the value `name` if there is a key.
    ///
    /// # Errors
    /// If the system provides no randomness: nothing must be written then.
    pub(super) fn encrypt(
        self,
        name: &ChunkHash,
        mut value: Vec<u8>,
    ) -> Result<Vec<u8>, CacheError> {
        let Some(key) = self.0 else {
            return Ok(value);
        };
        let failed =
            || CacheError::Database("the random number generator of the system failed".into());
        let mut iv = [0; IV_LEN];
        SystemRandom::new().fill(&mut iv).map_err(|_| failed())?;
        let tag = key.seal(iv, name.as_bytes(), &mut value);
        let body = [&iv[..], &tag.ok_or_else(failed)?, &value].concat();
        Ok([&[ENCRYPTED][..], &checksum(&body), &body].concat())
    }

    /// Decrypts the value `name`; returns `None` if it is damaged or encrypted with
    /// another key.
    pub(super) fn decrypt(self, name: &ChunkHash, value: Vec<u8>) -> Option<Vec<u8>> {
        let Some(key) = self.0 else {
            return Some(value);
        };
        let body = value.strip_prefix(&[ENCRYPTED])?.get(CHECKSUM_LEN..)?;
        let (iv, body) = body.split_first_chunk::<IV_LEN>()?;
        let (tag, encrypted) = body.split_first_chunk::<TAG_LEN>()?;
        key.open(*iv, *tag, name.as_bytes(), encrypted)
    }
}

pub(super) fn is_encrypted(value: &[u8]) -> bool {
    value.first() == Some(&ENCRYPTED)
}

/// Returns whether the checksum of an encrypted value matches.
pub(super) fn is_undamaged(value: &[u8]) -> bool {
    let body = value.get(1..).and_then(<[u8]>::split_first_chunk);
    body.is_some_and(|(found, rest)| *found == checksum(rest))
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = [0; CHECKSUM_LEN];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM_LEN]);
    sum
}
