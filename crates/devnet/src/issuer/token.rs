//! Tokens: issue, renewal and revocation.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse as _, Response};
use axum::{Form, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::json;

use super::{Refusal, issuer};
use crate::Shared;

/// Grant type of a device sign-in (RFC 8628).
pub(super) const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    grant_type: String,
    client_id: Option<String>,
    code: Option<String>,
    redirect_uri: Option<String>,
    code_verifier: Option<String>,
    device_code: Option<String>,
    refresh_token: Option<String>,
}

/// `POST /oauth/token`.
pub(super) async fn give(
    State(server): State<Shared>,
    Form(wish): Form<Wish>,
) -> Result<Response, Refusal> {
    let issuer = issuer(&server)?;
    let mut book = issuer.book();
    let lifetime = issuer.lifetime;
    let needed = |value: &Option<String>, why| {
        let value = value.clone();
        value.ok_or(Refusal::new("invalid_request", why))
    };
    let client = needed(&wish.client_id, "client_id is missing")?;
    let given = match wish.grant_type.as_str() {
        "authorization_code" => {
            let code = needed(&wish.code, "code is missing")?;
            let verifier = needed(&wish.code_verifier, "code_verifier is missing")?;
            let refused = |why| Refusal::new("invalid_grant", why);
            let (asked, user) = book.redeem(&code).ok_or(refused("no such code"))?;
            if asked.client != client || Some(&asked.redirect) != wish.redirect_uri.as_ref() {
                return Err(refused("the code was given to another client"));
            }
            let found = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
            if found != asked.challenge {
                return Err(refused("code_verifier does not fit"));
            }
            book.sign_in(&user, &client, lifetime)?
        }
        DEVICE_GRANT => {
            let code = needed(&wish.device_code, "device_code is missing")?;
            let user = book.poll(&code, &client)?;
            book.sign_in(&user, &client, lifetime)?
        }
        "refresh_token" => {
            let token = needed(&wish.refresh_token, "refresh_token is missing")?;
            book.refresh(&token, &client, lifetime)?
        }
        _ => return Err(Refusal::new("unsupported_grant_type", "no such grant")),
    };
    let body = json!({
        "access_token": given.access,
        "token_type": "Bearer",
        "expires_in": lifetime.as_secs(),
        "refresh_token": given.refresh,
    });
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct Back {
    token: String,
}

/// `POST /oauth/revoke`: succeeds whether or not the token exists (RFC 7009).
pub(super) async fn revoke(
    State(server): State<Shared>,
    Form(back): Form<Back>,
) -> Result<StatusCode, Refusal> {
    issuer(&server)?.book().revoke(&back.token);
    Ok(StatusCode::OK)
}
