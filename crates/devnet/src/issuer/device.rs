//! Device sign-in: the user signs in on another device.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse as _, Response};
use axum::{Form, Json};
use serde::Deserialize;
use serde_json::json;

use super::sign_in_state::{Book, INTERVAL};
use super::{Refusal, allowed_by, form, issuer, page};
use crate::Shared;

#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    client_id: String,
}

/// `POST /oauth/device_authorization`.
pub(super) async fn begin(
    State(server): State<Shared>,
    Form(wish): Form<Wish>,
) -> Result<Response, Refusal> {
    let issuer = issuer(&server)?;
    let (device_code, user_code) = issuer.book().device(&wish.client_id)?;
    let at = format!("{}/oauth/device", issuer.url);
    let body = json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": at,
        "verification_uri_complete": format!("{at}?user_code={user_code}"),
        "expires_in": Book::patience().as_secs(),
        "interval": INTERVAL.as_secs(),
    });
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct Visit {
    #[serde(default)]
    user_code: String,
}

/// `GET /oauth/device`.
pub(super) async fn show(
    State(server): State<Shared>,
    Query(visit): Query<Visit>,
) -> Result<Response, Refusal> {
    let book = issuer(&server)?.book();
    Ok(match book.client_of(&visit.user_code) {
        Some(client) => {
            let about = format!("{client} wants to publish in your name.");
            let form = form("/oauth/device", ("user_code", &visit.user_code), &about);
            page(StatusCode::OK, &form)
        }
        None => page(
            StatusCode::OK,
            "<form action=\"/oauth/device\"><label>The code you were shown \
             <input name=\"user_code\" required></label> <button>Go on</button></form>",
        ),
    })
}

#[derive(Debug, Deserialize)]
pub(super) struct Decision {
    user_code: String,
    #[serde(default)]
    user: String,
    decision: String,
}

/// `POST /oauth/device`.
pub(super) async fn decide(
    State(server): State<Shared>,
    Form(decision): Form<Decision>,
) -> Result<Response, Refusal> {
    let decided = allowed_by(&decision.user, &decision.decision).ok_or(());
    let known = issuer(&server)?.book().decide(&decision.user_code, decided);
    Ok(match known {
        true => page(StatusCode::OK, "<p>Done. You can close this page.</p>"),
        false => page(StatusCode::BAD_REQUEST, "<p>There is no such code.</p>"),
    })
}
