//! HTTP requests to an issuer.

use std::time::Duration;

use futures_util::future::BoxFuture;
use oauth2::{AsyncHttpClient, ErrorResponse, HttpRequest, HttpResponse, RequestTokenError};
use parking_lot::Mutex;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, Url};

use crate::auth::{AuthError, is_loopback, is_private};
use crate::net::{Tls, http};

/// Longest answer of an issuer, in bytes.
const MAX_RESPONSE_BYTES: u64 = 256 << 10;
/// Longest wait for an answer.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(10);

/// Parses a URL that secrets may be sent to.
pub(super) fn endpoint(url: &str) -> Result<Url, AuthError> {
    let parsed = Url::parse(url).map_err(|_| AuthError::issuer(url, "it is no URL"))?;
    if is_private(&parsed) {
        return Ok(parsed);
    }
    let why = "secrets are not sent there; it must be https";
    Err(AuthError::issuer(url, why))
}

/// HTTP client for one issuer.
pub(super) struct IssuerClient {
    client: Client,
    /// Why the last request of an exchange got no answer.
    failed: Mutex<Option<String>>,
}

/// A request without a usable answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(String);

impl IssuerClient {
    pub(super) fn to(url: &Url) -> Result<Self, AuthError> {
        let tls = Tls::system();
        tls.check(url)
            .map_err(|error| AuthError::issuer(url, error.to_string()))?;
        let client = http::client_with(&tls)
            .connect_timeout(ISSUER_TIMEOUT)
            .timeout(ISSUER_TIMEOUT);
        // Plaintext requests to this machine must not pass through a proxy.
        let client = if is_loopback(url) {
            client.no_proxy()
        } else {
            client
        };
        let built = client.build().map_err(|error| unreachable(url, &error));
        Ok(IssuerClient {
            client: built?,
            failed: Mutex::default(),
        })
    }

    /// Why the last request of an exchange got no answer; `None` if it got one.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.failed.lock().clone()
    }

    async fn send_recorded(&self, request: HttpRequest) -> Result<HttpResponse, NoAnswer> {
        let answer = self.send(request).await;
        *self.failed.lock() = answer.as_ref().err().map(|NoAnswer(why)| why.clone());
        answer
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, NoAnswer> {
        let failed = |error: reqwest::Error| NoAnswer(http::cause(&error));
        let request = request.try_into().map_err(failed)?;
        let response = self.client.execute(request).await.map_err(failed)?;
        let status = response.status();
        // The crate would treat these as a permanent refusal.
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(NoAnswer(status.to_string()));
        }
        let mut answer = oauth2::http::Response::builder().status(status);
        for (name, value) in response.headers() {
            answer = answer.header(name, value);
        }
        let body = http::body(response, MAX_RESPONSE_BYTES)
            .await
            .map_err(failed)?;
        let body = body.ok_or_else(|| NoAnswer("its answer is too long".into()))?;
        answer
            .body(body.to_vec())
            .map_err(|error| NoAnswer(error.to_string()))
    }

    /// Requests a JSON document; `None` if there is none.
    pub(super) async fn get<T: serde::de::DeserializeOwned>(
        &self,
        url: &Url,
        bearer: Option<&str>,
    ) -> Result<Option<T>, AuthError> {
        let mut request = self.client.get(url.clone());
        if let Some(token) = bearer {
            request = request.bearer_auth(token);
        }
        let response = request.send().await;
        let response = response.map_err(|error| unreachable(url, &error))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(AuthError::unreachable(url, status.to_string()));
        }
        if status != StatusCode::OK {
            return Ok(None);
        }
        let body = http::body(response, MAX_RESPONSE_BYTES).await;
        let body = body.map_err(|error| unreachable(url, &error))?;
        let body = body.ok_or_else(|| {
            AuthError::issuer(
                url,
                format!("its answer is longer than {MAX_RESPONSE_BYTES} bytes"),
            )
        })?;
        // The body may be an HTML page, for example.
        Ok(serde_json::from_slice(&body).ok())
    }

    /// Sends a form whose answer only confirms acceptance.
    pub(super) async fn post(&self, url: &Url, form: &[(&str, &str)]) -> Result<(), AuthError> {
        let mut encoded = url.clone();
        encoded.query_pairs_mut().clear().extend_pairs(form);
        let body = encoded.query().unwrap_or_default().to_owned();
        let kind = "application/x-www-form-urlencoded";
        let request = self.client.post(url.clone()).header(CONTENT_TYPE, kind);
        let response = request.body(body).send().await;
        let response = response.map_err(|error| unreachable(url, &error))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(AuthError::denied(url, status.to_string())),
        }
    }
}

impl<'c> AsyncHttpClient<'c> for IssuerClient {
    type Error = NoAnswer;
    type Future = BoxFuture<'c, Result<HttpResponse, NoAnswer>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send_recorded(request))
    }
}

fn unreachable(url: &Url, error: &reqwest::Error) -> AuthError {
    AuthError::unreachable(url, http::cause(error))
}

/// Classifies a failed exchange. The issuer's answer is not included: it may contain
/// tokens.
pub(super) fn failed<E>(url: &Url, error: RequestTokenError<NoAnswer, E>) -> AuthError
where
    E: ErrorResponse + std::fmt::Display + 'static,
{
    match error {
        RequestTokenError::ServerResponse(answer) => {
            AuthError::denied(url, http::words(&answer.to_string()))
        }
        RequestTokenError::Request(NoAnswer(why)) => AuthError::unreachable(url, why),
        RequestTokenError::Parse(..) => {
            AuthError::issuer(url, "its answer is not that of an OAuth issuer")
        }
        RequestTokenError::Other(why) => AuthError::denied(url, http::words(&why)),
    }
}
