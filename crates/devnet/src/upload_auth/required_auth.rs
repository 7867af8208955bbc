//! Kinds of authentication, with their state.

use std::time::Duration;

use axum::http::HeaderName;

use super::upload_tokens::TokenVerifier;
use crate::issuer::Issuer;
use walrus_client::auth::{Secret, SigningKey};

/// Authentication required for uploads.
#[derive(Clone, Debug, Default)]
pub enum RequiredAuth {
    /// None.
    #[default]
    Nothing,
    /// An API key in a header.
    ApiKey {
        /// Name of the header.
        header: HeaderName,
        /// Value of the key.
        key: Secret,
    },
    /// A token for each upload.
    Jwt {
        /// Key that signs the tokens.
        key: SigningKey,
        /// Required value of `exp - iat`, in seconds; `None` accepts any.
        expiring_s: Option<u64>,
    },
    /// An access token of this server's own issuer.
    Oauth {
        /// Lifetime of access tokens.
        lifetime: Duration,
    },
}

/// Required authentication, with its state.
pub(crate) enum UploadAuth {
    Nothing,
    ApiKey(HeaderName, Secret),
    Jwt(TokenVerifier),
    Oauth(Issuer),
}

impl UploadAuth {
    /// Creates the state for a server at `url`.
    pub(crate) fn new(
        require: RequiredAuth,
        url: &str,
    ) -> Result<Self, walrus_client::auth::BadKey> {
        Ok(match require {
            RequiredAuth::Nothing => UploadAuth::Nothing,
            RequiredAuth::ApiKey { header, key } => UploadAuth::ApiKey(header, key),
            RequiredAuth::Jwt { key, expiring_s } => {
                UploadAuth::Jwt(TokenVerifier::new(&key, expiring_s)?)
            }
            RequiredAuth::Oauth { lifetime } => UploadAuth::Oauth(Issuer::new(url, lifetime)),
        })
    }

    /// Returns the issuer, if this server is one.
    pub(crate) fn issuer(&self) -> Option<&Issuer> {
        match self {
            UploadAuth::Oauth(issuer) => Some(issuer),
            _ => None,
        }
    }
}
