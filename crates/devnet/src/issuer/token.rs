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

use super::sign_in_state::OauthError;
use crate::state::Shared;

/// Grant type of a device sign-in (RFC 8628).
pub(super) const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

#[derive(Debug, Deserialize)]
pub(super) struct TokenRequest {
    grant_type: String,
    client_id: Option<String>,
    code: Option<String>,
    redirect_uri: Option<String>,
    code_verifier: Option<String>,
    device_code: Option<String>,
    refresh_token: Option<String>,
}

/// `POST /oauth/token`.
pub(super) async fn issue(
    State(server): State<Shared>,
    Form(request): Form<TokenRequest>,
) -> Result<Response, OauthError> {
    let issuer = server.issuer()?;
    let mut state = issuer.state();
    let lifetime = issuer.lifetime;
    let required = |value: &Option<String>, why| {
        let value = value.clone();
        value.ok_or(OauthError::new("invalid_request", why))
    };
    let client = required(&request.client_id, "client_id is missing")?;
    let tokens = match request.grant_type.as_str() {
        "authorization_code" => {
            let code = required(&request.code, "code is missing")?;
            let verifier = required(&request.code_verifier, "code_verifier is missing")?;
            let refused = |why| OauthError::new("invalid_grant", why);
            let (authorization, user) = state.redeem_code(&code).ok_or(refused("no such code"))?;
            if authorization.client != client
                || Some(&authorization.redirect) != request.redirect_uri.as_ref()
            {
                return Err(refused("the code was issued to another client"));
            }
            let found = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
            if found != authorization.challenge {
                return Err(refused("code_verifier does not fit"));
            }
            state.sign_in(&user, &client, lifetime)?
        }
        DEVICE_GRANT => {
            let code = required(&request.device_code, "device_code is missing")?;
            let user = state.poll(&code, &client)?;
            state.sign_in(&user, &client, lifetime)?
        }
        "refresh_token" => {
            let token = required(&request.refresh_token, "refresh_token is missing")?;
            state.refresh(&token, &client, lifetime)?
        }
        _ => return Err(OauthError::new("unsupported_grant_type", "no such grant")),
    };
    let body = json!({
        "access_token": tokens.access,
        "token_type": "Bearer",
        "expires_in": lifetime.as_secs(),
        "refresh_token": tokens.refresh,
    });
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct RevocationRequest {
    token: String,
}

/// `POST /oauth/revoke`: succeeds whether or not the token exists (RFC 7009).
pub(super) async fn revoke(
    State(server): State<Shared>,
    Form(request): Form<RevocationRequest>,
) -> Result<StatusCode, OauthError> {
    server.issuer()?.state().revoke(&request.token);
    Ok(StatusCode::OK)
}
