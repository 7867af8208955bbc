//! The only module that adds credentials to a request.

use reqwest::{RequestBuilder, Response, StatusCode};

use super::HttpStore;
use super::failed_request::FailedRequest;
use crate::StoreError;
use crate::auth::{AuthError, Upload};
use crate::net::{Endpoint, FailureKind, http};

/// Most bytes read of a refusal.
const MAX_REFUSAL_BYTES: u64 = 8 << 10;

impl HttpStore {
    /// Sends an upload with the credentials for this publisher; repeats it once with a
    /// new token if the publisher rejects a renewable one.
    pub(super) async fn send_as_user(
        &self,
        endpoint: &Endpoint,
        request: RequestBuilder,
        upload: &Upload,
    ) -> Result<Response, FailedRequest> {
        let credentials = &self.config.credentials;
        let prove = || async {
            let proof = credentials.for_upload(endpoint.url(), upload).await;
            proof.map_err(|error| no_proof(endpoint, &error))
        };
        let proof = prove().await?;
        let again = request.try_clone();
        let mut response = self.send(endpoint, proof.attach(request)).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(again) = again
            && credentials.renew(&proof)
        {
            response = self.send(endpoint, prove().await?.attach(again)).await?;
        }
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let message = FailedRequest::unexpected(endpoint, response)
                    .await
                    .into_error();
                Err(sign_in(&message.to_string(), &self.remedy()))
            }
            // The network's publisher answers this to a request without a token.
            StatusCode::BAD_REQUEST if credentials.is_none() => {
                let body = http::body(response, MAX_REFUSAL_BYTES).await;
                let body = body.ok().flatten().unwrap_or_default();
                let message = String::from_utf8_lossy(&body);
                if message.contains("`authorization` was missing") {
                    let place = endpoint.name();
                    let message = format!("{place} refused (400): {}", http::words(&message));
                    return Err(sign_in(&message, &self.remedy()));
                }
                // Any other reason is passed on unchanged.
                let mut same = axum::http::Response::new(body);
                *same.status_mut() = StatusCode::BAD_REQUEST;
                Ok(same.into())
            }
            _ => Ok(response),
        }
    }

    /// Advice for the user when a publisher rejects the credentials.
    fn remedy(&self) -> String {
        let credentials = &self.config.credentials;
        let network = match credentials.network() {
            "" => "NAME",
            network => network,
        };
        if credentials.is_none() {
            format!(
                "it requires authentication: configure [networks.{network}.auth] in the config \
                 file, then run walgit-fs login --network {network}"
            )
        } else {
            format!("sign in again with walgit-fs login --network {network}")
        }
    }
}

fn sign_in(message: &str, remedy: &str) -> FailedRequest {
    let error = StoreError::SignIn(format!("{message}; {remedy}"));
    FailedRequest::new(FailureKind::Refused, error)
}

fn no_proof(endpoint: &Endpoint, error: &AuthError) -> FailedRequest {
    if error.may_heal() {
        let why = format!("no token for it: {error}");
        return FailedRequest::unavailable(FailureKind::Connect, endpoint, why);
    }
    let error = StoreError::SignIn(error.to_string());
    FailedRequest::new(FailureKind::Refused, error)
}
