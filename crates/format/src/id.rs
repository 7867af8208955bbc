//! Identifiers: Walrus blob IDs, chunk hashes, Sui object IDs, git IDs.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not a valid ID.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ParseIdError {
    /// Not 43 characters of URL-safe base64 that name 32 bytes.
    #[error("`{0}` is not a blob ID (43 characters of URL-safe base64)")]
    BlobId(String),
    /// Not 64 hexadecimal digits.
    #[error("`{0}` is not a hash (64 hexadecimal digits)")]
    ChunkHash(String),
    /// Not `0x` and at most 64 hexadecimal digits.
    #[error("`{0}` is not a Sui object ID (0x and up to 64 hexadecimal digits)")]
    ObjectId(String),
}

/// Defines an ID of 32 bytes, which serializes as its text form.
macro_rules! id {
    ($(#[doc = $doc:expr])* $id:ident) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $id([u8; 32]);

        impl $id {
            /// Returns the ID with these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                $id(bytes)
            }

            /// Returns the 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

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
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// The Walrus ID of a blob: a commitment to its content and length.
    ///
    /// As text: URL-safe base64 without padding, 43 characters.
    BlobId
}

id! {
    /// BLAKE3-256 of a chunk's plain bytes. As text: 64 hexadecimal digits.
    ChunkHash
}

id! {
    /// The ID of an object on the Sui chain. As text: `0x` and 64 hexadecimal digits;
    /// leading zeros may be omitted.
    ObjectId
}

impl ChunkHash {
    /// Returns the hash of plain bytes.
    pub fn of(raw: &[u8]) -> Self {
        ChunkHash(*blake3::hash(raw).as_bytes())
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

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", blake3::Hash::from_bytes(self.0).to_hex())
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

impl FromStr for ObjectId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let digits = text
            .strip_prefix("0x")
            .filter(|digits| (1..=64).contains(&digits.len()));
        digits
            .and_then(|digits| blake3::Hash::from_hex(format!("{digits:0>64}")).ok())
            .map(|hash| ObjectId(*hash.as_bytes()))
            .ok_or_else(|| ParseIdError::ObjectId(text.chars().take(80).collect()))
    }
}

/// The git ID of a commit (20 or 32 bytes); empty for a plain folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct GitId(pub Vec<u8>);

impl GitId {
    /// Parses lower-case hexadecimal digits; `None` if they are not a git ID.
    pub fn from_hex(digits: &[u8]) -> Option<Self> {
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        if !matches!(digits.len(), 40 | 64) {
            return None;
        }
        let bytes = digits.chunks_exact(2).map(|pair| {
            let (high, low) = (value(pair[0])?, value(pair[1])?);
            Some(high << 4 | low)
        });
        bytes.collect::<Option<_>>().map(GitId)
    }
}

impl fmt::Display for GitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The ID of a commit in the system that it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum CommitId {
    /// No ID: a plain folder.
    #[default]
    None,
    /// A git ID.
    Git(GitId),
    /// The blob of its manifest.
    Manifest(BlobId),
    /// Its object on the Sui chain.
    Object(ObjectId),
}

impl CommitId {
    /// Whether the commit has no ID.
    pub fn is_none(&self) -> bool {
        *self == CommitId::None
    }

    /// Returns its git ID; empty if it has none.
    pub fn git(&self) -> GitId {
        match self {
            CommitId::Git(id) => id.clone(),
            _ => GitId::default(),
        }
    }

    /// Returns the encoded ID.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            CommitId::None => &[],
            CommitId::Git(id) => &id.0,
            CommitId::Manifest(blob) => blob.as_bytes(),
            CommitId::Object(id) => id.as_bytes(),
        }
    }
}

impl From<GitId> for CommitId {
    fn from(id: GitId) -> Self {
        if id.0.is_empty() {
            return CommitId::None;
        }
        CommitId::Git(id)
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitId::None => Ok(()),
            CommitId::Git(id) => id.fmt(f),
            CommitId::Manifest(blob) => blob.fmt(f),
            CommitId::Object(id) => id.fmt(f),
        }
    }
}

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
        let short: ObjectId = "0xAbc".parse().unwrap();
        assert_eq!(short.to_string(), format!("0x{}abc", "0".repeat(61)));
        assert_eq!(short.to_string().parse(), Ok(short));
    }

    #[test]
    fn text_of_another_form_is_rejected() {
        for bad in ["", "abc", &"A".repeat(42), &"A".repeat(44), &"+".repeat(43)] {
            assert!(bad.parse::<BlobId>().is_err(), "{bad}");
        }
        assert!("00".parse::<ChunkHash>().is_err());
        for bad in ["", "0x", "abc", "0xg", &format!("0x{}", "1".repeat(65))] {
            assert!(bad.parse::<ObjectId>().is_err(), "{bad}");
        }
    }
}
