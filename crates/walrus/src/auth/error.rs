//! Authentication errors.

use std::sync::Arc;

use super::strongbox::ChestError;
use super::{BadKey, Origin};

/// Reason that a request cannot be authenticated, and is therefore not sent.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A secret would have been sent unencrypted.
    #[error("credentials are not sent over plain HTTP to {0}; use https")]
    Unencrypted(Origin),
    /// A secret would have been sent to a foreign origin.
    #[error(
        "the sign-in to {network} belongs to {belongs} and is not sent to {origin}; \
         to use it there, run walgit-fs login --network {network} with that --publisher"
    )]
    OtherOrigin {
        /// Network profile.
        network: String,
        /// Origin that would have received it.
        origin: Origin,
        /// Origins that may receive it.
        belongs: String,
    },
    /// There is no sign-in.
    #[error("you are not signed in to {0}; run walgit-fs login --network {0}")]
    NotSignedIn(String),
    /// The sign-in has ended.
    #[error("the sign-in to {network} is over ({why}); run walgit-fs login --network {network}")]
    Over {
        /// Network profile.
        network: String,
        /// Message of the issuer.
        why: String,
    },
    /// The renewal failed; shared by all callers that waited for it.
    #[error("{0}")]
    Renewal(#[source] Arc<AuthError>),
    /// The profile has changed since the sign-in.
    #[error(
        "you signed in to {network} by {kept} and its profile now says {wanted}; \
         run walgit-fs login --network {network}"
    )]
    OtherMethod {
        /// Network profile.
        network: String,
        /// Method of the stored sign-in.
        kept: &'static str,
        /// Method in the profile.
        wanted: &'static str,
    },
    /// The publisher's key cannot sign.
    #[error("the key to sign tokens with: {0}")]
    BadKey(#[from] BadKey),
    /// A value of the profile or a secret is not valid in a header.
    #[error("{what} cannot stand in a header of a request")]
    Header {
        /// The value.
        what: &'static str,
    },
    /// The configuration of the issuer is not usable.
    #[error("{url}: {why}")]
    Issuer {
        /// Issuer, or a URL that it names.
        url: String,
        /// Reason.
        why: String,
    },
    /// The issuer does not answer; a retry may succeed.
    #[error("{url} is unavailable: {why}")]
    Unreachable {
        /// Issuer.
        url: String,
        /// Reason.
        why: String,
    },
    /// The user denied the sign-in, or the issuer refused it.
    #[error("{url} refused the sign-in: {why}")]
    Denied {
        /// Issuer.
        url: String,
        /// Message of the issuer.
        why: String,
    },
    /// The sign-in was not completed in time.
    #[error("nobody signed in within {0} s; run walgit-fs login again")]
    Patience(u64),
    /// The system's random number generator failed.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// Stored secrets cannot be read or written.
    #[error(transparent)]
    Chest(#[from] ChestError),
    /// A local operation failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// Error of the system.
        source: std::io::Error,
    },
}

impl AuthError {
    /// Whether a retry may succeed without user action.
    pub fn heals(&self) -> bool {
        match self {
            AuthError::Unreachable { .. } => true,
            AuthError::Renewal(error) => error.heals(),
            _ => false,
        }
    }
}

impl From<ring::error::Unspecified> for AuthError {
    fn from(_: ring::error::Unspecified) -> Self {
        AuthError::NoRandomness
    }
}
