//! What a publisher demands of whoever wants to store something.
//!
//! Nothing, as the open ones do, or one of: an API key in a header, a token
//! that is signed for one upload, as the network's own publisher takes it
//! ([`tokens`]), or an access token of the issuer that this server is itself
//! ([`super::issuer`]). Reading is free for all.

mod tokens;

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::errors::ApiError;
use super::issuer::Issuer;
use super::{Shared, storing};
use tokens::Tokens;
use walrus_client::auth::{Secret, SigningKey};

/// What uploads have to show.
#[derive(Clone, Debug, Default)]
pub enum Require {
    /// Nothing.
    #[default]
    Nothing,
    /// This key in this header.
    ApiKey {
        /// The header's name.
        header: HeaderName,
        /// The key.
        key: Secret,
    },
    /// A token for each upload.
    Jwt {
        /// What they are signed with.
        key: SigningKey,
        /// What `exp - iat` has to be, in seconds; anything for `None`.
        expiring_s: Option<u64>,
    },
    /// An access token of this server's own issuer.
    Oauth {
        /// How long access tokens are good for.
        lifetime: Duration,
    },
}

/// What is demanded, and what has been seen.
pub(super) enum Demand {
    Nothing,
    ApiKey(HeaderName, Secret),
    Jwt(Tokens),
    Oauth(Issuer),
}

impl Demand {
    /// The demand of a server at `url`.
    pub(super) fn new(require: Require, url: &str) -> Result<Self, walrus_client::auth::BadKey> {
        Ok(match require {
            Require::Nothing => Demand::Nothing,
            Require::ApiKey { header, key } => Demand::ApiKey(header, key),
            Require::Jwt { key, expiring_s } => Demand::Jwt(Tokens::new(&key, expiring_s)?),
            Require::Oauth { lifetime } => Demand::Oauth(Issuer::new(url, lifetime)),
        })
    }

    /// The issuer, where this server is one.
    pub(super) fn issuer(&self) -> Option<&Issuer> {
        match self {
            Demand::Oauth(issuer) => Some(issuer),
            _ => None,
        }
    }
}

/// Lets an upload through that shows what is demanded.
pub(super) async fn shown(State(server): State<Shared>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let headers = &parts.headers;
    let refusal = match &server.demand {
        Demand::Nothing => None,
        Demand::ApiKey(name, key) => {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            (!value.is_some_and(|value| key.is(value)))
                .then(|| unknown("INVALID_API_KEY", &format!("no valid key in {name}")))
        }
        Demand::Oauth(issuer) => (!bearer(headers).is_some_and(|token| issuer.knows(token)))
            .then(|| unknown("INVALID_TOKEN", "no valid access token")),
        Demand::Jwt(tokens) => match bearer(headers).map(str::to_owned) {
            // As the network's publisher says it, in plain text.
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
            // Who is still sending would see a broken connection instead.
            let _ = storing::collect(body, server.config.max_body).await;
            response
        }
    }
}

/// The token of an `Authorization` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

fn unknown(reason: &'static str, message: &str) -> Response {
    let error = ApiError::auth(StatusCode::UNAUTHORIZED, reason, message);
    let mut response = error.into_response();
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response
}
