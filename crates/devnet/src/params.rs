//! Query parameters of requests, and their validation.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::errors::ApiError;
use walrus_client::network::MAX_EPOCHS;

/// Parameters of a query; an unknown, repeated or invalid parameter is a 400.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(params)| Params(params))
            .map_err(|error| ApiError::bad(error.body_text()))
    }
}

/// Consistency checks that a reader may request. A directory is always consistent, so
/// they have no effect, but exclude each other.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReadOptions {
    pub(super) strict_consistency_check: bool,
    pub(super) skip_consistency_check: bool,
}

impl ReadOptions {
    pub(super) fn check(self) -> Result<(), ApiError> {
        if self.strict_consistency_check && self.skip_consistency_check {
            return Err(ApiError::both_checks());
        }
        Ok(())
    }
}

/// Parameters of `byte-range`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByteRangeParams {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// Options for storing a blob.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StoreOptions {
    epochs: Option<u32>,
    deletable: bool,
    permanent: bool,
    /// Creates a new object even if the blob exists.
    pub(super) force: bool,
    /// Extends existing storage instead of buying new storage.
    pub(super) reuse_resources: bool,
    encoding_type: Option<String>,
    quilt_version: Option<String>,
    /// Address that receives the object.
    pub(super) send_object_to: Option<String>,
    share: Option<bool>,
}

impl StoreOptions {
    /// Rejects options that no publisher accepts.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        if self.deletable && self.permanent {
            return Err(ApiError::both_kinds());
        }
        if self.send_object_to.is_some() && self.share.is_some() {
            return Err(ApiError::bad("send_object_to and share exclude each other"));
        }
        if let Some(address) = &self.send_object_to {
            hex_id(address).ok_or_else(|| ApiError::bad("send_object_to is not an address"))?;
        }
        if !(1..=MAX_EPOCHS).contains(&self.epochs()) {
            let message = format!("epochs must be between 1 and {MAX_EPOCHS}");
            return Err(ApiError::bad(message));
        }
        if self.encoding_type.as_deref().unwrap_or("RS2") != "RS2" {
            return Err(ApiError::bad("the only encoding type is RS2"));
        }
        let version = self.quilt_version.as_deref().unwrap_or("v1");
        if !["v1", "V1", "1"].contains(&version) {
            return Err(ApiError::bad("the only quilt version is v1"));
        }
        Ok(())
    }

    /// Number of epochs from now.
    pub(super) fn epochs(&self) -> u32 {
        self.epochs.unwrap_or(1)
    }

    /// Whether the owner may delete the blob before they end; the default.
    pub(super) fn deletable(&self) -> bool {
        !self.permanent
    }

    /// Whether to create a shared object.
    pub(super) fn share(&self) -> bool {
        self.share == Some(true)
    }
}

/// Parses a Sui address or object ID with all 64 digits.
pub(super) fn hex_id(text: &str) -> Option<String> {
    let digits = text.strip_prefix("0x")?;
    let fits = !digits.is_empty() && digits.len() <= 64;
    (fits && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| format!("0x{:0>64}", digits.to_ascii_lowercase()))
}
