//! Credentials of a request.

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Url};
use zeroize::Zeroizing;

use super::signin::{SignInSecret, SignIns};
use super::upload::UploadTokens;
use super::{AuthError, Origin, Secret, Session, Upload, is_private};
use crate::network::{AuthMethod, Network};

/// Credentials for the publishers of a network.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    network: String,
    origins: Vec<Origin>,
    method: CredentialKind,
}

#[derive(Clone, Debug, Default)]
enum CredentialKind {
    #[default]
    None,
    ApiKey(HeaderName, Secret),
    Jwt(UploadTokens),
    Oauth(Session),
}

impl Credentials {
    /// Loads the credentials from the user's sign-in to a network; empty if the network
    /// requires none.
    ///
    /// # Errors
    /// [`AuthError::NotSignedIn`] if the network requires a sign-in and there is none.
    pub fn load(sign_ins: &SignIns, network: &Network) -> Result<Self, AuthError> {
        let name = network.name.clone();
        if network.auth == AuthMethod::None {
            return Ok(Credentials {
                network: name,
                ..Credentials::default()
            });
        }
        let Some((stored, _)) = sign_ins.get(&name)? else {
            return Err(AuthError::NotSignedIn(name));
        };
        let method = match (&network.auth, stored.secret) {
            (AuthMethod::ApiKey { header }, SignInSecret::ApiKey { key }) => {
                let header = header.parse().map_err(|_| AuthError::Header {
                    what: "the name of the API key's header",
                })?;
                CredentialKind::ApiKey(header, key)
            }
            (AuthMethod::Jwt(profile), SignInSecret::Jwt { key }) => {
                CredentialKind::Jwt(UploadTokens::new(&key, profile)?)
            }
            (AuthMethod::Oauth(profile), SignInSecret::Oauth(grant)) => {
                CredentialKind::Oauth(Session::new(sign_ins.clone(), &name, profile, grant)?)
            }
            (configured, secret) => {
                return Err(AuthError::OtherMethod {
                    network: name,
                    stored: secret.method(),
                    configured: configured.name(),
                });
            }
        };
        Ok(Credentials {
            network: name,
            origins: stored.origins,
            method,
        })
    }

    /// Network of the credentials.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// Whether there are no credentials.
    pub fn is_none(&self) -> bool {
        matches!(self.method, CredentialKind::None)
    }

    /// Creates the credentials of this upload to the publisher at `url`.
    pub async fn for_upload(
        &self,
        url: &Url,
        upload: &Upload,
    ) -> Result<RequestCredentials, AuthError> {
        if self.is_none() {
            return Ok(RequestCredentials::default());
        }
        let origin = Origin::of(url);
        if !is_private(url) {
            return Err(AuthError::Unencrypted(origin));
        }
        if !self.origins.contains(&origin) {
            let belongs: Vec<String> = self.origins.iter().map(Origin::to_string).collect();
            return Err(AuthError::OtherOrigin {
                network: self.network.clone(),
                origin,
                belongs: belongs.join(", "),
            });
        }
        match &self.method {
            CredentialKind::None => Ok(RequestCredentials::default()),
            CredentialKind::ApiKey(name, key) => {
                let value = header_value(key.expose(), "the API key")?;
                Ok(RequestCredentials::of(name.clone(), value))
            }
            CredentialKind::Jwt(tokens) => {
                let mut proof = RequestCredentials::bearer(&tokens.mint(upload)?)?;
                let owner = tokens.send_object_to();
                proof.query = owner.map(|owner| ("send_object_to", owner.to_owned()));
                Ok(proof)
            }
            CredentialKind::Oauth(session) => {
                let token = session.token().await?;
                let mut proof = RequestCredentials::bearer(&token)?;
                proof.token = Some(token);
                Ok(proof)
            }
        }
    }

    /// Whether to retry with new credentials after a publisher rejected `proof`.
    pub fn renew(&self, proof: &RequestCredentials) -> bool {
        match (&self.method, &proof.token) {
            (CredentialKind::Oauth(session), Some(token)) => {
                session.refused(token);
                true
            }
            _ => false,
        }
    }
}

/// Credentials of one request.
#[derive(Debug, Default)]
pub struct RequestCredentials {
    header: Option<(HeaderName, HeaderValue)>,
    query: Option<(&'static str, String)>,
    /// Access token, if the credentials contain one.
    token: Option<Secret>,
}

impl RequestCredentials {
    fn of(name: HeaderName, value: HeaderValue) -> Self {
        RequestCredentials {
            header: Some((name, value)),
            ..RequestCredentials::default()
        }
    }

    fn bearer(token: &Secret) -> Result<Self, AuthError> {
        let text = Zeroizing::new(format!("Bearer {}", token.expose()));
        Ok(RequestCredentials::of(
            AUTHORIZATION,
            header_value(&text, "the token")?,
        ))
    }

    /// Adds the credentials to a request.
    pub fn attach(&self, mut request: RequestBuilder) -> RequestBuilder {
        if let Some((name, value)) = &self.header {
            request = request.header(name, value);
        }
        if let Some(pair) = &self.query {
            request = request.query(&[pair]);
        }
        request
    }
}

/// Creates a header value that HTTP libraries neither log nor index.
fn header_value(text: &str, what: &'static str) -> Result<HeaderValue, AuthError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| AuthError::Header { what })?;
    value.set_sensitive(true);
    Ok(value)
}
