//! Device sign-in: the user signs in on another device.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse as _, Response};
use axum::{Form, Json};
use serde::Deserialize;
use serde_json::json;

use super::page::{SignInDecision, form, page};
use super::sign_in_state::{OauthError, POLL_INTERVAL, SIGN_IN_TIMEOUT};
use crate::state::Shared;

#[derive(Debug, Deserialize)]
pub(super) struct DeviceRequest {
    client_id: String,
}

/// `POST /oauth/device_authorization`.
pub(super) async fn begin(
    State(server): State<Shared>,
    Form(request): Form<DeviceRequest>,
) -> Result<Response, OauthError> {
    let issuer = server.issuer()?;
    let (device_code, user_code) = issuer.state().begin_device(&request.client_id)?;
    let at = format!("{}/oauth/device", issuer.url);
    let body = json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": at,
        "verification_uri_complete": format!("{at}?user_code={user_code}"),
        "expires_in": SIGN_IN_TIMEOUT.as_secs(),
        "interval": POLL_INTERVAL.as_secs(),
    });
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct DeviceQuery {
    #[serde(default)]
    user_code: String,
}

/// `GET /oauth/device`.
pub(super) async fn show(
    State(server): State<Shared>,
    Query(query): Query<DeviceQuery>,
) -> Result<Response, OauthError> {
    let state = server.issuer()?.state();
    Ok(match state.client_of(&query.user_code) {
        Some(client) => {
            let about = format!("{client} wants to publish in your name.");
            let form = form("/oauth/device", ("user_code", &query.user_code), &about);
            page(StatusCode::OK, &form)
        }
        None => page(
            StatusCode::OK,
            "<form action=\"/oauth/device\"><label>The code you were shown \
             <input name=\"user_code\" required></label> <button>Go on</button></form>",
        ),
    })
}

/// `POST /oauth/device`.
pub(super) async fn decide(
    State(server): State<Shared>,
    Form(decision): Form<SignInDecision>,
) -> Result<Response, OauthError> {
    let user = decision.allowed_by().ok_or(());
    let (status, text) = if server.issuer()?.state().decide(&decision.user_code, user) {
        (StatusCode::OK, "<p>Done. You can close this page.</p>")
    } else {
        (StatusCode::BAD_REQUEST, "<p>There is no such code.</p>")
    };
    Ok(page(status, text))
}
