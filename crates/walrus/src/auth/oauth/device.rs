//! Sign-in without a browser on this machine: the user types a code on another device,
//! while we poll the issuer.

use std::time::Duration;

use oauth2::{DeviceAuthorizationUrl, StandardDeviceAuthorizationResponse, TokenUrl};

use super::issuer::Issuer;
use super::issuer_client::{IssuerClient, endpoint, failed};
use super::tokens::{client, grant};
use crate::auth::{AuthError, Grant};

/// Upper limit of the wait for the user, whatever the issuer says.
const MAX_SIGN_IN_TIME: Duration = Duration::from_secs(30 * 60);
/// Shortest and longest polling interval, whatever the issuer says.
const POLL_INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// A sign-in that waits for the user to type a code on another device.
pub struct DeviceFlow {
    issuer: Issuer,
    details: StandardDeviceAuthorizationResponse,
}

/// Instructions for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// URL to visit.
    pub url: String,
    /// Code to type there.
    pub code: String,
    /// URL with the code already filled in.
    pub complete_url: Option<String>,
    /// Time limit.
    pub time_limit: Duration,
}

impl DeviceFlow {
    /// Begins a sign-in.
    pub async fn begin(issuer: Issuer) -> Result<Self, AuthError> {
        let url = issuer.device_authorization_endpoint()?;
        let http = IssuerClient::to(&url)?;
        let details = client(issuer.client_id())
            .set_device_authorization_url(DeviceAuthorizationUrl::from_url(url.clone()))
            .exchange_device_code()
            .add_scopes(issuer.scopes())
            .request_async(&http)
            .await
            .map_err(|error| failed(&url, error))?;
        // The user visits this URL.
        endpoint(details.verification_uri())?;
        if let Some(complete) = details.verification_uri_complete() {
            endpoint(complete.secret())?;
        }
        if details.interval() > MAX_SIGN_IN_TIME {
            let seconds = details.interval().as_secs();
            let why = format!("its polling interval of {seconds} s is too long to sign in");
            return Err(AuthError::issuer(&url, why));
        }
        Ok(DeviceFlow { issuer, details })
    }

    /// Returns the instructions for the user.
    pub fn verification(&self) -> Verification {
        let complete = self.details.verification_uri_complete();
        Verification {
            url: self.details.verification_uri().to_string(),
            code: self.details.user_code().secret().clone(),
            complete_url: complete.map(|url| url.secret().clone()),
            time_limit: self.details.expires_in().min(MAX_SIGN_IN_TIME),
        }
    }

    /// Waits until the user has signed in.
    ///
    /// # Errors
    /// [`AuthError::Denied`] if the user denies the sign-in or does not complete it in
    /// time.
    pub async fn wait(self) -> Result<Grant, AuthError> {
        let url = self.issuer.token_endpoint()?;
        let http = IssuerClient::to(&url)?;
        let time_limit = self.verification().time_limit;
        let [min, max] = POLL_INTERVALS;
        let sleep = |interval: Duration| tokio::time::sleep(interval.clamp(min, max));
        let client = client(self.issuer.client_id())
            .set_token_uri(TokenUrl::from_url(url.clone()))
            .set_device_authorization_url(DeviceAuthorizationUrl::from_url(
                self.issuer.device_authorization_endpoint()?,
            ));
        let polling = client
            .exchange_device_access_token(&self.details)
            .request_async(&http, sleep, Some(time_limit));
        // The last pause also ends with the user's time limit.
        let answer = match tokio::time::timeout(time_limit + min, polling).await {
            Ok(answer) => answer.map_err(|error| failed(&url, error))?,
            Err(_) => {
                return Err(match http.last_failure() {
                    Some(why) => AuthError::unreachable(&url, why),
                    None => AuthError::TimedOut(time_limit.as_secs()),
                });
            }
        };
        grant(&self.issuer, &answer).await
    }
}
