//! A small OAuth issuer: enough of one that a client can sign in, stay signed
//! in and sign out as with any other, by the standards' own rules.
//!
//! - [`book`]: what was given to whom, and what has ended;
//! - [`authorize`]: the page where a user signs in with a browser;
//! - [`device`]: signing in without one on the client's machine;
//! - [`token`]: tokens for codes and for refresh tokens; giving them back.
//!
//! Anybody signs in under any name: this is a network of one's own. Clients are
//! public ones, so PKCE with S256 is demanded, a redirect goes to a loopback
//! address, and a refresh token is good once: used twice, whoever holds its
//! successor may be a thief, and the sign-in ends. Everything is forgotten when
//! the server ends.

mod authorize;
mod book;
mod device;
mod token;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::Shared;
use super::demand::bearer;
use book::Book;

/// An issuer.
pub(super) struct Issuer {
    url: String,
    lifetime: Duration,
    book: Mutex<Book>,
}

impl Issuer {
    /// One at `url`, whose access tokens are good for `lifetime`.
    pub(super) fn new(url: &str, lifetime: Duration) -> Self {
        Issuer {
            url: url.into(),
            lifetime,
            book: Mutex::default(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is an access token of ours that has not ended.
    pub(super) fn knows(&self, token: &str) -> bool {
        self.book().user_of(token).is_some()
    }
}

/// Why a client does not get what it asks for, in the standards' words.
#[derive(Debug)]
struct Refusal {
    error: &'static str,
    why: &'static str,
}

impl Refusal {
    fn new(error: &'static str, why: &'static str) -> Self {
        Refusal { error, why }
    }
}

impl IntoResponse for Refusal {
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
        .route("/oauth/token", post(token::give))
        .route("/oauth/device_authorization", post(device::begin))
        .route("/oauth/device", get(device::show).post(device::decide))
        .route("/oauth/revoke", post(token::revoke))
        .route("/oauth/userinfo", get(userinfo))
}

/// The issuer of a server that is one; its routes are there only then.
fn issuer(server: &Shared) -> Result<&Issuer, Refusal> {
    let none = Refusal::new("server_error", "this server is no issuer");
    server.demand.issuer().ok_or(none)
}

/// The discovery document.
async fn document(State(server): State<Shared>) -> Result<Response, Refusal> {
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

/// Whose an access token is.
async fn userinfo(State(server): State<Shared>, headers: HeaderMap) -> Result<Response, Refusal> {
    let user = bearer(&headers).and_then(|token| issuer(&server).ok()?.book().user_of(token));
    Ok(match user {
        Some(user) => Json(json!({"sub": user, "preferred_username": user})).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    })
}

/// A page that loads nothing and runs nothing.
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

/// A text that stands in a page.
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

/// The form in which a user says yes or no.
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

/// Who allows what such a form asks for; `None` where it is denied.
fn allowed_by(user: &str, decision: &str) -> Option<String> {
    let user = user.trim();
    (decision == "allow" && !user.is_empty()).then(|| user.to_owned())
}
