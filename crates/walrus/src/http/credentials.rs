//! The only module that adds credentials to a request.

use reqwest::{RequestBuilder, Response, StatusCode};

use super::HttpStore;
use super::failed::{Failed, refused};
use crate::StoreError;
use crate::auth::{AuthError, Upload, is_loopback};
use crate::net::{Endpoint, FailureKind, http};

/// Most bytes read of a refusal.
const MAX_REFUSAL: u64 = 8 << 10;

impl HttpStore {
    /// Sends an upload with the credentials for this publisher; repeats it once with a
    /// new token if the publisher rejects a renewable one.
    pub(super) async fn send_as_user(
        &self,
        endpoint: &Endpoint,
        request: RequestBuilder,
        upload: &Upload,
    ) -> Result<Response, Failed> {
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
                let said = refused(endpoint, response).await.into_error();
                Err(sign_in(&said.to_string(), &self.remedy()))
            }
            // The network's publisher answers this to a request without a token.
            StatusCode::BAD_REQUEST if credentials.is_none() => {
                let body = http::body(response, MAX_REFUSAL).await;
                let body = body.ok().flatten().unwrap_or_default();
                let said = String::from_utf8_lossy(&body);
                if said.contains("`authorization` was missing") {
                    let place = endpoint.name();
                    let said = format!("{place} refused (400): {}", http::words(&said));
                    return Err(sign_in(&said, &self.remedy()));
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
        match credentials.is_none() {
            true => format!(
                "it wants to know who you are: say how under [networks.{network}.auth] in the \
                 config file, then run walgit-fs login --network {network}"
            ),
            false => format!("sign in again with walgit-fs login --network {network}"),
        }
    }
}

/// Whether uploads bypass any proxy: plaintext requests to this machine must not pass
/// through a third-party proxy.
pub(super) fn past_proxies(publishers: &[Endpoint]) -> bool {
    publishers.iter().any(|it| is_loopback(it.url()))
}

fn sign_in(said: &str, remedy: &str) -> Failed {
    let error = StoreError::SignIn(format!("{said}; {remedy}"));
    Failed::new(FailureKind::Refused, error)
}

fn no_proof(endpoint: &Endpoint, error: &AuthError) -> Failed {
    match error.heals() {
        true => {
            let place = endpoint.name().to_owned();
            let why = format!("no token for it: {error}");
            let error = StoreError::Unavailable { place, why };
            Failed::new(FailureKind::Connect, error)
        }
        false => {
            let error = StoreError::SignIn(error.to_string());
            Failed::new(FailureKind::Refused, error)
        }
    }
}
