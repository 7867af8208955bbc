//! Signing in without a browser on this machine: the user types a code on
//! another device, and we ask the issuer now and then whether that has happened.

use std::time::Duration;

use oauth2::{DeviceAuthorizationUrl, StandardDeviceAuthorizationResponse, TokenUrl};

use super::wire::{Wire, failed};
use super::{Issuer, client, grant};
use crate::auth::{AuthError, Grant};
use crate::net::http;

/// A sign-in that waits for the user to type a code elsewhere.
pub struct DeviceFlow {
    issuer: Issuer,
    details: StandardDeviceAuthorizationResponse,
}

/// What the user has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Where to go.
    pub url: String,
    /// What to type there.
    pub code: String,
    /// Where the code is filled in already.
    pub complete_url: Option<String>,
    /// For how long.
    pub patience: Duration,
}

impl DeviceFlow {
    /// Begins one.
    ///
    /// # Errors
    /// When the issuer offers none, or refuses.
    pub async fn begin(issuer: Issuer) -> Result<Self, AuthError> {
        let url = issuer.device_authorization_endpoint()?;
        let wire = Wire::to(&url)?;
        let details = client(issuer.client_id())
            .set_device_authorization_url(DeviceAuthorizationUrl::from_url(url.clone()))
            .exchange_device_code()
            .add_scopes(issuer.scopes())
            .request_async(&wire)
            .await
            .map_err(|error| failed(&url, error))?;
        Ok(DeviceFlow { issuer, details })
    }

    /// What the user has to do.
    pub fn verification(&self) -> Verification {
        // It ends on the user's terminal.
        let complete = self.details.verification_uri_complete();
        Verification {
            url: http::words(self.details.verification_uri()),
            code: http::words(self.details.user_code().secret()),
            complete_url: complete.map(|url| http::words(url.secret())),
            patience: self.details.expires_in(),
        }
    }

    /// Waits until the user has done it.
    ///
    /// # Errors
    /// [`AuthError::Denied`] when the user says no, or nothing for too long.
    pub async fn wait(self) -> Result<Grant, AuthError> {
        let url = self.issuer.token_endpoint()?;
        let wire = Wire::to(&url)?;
        let answer = client(self.issuer.client_id())
            .set_token_uri(TokenUrl::from_url(url.clone()))
            .set_device_authorization_url(DeviceAuthorizationUrl::from_url(
                self.issuer.device_authorization_endpoint()?,
            ))
            .exchange_device_access_token(&self.details)
            .request_async(&wire, tokio::time::sleep, None)
            .await
            .map_err(|error| failed(&url, error))?;
        grant(&self.issuer, &answer).await
    }
}
