//! Why we cannot prove who we are.

use std::sync::Arc;

use super::strongbox::ChestError;
use super::{BadKey, Origin};

/// Why a request goes without proof of who we are, and so does not go at all.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A secret would have crossed the network in the clear.
    #[error("credentials are not sent over plain HTTP to {0}; use https")]
    Unencrypted(Origin),
    /// A secret would have gone to somebody else.
    #[error(
        "the sign-in to {network} belongs to {belongs} and is not sent to {origin}; \
         to use it there, run walgit-fs login --network {network} with that --publisher"
    )]
    OtherOrigin {
        /// The network profile.
        network: String,
        /// Who would have got it.
        origin: Origin,
        /// Who may have it.
        belongs: String,
    },
    /// There is nothing to prove it with.
    #[error("you are not signed in to {0}; run walgit-fs login --network {0}")]
    NotSignedIn(String),
    /// There was, and it is over.
    #[error("the sign-in to {network} is over ({why}); run walgit-fs login --network {network}")]
    Over {
        /// The network profile.
        network: String,
        /// What the issuer said.
        why: String,
    },
    /// It could not be renewed; shared by all who waited for it.
    #[error("{0}")]
    Renewal(#[source] Arc<AuthError>),
    /// The profile was changed since.
    #[error(
        "you signed in to {network} by {kept} and its profile now says {wanted}; \
         run walgit-fs login --network {network}"
    )]
    OtherMethod {
        /// The network profile.
        network: String,
        /// How we signed in.
        kept: &'static str,
        /// How we should.
        wanted: &'static str,
    },
    /// The publisher's key does not sign.
    #[error("the key to sign tokens with: {0}")]
    BadKey(#[from] BadKey),
    /// The profile or the secret cannot be sent.
    #[error("{what} cannot stand in a header of a request")]
    Header {
        /// Which.
        what: &'static str,
    },
    /// The issuer cannot be used as it is configured.
    #[error("{url}: {why}")]
    Issuer {
        /// The issuer, or what it names.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The issuer does not answer; it may later.
    #[error("{url} is unavailable: {why}")]
    Unreachable {
        /// The issuer.
        url: String,
        /// What happened.
        why: String,
    },
    /// The user, or the issuer in the user's name, said no.
    #[error("{url} refused the sign-in: {why}")]
    Denied {
        /// The issuer.
        url: String,
        /// Its words.
        why: String,
    },
    /// Nobody came back in time.
    #[error("nobody signed in within {0} s; run walgit-fs login again")]
    Patience(u64),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// What is kept cannot be had, or cannot be kept.
    #[error(transparent)]
    Chest(#[from] ChestError),
    /// Something of this machine failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl AuthError {
    /// Whether the same may succeed later, without anybody doing anything.
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
