//! Identifiers of content: Walrus blob IDs and chunk hashes.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The Walrus ID of a blob: a commitment to its content and length.
///
/// As text: URL-safe base64 without padding, 43 characters. `walrus::blob_id` computes
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId([u8; 32]);

/// BLAKE3-256 of a chunk's plain bytes. As text: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkHash([u8; 32]);

/// Text that is not a valid ID.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ParseIdError {
    /// Not 43 characters of URL-safe base64 that name 32 bytes.
    #[error("`{0}` is not a blob ID (43 characters of URL-safe base64)")]
    BlobId(String),
    /// Not 64 hexadecimal digits.
    #[error("`{0}` is not a hash (64 hexadecimal digits)")]
    ChunkHash(String),
}

impl BlobId {
    /// Returns the ID with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        BlobId(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl ChunkHash {
    /// Returns the hash of plain bytes.
    pub fn of(raw: &[u8]) -> Self {
        ChunkHash(*blake3::hash(raw).as_bytes())
    }

    /// Returns the hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        ChunkHash(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Display for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl FromStr for BlobId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut bytes = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(32) if text.len() == 43 => Ok(BlobId(bytes)),
            _ => Err(ParseIdError::BlobId(text.into())),
        }
    }
}

impl FromStr for ChunkHash {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        blake3::Hash::from_hex(text)
            .map(|hash| ChunkHash(*hash.as_bytes()))
            .map_err(|_| ParseIdError::ChunkHash(text.into()))
    }
}

macro_rules! text_form {
    ($id:ty) => {
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

text_form!(BlobId);
text_form!(ChunkHash);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_form() {
        let blob = BlobId::from_bytes([0xA5; 32]);
        assert_eq!(blob.to_string().len(), 43);
        assert_eq!(blob.to_string().parse(), Ok(blob));
        let hash = ChunkHash::of(b"walgit");
        assert_eq!(hash.to_string().parse(), Ok(hash));
    }

    #[test]
    fn a_text_of_another_form_is_refused() {
        for bad in ["", "abc", &"A".repeat(42), &"A".repeat(44), &"+".repeat(43)] {
            assert!(bad.parse::<BlobId>().is_err(), "{bad}");
        }
        assert!("00".parse::<ChunkHash>().is_err());
    }
}
