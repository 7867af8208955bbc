//! Sign-in page for browsers.

use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use reqwest::Url;
use serde::Deserialize;

use super::page::{SignInDecision, form, page};
use super::sign_in_state::{AuthorizationRequest, OauthError};
use crate::state::Shared;
use walrus_client::auth::is_loopback;

/// Parameters of a sign-in request.
#[derive(Debug, Deserialize)]
pub(super) struct AuthorizeQuery {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    state: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
    scope: Option<String>,
}

/// `GET /oauth/authorize`.
pub(super) async fn show(
    State(server): State<Shared>,
    Query(query): Query<AuthorizeQuery>,
) -> Result<Response, OauthError> {
    let issuer = server.issuer()?;
    let bad = |why: &str| Ok(page(StatusCode::BAD_REQUEST, &format!("<p>{why}</p>")));
    // No answer, not even an error, is sent to an unverified redirect address.
    let redirect = Url::parse(&query.redirect_uri).ok();
    if !redirect.is_some_and(|url| url.scheme() == "http" && is_loopback(&url)) {
        return bad("The client wants to be answered elsewhere than on your machine.");
    }
    if query.response_type != "code" {
        return bad("The client does not ask for a code.");
    }
    let challenge = match (query.code_challenge, query.code_challenge_method) {
        (Some(challenge), Some(method)) if method == "S256" => challenge,
        _ => return bad("The client does not use PKCE with S256."),
    };
    let about = match query.scope.as_deref().unwrap_or("") {
        "" => format!("{} wants to publish in your name.", query.client_id),
        scope => format!("{} asks for: {scope}.", query.client_id),
    };
    let id = issuer.state().begin_authorization(AuthorizationRequest {
        client: query.client_id,
        redirect: query.redirect_uri,
        state: query.state,
        challenge,
    })?;
    let form = form("/oauth/authorize", ("request", &id), &about);
    Ok(page(StatusCode::OK, &form))
}

/// `POST /oauth/authorize`.
pub(super) async fn decide(
    State(server): State<Shared>,
    Form(decision): Form<SignInDecision>,
) -> Result<Response, OauthError> {
    let issuer = server.issuer()?;
    let mut state = issuer.state();
    let redirect = state.take_authorization(&decision.request);
    let redirect =
        redirect.and_then(|request| Some((Url::parse(&request.redirect).ok()?, request)));
    let Some((mut url, request)) = redirect else {
        let text = "<p>This sign-in is over; begin it again.</p>";
        return Ok(page(StatusCode::BAD_REQUEST, text));
    };
    let client_state = request.state.clone();
    let (name, value) = match decision.allowed_by() {
        Some(user) => ("code", state.create_code(request, user)?),
        None => ("error", "access_denied".into()),
    };
    url.query_pairs_mut()
        .append_pair(name, &value)
        .append_pair("iss", &issuer.url);
    if let Some(state) = client_state {
        url.query_pairs_mut().append_pair("state", &state);
    }
    Ok(Redirect::to(url.as_str()).into_response())
}
