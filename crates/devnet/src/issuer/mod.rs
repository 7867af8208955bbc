//! A minimal OAuth issuer: a client can sign in, renew and sign out by the standards'
//! rules.
//!
//! Any name can sign in, because the network is local. Clients are public, so PKCE with
//! S256 is required, redirects must go to a loopback address, and a refresh token is
//! valid once: a second use indicates theft and ends the sign-in. All state is lost when
//! the server ends.

mod authorize;
mod device;
mod page;
mod sign_in_state;
mod token;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::state::Shared;
use super::upload_auth::bearer;
pub(super) use sign_in_state::{Issuer, OauthError};

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/.well-known/oauth-authorization-server", get(document))
        .route(
            "/oauth/authorize",
            get(authorize::show).post(authorize::decide),
        )
        .route("/oauth/token", post(token::issue))
        .route("/oauth/device_authorization", post(device::begin))
        .route("/oauth/device", get(device::show).post(device::decide))
        .route("/oauth/revoke", post(token::revoke))
        .route("/oauth/userinfo", get(userinfo))
}

/// Returns the discovery document.
async fn document(State(server): State<Shared>) -> Result<Response, OauthError> {
    let url = &server.issuer()?.url;
    let at = |path: &str| format!("{url}/oauth/{path}");
    Ok(Json(json!({
        "issuer": url,
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "device_authorization_endpoint": at("device_authorization"),
        "revocation_endpoint": at("revoke"),
        "userinfo_endpoint": at("userinfo"),
        "response_types_supported": ["code"],
        "grant_types_supported": [
            "authorization_code", "refresh_token", token::DEVICE_GRANT,
        ],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": true,
    }))
    .into_response())
}

/// Returns the user of an access token.
async fn userinfo(
    State(server): State<Shared>,
    headers: HeaderMap,
) -> Result<Response, OauthError> {
    let user = bearer(&headers).and_then(|token| server.issuer().ok()?.state().user_of(token));
    Ok(match user {
        Some(user) => Json(json!({"sub": user, "preferred_username": user})).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    })
}
