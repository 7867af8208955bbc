//! The Sui chain: objects, read over its GraphQL RPC.
//!
//! A WalGit repository may be an object on the chain that says which commit is
//! its newest. This room knows how to ask for objects ([`Chain`]) and what the
//! two layouts of WalGit's objects mean ([`objects`]); what a commit holds is
//! for `repo` to read.
//!
//! What a full node answers is taken at its word: only the chain says which
//! commit a branch is at. The content that leads to is verified by hashes.
//!
//! May touch: `net`, and the names in `chunk`.

mod graphql;
pub mod objects;

pub use graphql::{Chain, ChainError};

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::Network;

/// Opens the chain of a network profile; connects to nothing yet.
///
/// # Errors
/// [`ChainError::NoEndpoint`] where the profile names nobody to ask.
pub fn open(network: &Network, deadline: Duration) -> Result<Arc<Chain>, ChainError> {
    match &network.sui {
        Some(url) => Ok(Arc::new(Chain::new(url, deadline, &network.policy)?)),
        None => Err(ChainError::NoEndpoint(network.name.clone())),
    }
}

/// The ID of an object on the chain. As text: `0x` and 64 hexadecimal digits,
/// of which leading zeros may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId([u8; 32]);

/// A text that is no object ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a Sui object ID (0x and up to 64 hexadecimal digits)")]
pub struct ParseObjectIdError(String);

impl ObjectId {
    /// The ID with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        ObjectId(bytes)
    }

    /// Its 32 bytes.
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
