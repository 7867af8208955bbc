//! Sign-in page for browsers.

use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use reqwest::Url;
use serde::Deserialize;

use super::sign_in_state::Asked;
use super::{Refusal, allowed_by, form, issuer, page};
use crate::Shared;
use walrus_client::auth::is_loopback;

/// Parameters of a sign-in request.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
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
    Query(question): Query<Question>,
) -> Result<Response, Refusal> {
    let issuer = issuer(&server)?;
    let bad = |why: &str| Ok(page(StatusCode::BAD_REQUEST, &format!("<p>{why}</p>")));
    // No answer, not even an error, is sent to an unverified redirect address.
    let redirect = Url::parse(&question.redirect_uri).ok();
    if !redirect.is_some_and(|url| url.scheme() == "http" && is_loopback(&url)) {
        return bad("The client wants to be answered elsewhere than on your machine.");
    }
    if question.response_type != "code" {
        return bad("The client does not ask for a code.");
    }
    let challenge = match (question.code_challenge, question.code_challenge_method) {
        (Some(challenge), Some(method)) if method == "S256" => challenge,
        _ => return bad("The client does not use PKCE with S256."),
    };
    let about = match question.scope.as_deref().unwrap_or("") {
        "" => format!("{} wants to publish in your name.", question.client_id),
        scope => format!("{} asks for: {scope}.", question.client_id),
    };
    let id = issuer.book().ask(Asked {
        client: question.client_id,
        redirect: question.redirect_uri,
        state: question.state,
        challenge,
    })?;
    let form = form("/oauth/authorize", ("request", &id), &about);
    Ok(page(StatusCode::OK, &form))
}

/// Fields of the page's form.
#[derive(Debug, Deserialize)]
pub(super) struct Decision {
    request: String,
    #[serde(default)]
    user: String,
    decision: String,
}

/// `POST /oauth/authorize`.
pub(super) async fn decide(
    State(server): State<Shared>,
    Form(decision): Form<Decision>,
) -> Result<Response, Refusal> {
    let issuer = issuer(&server)?;
    let mut book = issuer.book();
    let back = book.asked(&decision.request);
    let back = back.and_then(|asked| Some((Url::parse(&asked.redirect).ok()?, asked)));
    let Some((mut url, asked)) = back else {
        let text = "<p>This sign-in is over; begin it again.</p>";
        return Ok(page(StatusCode::BAD_REQUEST, text));
    };
    let state = asked.state.clone();
    let (name, value) = match allowed_by(&decision.user, &decision.decision) {
        Some(user) => ("code", book.code(asked, user)?),
        None => ("error", "access_denied".into()),
    };
    url.query_pairs_mut()
        .append_pair(name, &value)
        .append_pair("iss", &issuer.url);
    if let Some(state) = state {
        url.query_pairs_mut().append_pair("state", &state);
    }
    Ok(Redirect::to(url.as_str()).into_response())
}
