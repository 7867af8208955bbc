//! Payloads encrypted by WalGit's own tools.
//!
//! ```text
//! "WALGIT1" | IV (12 bytes) | GCM tag (16) | ciphertext
//! ```
//!
//! AES-256-GCM with the additional data `WalGit-v1`. Plain bytes are only returned after
//! the tag of the whole payload has been checked.

use bytes::Bytes;

use super::secret::{IV_LEN, SecretKey, TAG_LEN};

/// Magic number of a payload.
pub const PAYLOAD_MAGIC: &[u8; 7] = b"WALGIT1";
/// Length of a payload minus that of its content, in bytes.
pub const PAYLOAD_OVERHEAD: u64 = (PAYLOAD_MAGIC.len() + IV_LEN + TAG_LEN) as u64;

const ADDITIONAL_DATA: &[u8] = b"WalGit-v1";

/// Why a payload cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not a payload.
    #[error("not an encrypted payload (no WALGIT1 at the start)")]
    NotSealed,
    /// Shorter than a payload can be.
    #[error("the encrypted payload is truncated")]
    Short,
    /// No key is given.
    #[error(
        "the content is encrypted; pass its key with --key FILE, or store it with walgit-fs key add"
    )]
    NoKey,
    /// No key matches, or the bytes are damaged.
    #[error("none of the keys given opens it (or it was tampered with)")]
    WrongKey,
}

/// Whether bytes look like a payload.
pub fn is_payload(bytes: &[u8]) -> bool {
    bytes.starts_with(PAYLOAD_MAGIC)
}

/// Opens a payload with the first matching key of `keys`; returns the index of that key,
/// and the content.
///
/// # Errors
/// [`PayloadError`]; no content is returned then.
pub fn open_payload(keys: &[SecretKey], payload: &[u8]) -> Result<(usize, Bytes), PayloadError> {
    let rest = payload
        .strip_prefix(PAYLOAD_MAGIC)
        .ok_or(PayloadError::NotSealed)?;
    let (iv, rest) = rest.split_first_chunk().ok_or(PayloadError::Short)?;
    let (tag, sealed) = rest.split_first_chunk().ok_or(PayloadError::Short)?;
    if keys.is_empty() {
        return Err(PayloadError::NoKey);
    }
    (keys.iter().enumerate())
        .find_map(|(number, key)| {
            let plain = key.open(*iv, *tag, ADDITIONAL_DATA, sealed)?;
            Some((number, Bytes::from(plain)))
        })
        .ok_or(PayloadError::WrongKey)
}

/// Seals content like WalGit's own tools.
pub fn seal_payload(key: &SecretKey, iv: [u8; IV_LEN], content: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = content.to_vec();
    let tag = key.seal(iv, ADDITIONAL_DATA, &mut sealed)?;
    Some([PAYLOAD_MAGIC, &iv[..], &tag[..], &sealed].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> [SecretKey; 2] {
        [
            SecretKey::from_bytes([1; 32]),
            SecretKey::from_bytes([2; 32]),
        ]
    }

    #[test]
    fn the_key_that_fits_is_found() {
        let keys = keys();
        let payload = seal_payload(&keys[1], [9; 12], b"text").unwrap();
        assert_eq!(payload.len() as u64, 4 + PAYLOAD_OVERHEAD);
        let opened = open_payload(&keys, &payload).unwrap();
        assert_eq!(opened, (1, Bytes::from_static(b"text")));
        assert_eq!(
            open_payload(&keys[..1], &payload),
            Err(PayloadError::WrongKey)
        );
        assert_eq!(open_payload(&[], &payload), Err(PayloadError::NoKey));
        assert_eq!(open_payload(&keys, b"{}"), Err(PayloadError::NotSealed));
    }

    proptest! {
        #[test]
        fn any_other_byte_or_a_cut_is_refused(content in proptest::collection::vec(any::<u8>(), 0..200), at in any::<proptest::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
            let keys = keys();
            let mut payload = seal_payload(&keys[0], [3; 12], &content).unwrap();
            let at = at.index(payload.len());
            if cut { payload.truncate(at) } else { payload[at] ^= 1 << bit }
            prop_assert!(open_payload(&keys, &payload).is_err());
        }
    }
}
