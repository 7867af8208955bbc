//! Keys, and bytes sealed with them (AES-256-GCM).

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of an initialisation vector in bytes.
pub const IV_LEN: usize = 12;
/// Length of an authentication tag in bytes.
pub const TAG_LEN: usize = 16;

/// A key of 32 bytes. Wiped on drop, and never printed by `Debug`.
#[derive(Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

/// Text or a file that contains no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a key: a key is 32 bytes, raw, as 64 hexadecimal digits or as base64")]
pub struct NotAKey;

impl SecretKey {
    /// Returns the key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        SecretKey(bytes)
    }

    /// Parses the content of a key file: 32 raw bytes, or, with optional white space
    /// around them, 64 hexadecimal digits or base64 of either alphabet, padded or not.
    ///
    /// # Errors
    /// [`NotAKey`] for anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAKey> {
        if let Ok(raw) = bytes.try_into() {
            return Ok(SecretKey(raw));
        }
        let text = bytes.trim_ascii();
        if let Ok(hash) = blake3::Hash::from_hex(text) {
            return Ok(SecretKey(*hash.as_bytes()));
        }
        let config = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(false);
        for alphabet in [&alphabet::STANDARD, &alphabet::URL_SAFE] {
            let decoded = GeneralPurpose::new(alphabet, config).decode(text);
            let decoded = decoded.map(Zeroizing::new).unwrap_or_default();
            if let Ok(raw) = decoded.as_slice().try_into() {
                return Ok(SecretKey(raw));
            }
        }
        Err(NotAKey)
    }

    /// Returns the key as 64 hexadecimal digits, for backup.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(blake3::Hash::from_bytes(self.0).to_hex().to_string())
    }

    /// Derives another key by a one-way function. `purpose` separates the keys of
    /// different uses.
    pub fn derive(&self, purpose: &str) -> Self {
        SecretKey(blake3::derive_key(purpose, &self.0))
    }

    /// Returns a keyed hash of `of`, which cannot be guessed without the key.
    pub fn name(&self, of: &[u8; 32]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, of).as_bytes()
    }

    /// Derives the key that encrypts opened content in the disk cache.
    pub fn at_rest(&self) -> Self {
        self.derive("walgit-fs 2026 content kept on disk")
    }

    /// Generates a random key; `None` if the system has no random numbers.
    pub fn random() -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut()).ok()?;
        Some(SecretKey(*bytes))
    }

    /// Starts a keyed hash.
    pub(super) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }

    pub(super) fn cipher(&self) -> Option<LessSafeKey> {
        // Only fails for a key of another length.
        let key = UnboundKey::new(&AES_256_GCM, &self.0).ok()?;
        Some(LessSafeKey::new(key))
    }

    /// Opens sealed bytes; `None` if the tag does not match: wrong key or damaged bytes.
    pub fn open(
        &self,
        iv: [u8; IV_LEN],
        tag: [u8; TAG_LEN],
        additional: &[u8],
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(iv);
        self.cipher()?
            .open_in_place_separate_tag(
                nonce,
                Aad::from(additional),
                Tag::from(tag),
                &mut plain,
                0..,
            )
            .ok()?;
        Some(plain)
    }

    /// Seals bytes in place and returns their tag. An `iv` must never be used twice with
    /// one key.
    pub fn seal(
        &self,
        iv: [u8; IV_LEN],
        additional: &[u8],
        plain: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        let nonce = Nonce::assume_unique_for_key(iv);
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(nonce, Aad::from(additional), plain)
            .ok()?;
        tag.as_ref().try_into().ok()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// Only for the daemon's private socket and the keyring.
impl Serialize for SecretKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for SecretKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        SecretKey::parse(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_parsed_in_every_documented_form() {
        let key = SecretKey::from_bytes(std::array::from_fn(|i| (i * 9 + 200) as u8));
        let hex = key.to_hex();
        let standard = base64::engine::general_purpose::STANDARD.encode(key.0);
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.0);
        for form in [
            &key.0[..],
            hex.as_bytes(),
            standard.as_bytes(),
            url.as_bytes(),
        ] {
            assert_eq!(SecretKey::parse(form), Ok(key.clone()));
        }
        assert_eq!(SecretKey::parse(format!("{}\n", *hex).as_bytes()), Ok(key));
        for bad in [
            "",
            "abc",
            &hex[1..],
            "not a key at all, but long enough to be one",
        ] {
            assert_eq!(SecretKey::parse(bad.as_bytes()), Err(NotAKey), "{bad}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = SecretKey::from_bytes([0xAB; 32]);
        assert!(!format!("{key:?}").to_lowercase().contains("ab"));
    }

    #[test]
    fn sealed_bytes_open_with_the_same_key_alone() {
        let key = SecretKey::from_bytes([1; 32]);
        let mut bytes = b"content".to_vec();
        let tag = key.seal([7; 12], b"about", &mut bytes).unwrap();
        assert_ne!(&bytes, b"content");
        assert_eq!(
            key.open([7; 12], tag, b"about", &bytes).unwrap(),
            b"content"
        );
        assert!(key.open([7; 12], tag, b"other", &bytes).is_none());
        let other = key.derive("a test");
        assert!(other.open([7; 12], tag, b"about", &bytes).is_none());
    }
}
