//! Errors of store operations.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use crate::net::BadCertificates;
use walgit_format::chunk::{BlobId, ByteRange};

/// Error of a store operation. `place` names a gateway, directory or setting.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages name the fields.
pub enum StoreError {
    #[error("blob {blob} is not stored in {place}")]
    NotFound { blob: BlobId, place: String },
    #[error("range {range} lies outside blob {blob}")]
    OutOfRange { blob: BlobId, range: ByteRange },
    /// The bytes of every gateway that answered failed verification.
    #[error("blob {blob} read from {place} is corrupt: {why}")]
    Corrupt {
        blob: BlobId,
        place: String,
        why: String,
    },
    #[error("blob of {len} bytes is over the {limit} that {place} accepts")]
    TooLarge { len: u64, limit: u64, place: String },
    /// Plaintext of a private repository would be stored where everyone can read it.
    #[error("blob {blob} is not encrypted with the key of this repository, and is not stored")]
    Plaintext { blob: BlobId },
    /// The publisher stored different bytes, or computes IDs differently.
    #[error("{place} certified blob {found} where {expected} was sent")]
    WrongId {
        expected: BlobId,
        found: String,
        place: String,
    },
    /// The gateway refused: credentials, law, or an invalid request.
    #[error("{place} refused ({status}): {why}")]
    Refused {
        place: String,
        status: u16,
        why: String,
    },
    /// A publisher rejected the credentials, or there are none; the message says what to do.
    #[error("{0}")]
    SignIn(String),
    /// Unreachable, timed out or failing, after all retries.
    #[error("{place} is unavailable: {why}")]
    Unavailable { place: String, why: String },
    #[error("network profile has no {0}; add one with --{0} URL or in the config file")]
    NoEndpoint(&'static str),
    #[error("`{url}` is not an endpoint: {why}")]
    BadEndpoint { url: String, why: String },
    #[error(transparent)]
    BadCertificates(#[from] BadCertificates),
    /// The disk under a local store failed.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl StoreError {
    pub(crate) fn unavailable(place: impl Display, why: impl Display) -> Self {
        StoreError::Unavailable {
            place: place.to_string(),
            why: why.to_string(),
        }
    }

    pub(crate) fn corrupt(blob: BlobId, place: impl Display, why: String) -> Self {
        let place = place.to_string();
        StoreError::Corrupt { blob, place, why }
    }

    /// Adds the path to an error of the system.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| StoreError::Io { path, source }
    }
}
