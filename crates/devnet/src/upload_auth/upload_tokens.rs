//! Single-use upload tokens, verified as by the network's publisher, with its statuses
//! and reasons.

use std::collections::HashMap;

use axum::extract::FromRequestParts as _;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, Validation};
use parking_lot::Mutex;
use serde::Deserialize;

use super::super::errors::ApiError;
use super::super::params::{Params, StoreOptions, hex_id};
use walrus_client::auth::{BadKey, SigningKey};
use walrus_client::clock::unix_seconds;

/// Time after its expiry for which a token is accepted, in seconds: clocks differ.
const LEEWAY_S: u64 = 60;

/// Verifies tokens, and records used ones.
pub(crate) struct TokenVerifier {
    key: DecodingKey,
    validation: Validation,
    expiring_s: Option<u64>,
    /// Used tokens, and when each may be forgotten.
    used: Mutex<HashMap<String, u64>>,
}

#[derive(Debug, Deserialize)]
struct Claims {
    iat: Option<u64>,
    exp: u64,
    jti: String,
    send_object_to: Option<String>,
    epochs: Option<u32>,
    max_epochs: Option<u32>,
    size: Option<u64>,
    max_size: Option<u64>,
}

impl TokenVerifier {
    pub(super) fn new(key: &SigningKey, expiring_s: Option<u64>) -> Result<Self, BadKey> {
        let mut validation = Validation::new(key.algorithm());
        validation.leeway = LEEWAY_S;
        Ok(TokenVerifier {
            key: key.verification_key()?,
            validation,
            expiring_s,
            used: Mutex::default(),
        })
    }

    /// Checks that the token is valid for this upload and not used before.
    pub(super) async fn check(&self, token: &str, upload: &mut Parts) -> Result<(), ApiError> {
        let Params(options) = Params::<StoreOptions>::from_request_parts(upload, &()).await?;
        let size = upload.headers.get(CONTENT_LENGTH);
        let size: Option<u64> = size.and_then(|size| size.to_str().ok()?.parse().ok());
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation);
        let claims = decoded.map_err(|error| refusal(error.kind()))?.claims;
        self.check_claims(&claims, &options, size)?;
        self.mark_used(claims)
    }

    fn check_claims(
        &self,
        claims: &Claims,
        options: &StoreOptions,
        size: Option<u64>,
    ) -> Result<(), ApiError> {
        let expected_lifetime = self.expiring_s;
        let lifetime = claims.exp.saturating_sub(claims.iat.unwrap_or(0));
        let epochs = options.epochs();
        let full_id = |id: &Option<String>| id.as_deref().map(hex_id);
        let owner = full_id(&claims.send_object_to);
        let requested = full_id(&options.send_object_to);
        let failures = [
            (
                expected_lifetime.is_some_and(|expected| lifetime != expected),
                "INVALID_EXPIRATION",
                "exp - iat differs from the required value",
            ),
            (
                claims.size.is_some() && claims.max_size.is_some(),
                // The network's publisher has the same misspelling.
                "iNVALID_SIZES",
                "size and max_size exclude each other",
            ),
            (
                claims
                    .size
                    .zip(size)
                    .is_some_and(|(exact, size)| size != exact),
                "SIZE_INCORRECT",
                "the size of the body is incorrect",
            ),
            (
                claims
                    .max_size
                    .zip(size)
                    .is_some_and(|(max, size)| size > max),
                "MAX_SIZE_EXCEEDED",
                "the size of the body is above the maximum allowed",
            ),
            (
                claims.epochs.is_some() && claims.max_epochs.is_some(),
                "INVALID_EPOCHS",
                "epochs and max_epochs exclude each other",
            ),
            (
                claims.epochs.is_some_and(|exact| epochs != exact),
                "INVALID_EPOCHS",
                "the epochs in the query do not match the token",
            ),
            (
                claims.max_epochs.is_some_and(|max| epochs > max),
                "EPOCHS_ABOVE_MAX",
                "the epochs in the query are above the maximum allowed",
            ),
            (
                owner.is_some() && requested.is_none(),
                "MISSING_SEND_OBJECT_TO",
                "send_object_to is missing from the query, and it is required",
            ),
            (
                owner.is_some_and(|id| id.is_none() || requested != Some(id)),
                "INVALID_SEND_OBJECT_TO",
                "send_object_to in the query does not match the token",
            ),
        ];
        match failures.into_iter().find(|(failed, ..)| *failed) {
            Some((_, reason, message)) => Err(bad(reason, message)),
            None => Ok(()),
        }
    }

    fn mark_used(&self, claims: Claims) -> Result<(), ApiError> {
        let mut used = self.used.lock();
        let now = unix_seconds();
        used.retain(|_, end| *end > now);
        match used.insert(claims.jti, claims.exp.saturating_add(LEEWAY_S)) {
            None => Ok(()),
            Some(_) => Err(ApiError::auth(
                StatusCode::TOO_MANY_REQUESTS,
                "TOKEN_ALREADY_USED",
                "the JWT token was already used",
            )),
        }
    }
}

fn bad(reason: &'static str, message: &str) -> ApiError {
    ApiError::auth(StatusCode::BAD_REQUEST, reason, message)
}

fn refusal(error: &ErrorKind) -> ApiError {
    match error {
        ErrorKind::ExpiredSignature => ApiError::auth(
            StatusCode::GATEWAY_TIMEOUT,
            "EXPIRED_SIGNATURE",
            "the signature on the token has expired: ExpiredSignature",
        ),
        ErrorKind::InvalidSignature | ErrorKind::ImmatureSignature => ApiError::auth(
            StatusCode::UNAUTHORIZED,
            "INVALID_SIGNATURE",
            "the signature on the token is invalid",
        ),
        _ => bad("INVALID_TOKEN", "the JWT token is invalid"),
    }
}
