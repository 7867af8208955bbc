//! The address of a repository: `NAME`, `walrus://BLOB_ID[?root=HASH]`, or
//! `sui://OBJECT_ID[/BRANCH]`.

use std::fmt;
use std::str::FromStr;

use super::names::{RefName, RefNameError};
use crate::id::{BlobId, ChunkHash, ObjectId, ParseIdError};

/// The address of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A name in the local store of the current network.
    Name(RefName),
    /// One immutable head.
    Walrus {
        /// The blob that starts with the head.
        blob: BlobId,
        /// Hash of the head. With it, every read is verified incrementally; without it,
        /// the whole blob is fetched once and its ID recomputed.
        root: Option<ChunkHash>,
    },
    /// A WalGit repository object on the Sui chain.
    Sui {
        /// Its object ID.
        object: ObjectId,
        /// The branch, if specified.
        branch: Option<String>,
    },
}

/// Text that is not a valid address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// A malformed ID or hash.
    #[error("{0}")]
    Id(#[from] ParseIdError),
    /// An option other than `root`.
    #[error("`{0}` is not an option of a walrus:// address; there is only `root`")]
    Option(String),
    /// An unknown scheme.
    #[error(
        "`{0}` is not an address; use NAME, walrus://BLOB_ID[?root=HASH] or sui://OBJECT_ID[/BRANCH]"
    )]
    Scheme(String),
    /// Not a valid name.
    #[error("{0}")]
    Name(#[from] RefNameError),
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        if let Some(rest) = text.strip_prefix("walrus://") {
            let (blob, options) = rest.split_once('?').unwrap_or((rest, ""));
            let mut root = None;
            for option in options.split('&').filter(|option| !option.is_empty()) {
                match option.split_once('=') {
                    Some(("root", hash)) => root = Some(hash.parse()?),
                    _ => return Err(ParseAddressError::Option(option.into())),
                }
            }
            let blob = blob.trim_end_matches('/').parse()?;
            return Ok(Address::Walrus { blob, root });
        }
        if let Some(rest) = text.strip_prefix("sui://") {
            let (object, branch) = match rest.split_once('/') {
                Some((object, branch)) => (object, Some(branch).filter(|b| !b.is_empty())),
                None => (rest, None),
            };
            return Ok(Address::Sui {
                object: object.parse()?,
                branch: branch.map(Into::into),
            });
        }
        if text.contains("://") {
            return Err(ParseAddressError::Scheme(text.into()));
        }
        Ok(Address::Name(text.parse()?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Name(name) => write!(f, "{name}"),
            Address::Walrus { blob, root: None } => write!(f, "walrus://{blob}"),
            Address::Walrus {
                blob,
                root: Some(root),
            } => write!(f, "walrus://{blob}?root={root}"),
            Address::Sui {
                object,
                branch: None,
            } => write!(f, "sui://{object}"),
            Address::Sui {
                object,
                branch: Some(branch),
            } => write!(f, "sui://{object}/{branch}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_their_text_form() {
        let blob = BlobId::from_bytes([9; 32]);
        let root = ChunkHash::of(b"root");
        for text in [
            format!("walrus://{blob}"),
            format!("walrus://{blob}?root={root}"),
            format!("sui://0x{}", "ab".repeat(32)),
            format!("sui://0x{}/feature/x", "ab".repeat(32)),
            "ripgrep".into(),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn text_without_an_address_is_refused_with_the_valid_forms() {
        for bad in [
            "http://x",
            "walrus://short",
            "sui://xyz",
            "",
            "../up",
            "a/../b",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
