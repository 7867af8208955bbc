//! Authentication required for uploads.
//!
//! None, as at open publishers, or one of: an API key in a header, a token signed for
//! one upload, as the network's own publisher accepts it ([`tokens`]), or an access
//! token of the issuer that this server contains ([`super::issuer`]). Reads need no
//! authentication.

mod upload_tokens;

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::errors::ApiError;
use super::issuer::Issuer;
use super::{Shared, storing};
use upload_tokens::TokenVerifier;
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
pub(super) enum UploadAuth {
    Nothing,
    ApiKey(HeaderName, Secret),
    Jwt(TokenVerifier),
    Oauth(Issuer),
}

impl UploadAuth {
    /// Creates the state for a server at `url`.
    pub(super) fn new(
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
    pub(super) fn issuer(&self) -> Option<&Issuer> {
        match self {
            UploadAuth::Oauth(issuer) => Some(issuer),
            _ => None,
        }
    }
}

/// Admits an upload with the required authentication.
pub(super) async fn authenticate(
    State(server): State<Shared>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let headers = &parts.headers;
    let refusal = match &server.upload_auth {
        UploadAuth::Nothing => None,
        UploadAuth::ApiKey(name, key) => {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            (!value.is_some_and(|value| key.is(value)))
                .then(|| unauthenticated("INVALID_API_KEY", &format!("no valid key in {name}")))
        }
        UploadAuth::Oauth(issuer) => (!bearer(headers)
            .is_some_and(|token| issuer.is_valid_token(token)))
        .then(|| unauthenticated("INVALID_TOKEN", "no valid access token")),
        UploadAuth::Jwt(tokens) => match bearer(headers).map(str::to_owned) {
            // Plain text, like the network's publisher.
            None => {
                let text = "Header of type `authorization` was missing";
                Some((StatusCode::BAD_REQUEST, text).into_response())
            }
            Some(token) => {
                let refused = tokens.check(&token, &mut parts).await.err();
                refused.map(ApiError::into_response)
            }
        },
    };
    match refusal {
        None => next.run(Request::from_parts(parts, body)).await,
        Some(response) => {
            // A client that is still sending would see a broken connection instead.
            let _ = storing::collect(body, server.config.max_body).await;
            response
        }
    }
}

/// Returns the token of an `Authorization` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

fn unauthenticated(reason: &'static str, message: &str) -> Response {
    let error = ApiError::auth(StatusCode::UNAUTHORIZED, reason, message);
    let mut response = error.into_response();
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response
}
