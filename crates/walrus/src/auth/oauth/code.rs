//! Sign-in with a browser: authorization code, PKCE, loopback redirect.
//!
//! We listen on a free port of this machine and send the browser to the issuer, which
//! redirects it to that port with a code. The code is useless without the verifier,
//! which only we have (PKCE). A redirect without the state that we sent is not ours: it
//! is refused, and the wait continues.
//!
//! Not protected: another user of this machine who sees the arguments of the browser
//! process can answer first, with their own sign-in. `login` therefore reports the
//! signed-in user.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use oauth2::{
    AuthUrl, AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    TokenUrl,
};
use reqwest::Url;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::issuer::Issuer;
use super::issuer_client::{IssuerClient, failed};
use super::tokens::{client, grant};
use crate::auth::{AuthError, Grant, Secret};
use crate::net::http;

/// Path of the redirect on our port.
const CALLBACK_PATH: &str = "/callback";

/// A sign-in that waits for the browser's redirect.
pub struct CodeFlow {
    exchange: CodeExchange,
    url: Url,
    listener: TcpListener,
    state: Secret,
}

/// Data to exchange a code for tokens.
struct CodeExchange {
    issuer: Issuer,
    verifier: PkceCodeVerifier,
    redirect: RedirectUrl,
}

/// A redirect with a code.
pub struct AuthorizationResponse {
    exchange: CodeExchange,
    code: Secret,
}

impl CodeFlow {
    /// Begins a sign-in.
    pub async fn begin(issuer: Issuer) -> Result<Self, AuthError> {
        let failed = |source| AuthError::Io {
            what: "cannot listen on a port for the redirect of the browser",
            source,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let redirect = format!("http://127.0.0.1:{port}{CALLBACK_PATH}");
        let redirect = RedirectUrl::new(redirect)
            .map_err(|_| AuthError::issuer(issuer.name(), "the redirect URL is invalid"))?;
        let client = client(issuer.client_id())
            .set_auth_uri(AuthUrl::from_url(issuer.authorization_endpoint()?))
            .set_redirect_uri(redirect.clone());
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let state = Secret::random()?;
        let (url, _) = client
            .authorize_url(|| CsrfToken::new(state.expose().into()))
            .add_scopes(issuer.scopes())
            .set_pkce_challenge(challenge)
            .url();
        Ok(CodeFlow {
            exchange: CodeExchange {
                issuer,
                verifier,
                redirect,
            },
            url,
            listener,
            state,
        })
    }

    /// URL where the user signs in.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Waits for the browser's redirect.
    ///
    /// # Errors
    /// [`AuthError::Denied`] if the issuer sends an error instead of a code,
    /// [`AuthError::TimedOut`] if there is no redirect in time.
    pub async fn wait(self, time_limit: Duration) -> Result<AuthorizationResponse, AuthError> {
        let (sender, mut receiver) = mpsc::channel(1);
        let issuer = self.exchange.issuer.name().to_owned();
        let waiting = ExpectedRedirect {
            state: self.state,
            issuer: issuer.clone(),
            sender,
        };
        let routes = Router::new()
            .route(CALLBACK_PATH, get(receive_redirect))
            .with_state(Arc::new(waiting));
        let serving = axum::serve(self.listener, routes).into_future();
        let serving = tokio::spawn(serving);
        let received = tokio::time::timeout(time_limit, receiver.recv()).await;
        // The browser must receive the answer before the port closes.
        tokio::time::sleep(Duration::from_millis(100)).await;
        serving.abort();
        match received {
            Ok(Some(Ok(code))) => Ok(AuthorizationResponse {
                exchange: self.exchange,
                code,
            }),
            Ok(Some(Err(why))) => Err(AuthError::denied(issuer, why)),
            Ok(None) | Err(_) => Err(AuthError::TimedOut(time_limit.as_secs())),
        }
    }
}

impl AuthorizationResponse {
    /// Exchanges the code for tokens.
    pub async fn exchange(self) -> Result<Grant, AuthError> {
        let CodeExchange {
            issuer,
            verifier,
            redirect,
        } = self.exchange;
        let url = issuer.token_endpoint()?;
        let http = IssuerClient::to(&url)?;
        let answer = client(issuer.client_id())
            .set_token_uri(TokenUrl::from_url(url.clone()))
            .set_redirect_uri(redirect)
            .exchange_code(AuthorizationCode::new(self.code.expose().into()))
            .set_pkce_verifier(verifier)
            .request_async(&http)
            .await
            .map_err(|error| failed(&url, error))?;
        grant(&issuer, &answer).await
    }
}

/// Values expected in the redirect, and the receiver of its code.
struct ExpectedRedirect {
    state: Secret,
    issuer: String,
    sender: mpsc::Sender<Result<Secret, String>>,
}

/// Parameters of an issuer's redirect.
#[derive(Deserialize)]
struct RedirectQuery {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    iss: Option<String>,
}

async fn receive_redirect(
    State(waiting): State<Arc<ExpectedRedirect>>,
    Query(query): Query<RedirectQuery>,
) -> Response {
    let ours = query.state.is_some_and(|state| waiting.state.is(&state));
    // If the issuer identifies itself, it must be the one we asked (RFC 9207).
    let another = query
        .iss
        .is_some_and(|iss| iss.trim_end_matches('/') != waiting.issuer.trim_end_matches('/'));
    if !ours || another {
        let text = "This answer does not belong to a sign-in that walgit-fs has started.";
        return page(StatusCode::BAD_REQUEST, text);
    }
    let (found, text) = match (query.code, query.error) {
        (Some(code), None) => (
            Ok(Secret::new(code)),
            "walgit-fs has got your sign-in. You can close this page.",
        ),
        (_, error) => {
            let why = query.error_description.or(error);
            let why = why.unwrap_or_else(|| "it sent no code".into());
            let text = "You are not signed in; walgit-fs says why. You can close this page.";
            (Err(http::words(&why)), text)
        }
    };
    // A second answer is ignored.
    let _ = waiting.sender.try_send(found);
    page(StatusCode::OK, text)
}

/// A page without caching, resources or scripts.
fn page(status: StatusCode, text: &str) -> Response {
    let html = format!("<!doctype html><title>walgit-fs</title><p>{text}</p>\n");
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ];
    (status, headers, html).into_response()
}
