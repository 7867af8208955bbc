//! A minimal OAuth issuer: a client can sign in, renew and sign out by the standards'
//! rules.
//!
//! Any name can sign in, because the network is local. Clients are public, so PKCE with
//! S256 is required, redirects must go to a loopback address, and a refresh token is
//! valid once: a second use indicates theft and ends the sign-in. All state is lost when
//! the server ends.

mod authorize;
mod device;
mod sign_in_state;
mod token;

use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::upload_auth::bearer;
use sign_in_state::SignInState;

/// An OAuth issuer.
pub(super) struct Issuer {
    url: String,
    lifetime: Duration,
    state: Mutex<SignInState>,
}

impl Issuer {
    /// Creates an issuer at `url` with this `lifetime` of access tokens.
    pub(super) fn new(url: &str, lifetime: Duration) -> Self {
        Issuer {
            url: url.into(),
            lifetime,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, SignInState> {
        self.state.lock()
    }

    /// Whether this is a valid access token of this issuer.
    pub(super) fn is_valid_token(&self, token: &str) -> bool {
        self.state().user_of(token).is_some()
    }
}

/// Error of a request, with the standards' error codes.
#[derive(Debug)]
struct OauthError {
    error: &'static str,
    why: &'static str,
}

impl OauthError {
    fn new(error: &'static str, why: &'static str) -> Self {
        OauthError { error, why }
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.why});
        let no_store = [(CACHE_CONTROL, "no-store")];
        (StatusCode::BAD_REQUEST, no_store, Json(body)).into_response()
    }
}

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

/// Returns the issuer of this server; its routes exist only if there is one.
fn issuer(server: &Shared) -> Result<&Issuer, OauthError> {
    let none = OauthError::new("server_error", "this server is no issuer");
    server.upload_auth.issuer().ok_or(none)
}

/// Returns the discovery document.
async fn document(State(server): State<Shared>) -> Result<Response, OauthError> {
    let url = &issuer(&server)?.url;
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
    let user = bearer(&headers).and_then(|token| issuer(&server).ok()?.state().user_of(token));
    Ok(match user {
        Some(user) => Json(json!({"sub": user, "preferred_username": user})).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    })
}

/// A page without resources or scripts.
fn page(status: StatusCode, body: &str) -> Response {
    let html = format!("<!doctype html><title>walgit-fs devnet</title>{body}\n");
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ];
    (status, headers, html).into_response()
}

/// Escapes text for a page.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Form to allow or deny a request.
fn form(action: &str, hidden: (&str, &str), about: &str) -> String {
    let (name, value) = hidden;
    let (value, about) = (escaped(value), escaped(about));
    format!(
        "<p>{about}</p><form method=\"post\" action=\"{action}\">\
         <input type=\"hidden\" name=\"{name}\" value=\"{value}\">\
         <label>Your name <input name=\"user\" required maxlength=\"80\"></label> \
         <button name=\"decision\" value=\"allow\">Allow</button> \
         <button name=\"decision\" value=\"deny\" formnovalidate>Deny</button></form>"
    )
}

/// Fields of the form: `request` is the ID of an authorization, `user_code` the code of a
/// device.
#[derive(Debug, Deserialize)]
struct Decision {
    #[serde(alias = "user_code")]
    request: String,
    #[serde(default)]
    user: String,
    decision: String,
}

impl Decision {
    /// Name of the user who allowed the request; `None` if denied.
    fn allowed_by(&self) -> Option<String> {
        let user = self.user.trim();
        (self.decision == "allow" && !user.is_empty()).then(|| user.to_owned())
    }
}
