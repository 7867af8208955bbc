//! IDs of objects on the chain.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The ID of an object on the chain. As text: `0x` and 64 hexadecimal digits; leading
/// zeros may be omitted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId([u8; 32]);

/// Text that is not a valid object ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a Sui object ID (0x and up to 64 hexadecimal digits)")]
pub struct ParseObjectIdError(String);

impl ObjectId {
    /// Returns the ID with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        ObjectId(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for ObjectId {
    type Err = ParseObjectIdError;

    fn from_str(text: &str) -> Result<Self, ParseObjectIdError> {
        let bad = || ParseObjectIdError(text.chars().take(80).collect());
        let digits = text.strip_prefix("0x").ok_or_else(bad)?;
        if digits.is_empty() || digits.len() > 64 {
            return Err(bad());
        }
        let hash = blake3::Hash::from_hex(format!("{digits:0>64}")).map_err(|_| bad())?;
        Ok(ObjectId(*hash.as_bytes()))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_ids_survive_their_text_form() {
        let short: ObjectId = "0xAbc".parse().unwrap();
        assert_eq!(short.to_string(), format!("0x{}abc", "0".repeat(61)));
        assert_eq!(short.to_string().parse(), Ok(short));
        for bad in ["", "0x", "abc", "0xg", &format!("0x{}", "1".repeat(65))] {
            assert!(bad.parse::<ObjectId>().is_err(), "{bad}");
        }
    }
}
