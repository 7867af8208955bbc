//! Encryption of values that must not be on disk in plain text.
//!
//! ```text
//! 0x80 | checksum (16 bytes) | IV (12) | GCM tag (16) | sealed value
//! ```
//!
//! The key comes from the store ([`walrus_client::BlobStore::at_rest`]) and is
//! never stored here. The checksum covers everything after it, so that `cache
//! verify` finds damage without the key. Page names are keyed too: a plain hash on
//! disk would reveal to anyone who has the text that it was read.

use ring::rand::{SecureRandom as _, SystemRandom};

use super::CacheError;
use walgit_format::chunk::{ChunkHash, IV_LEN, SecretKey, TAG_LEN};

/// Marker of a sealed value; not a codec number.
const SEALED: u8 = 0x80;
const CHECKSUM: usize = 16;

/// Returns the name of a chunk's page.
pub(super) fn page_name(hash: &ChunkHash, at_rest: Option<&SecretKey>) -> ChunkHash {
    match at_rest {
        None => *hash,
        Some(key) => ChunkHash::from_bytes(key.name(hash.as_bytes())),
    }
}

/// Returns whether a value is sealed.
pub(super) fn is_sealed(value: &[u8]) -> bool {
    value.first() == Some(&SEALED)
}

/// Returns whether the checksum of a sealed value matches.
pub(super) fn is_undamaged(value: &[u8]) -> bool {
    let body = value.get(1..).and_then(<[u8]>::split_first_chunk);
    body.is_some_and(|(found, rest)| *found == checksum(rest))
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM]);
    sum
}

/// Seals the value `name` if there is a key.
///
/// # Errors
/// If the system provides no randomness: nothing must be written then.
pub(super) fn seal(
    name: &ChunkHash,
    mut value: Vec<u8>,
    at_rest: Option<&SecretKey>,
) -> Result<Vec<u8>, CacheError> {
    let Some(key) = at_rest else {
        return Ok(value);
    };
    let failed = || CacheError::Database("the system gives no random numbers".into());
    let mut iv = [0; IV_LEN];
    SystemRandom::new().fill(&mut iv).map_err(|_| failed())?;
    let tag = key.seal(iv, name.as_bytes(), &mut value);
    let body = [&iv[..], &tag.ok_or_else(failed)?, &value].concat();
    Ok([&[SEALED][..], &checksum(&body), &body].concat())
}

/// Opens the value `name`; returns `None` if it is damaged or sealed with another
/// key.
pub(super) fn unseal(
    name: &ChunkHash,
    value: Vec<u8>,
    at_rest: Option<&SecretKey>,
) -> Option<Vec<u8>> {
    let Some(key) = at_rest else {
        return Some(value);
    };
    let body = value.strip_prefix(&[SEALED])?.get(CHECKSUM..)?;
    let (iv, body) = body.split_first_chunk::<IV_LEN>()?;
    let (tag, sealed) = body.split_first_chunk::<TAG_LEN>()?;
    key.open(*iv, *tag, name.as_bytes(), sealed)
}
