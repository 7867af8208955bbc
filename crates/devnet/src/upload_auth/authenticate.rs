//! Check of an upload.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::required_auth::UploadAuth;
use crate::errors::ApiError;
use crate::state::Shared;
use crate::storing;

/// Admits an upload with the required authentication.
pub(crate) async fn authenticate(
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
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
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
