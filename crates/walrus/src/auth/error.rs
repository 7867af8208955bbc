//! Authentication errors.

use std::error::Error;
use std::fmt::Display;
use std::sync::Arc;

use super::secret_store::SecretStoreError;
use super::{BadKey, Origin};

/// Reason that a request cannot be authenticated, and is therefore not sent.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages name the fields.
pub enum AuthError {
    #[error("credentials are not sent over plain HTTP to {0}; use https")]
    Unencrypted(Origin),
    #[error(
        "the sign-in to {network} belongs to {belongs} and is not sent to {origin}; \
         to use it there, run walgit-fs login --network {network} with that --publisher"
    )]
    OtherOrigin {
        network: String,
        origin: Origin,
        belongs: String,
    },
    #[error("you are not signed in to {0}; run walgit-fs login --network {0}")]
    NotSignedIn(String),
    #[error("the sign-in to {network} is over ({why}); run walgit-fs login --network {network}")]
    Over { network: String, why: String },
    /// The renewal failed; shared by all callers that waited for it.
    #[error("{0}")]
    Renewal(#[source] Arc<AuthError>),
    /// The profile has changed since the sign-in.
    #[error(
        "you signed in to {network} by {stored} and its profile now says {configured}; \
         run walgit-fs login --network {network}"
    )]
    OtherMethod {
        network: String,
        stored: &'static str,
        configured: &'static str,
    },
    #[error("cannot sign tokens with the key: {0}")]
    BadKey(#[from] BadKey),
    /// A value of the profile or a secret is not valid in a header.
    #[error("{what} is not a valid header value")]
    Header { what: &'static str },
    /// The configuration of the issuer, or its answer, is not usable.
    #[error("{url}: {why}")]
    Issuer { url: String, why: String },
    /// The issuer does not answer; a retry may succeed.
    #[error("{url} is unavailable: {why}")]
    Unreachable { url: String, why: String },
    /// The user denied the sign-in, or the issuer refused it.
    #[error("{url} refused the sign-in: {why}")]
    Denied { url: String, why: String },
    #[error("the sign-in was not completed within {0} s; run walgit-fs login again")]
    TimedOut(u64),
    #[error("the random number generator of the system failed")]
    NoRandomness,
    #[error(transparent)]
    SecretStore(#[from] SecretStoreError),
    /// A local operation failed.
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: std::io::Error,
    },
}

impl AuthError {
    pub(super) fn issuer(url: impl Display, why: impl Into<String>) -> Self {
        let (url, why) = (url.to_string(), why.into());
        AuthError::Issuer { url, why }
    }

    pub(super) fn unreachable(url: impl Display, why: impl Into<String>) -> Self {
        let (url, why) = (url.to_string(), why.into());
        AuthError::Unreachable { url, why }
    }

    pub(super) fn denied(url: impl Display, why: impl Into<String>) -> Self {
        let (url, why) = (url.to_string(), why.into());
        AuthError::Denied { url, why }
    }

    pub(super) fn io(what: &'static str, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = std::io::Error::other(error);
        AuthError::Io { what, source }
    }

    /// Whether a retry may succeed without user action.
    pub fn may_heal(&self) -> bool {
        match self {
            AuthError::Unreachable { .. } => true,
            AuthError::Renewal(error) => error.may_heal(),
            _ => false,
        }
    }
}

impl From<ring::error::Unspecified> for AuthError {
    fn from(_: ring::error::Unspecified) -> Self {
        AuthError::NoRandomness
    }
}
