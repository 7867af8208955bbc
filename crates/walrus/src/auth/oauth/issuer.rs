//! OAuth issuer and its endpoints.

use reqwest::Url;
use serde::Deserialize;

use super::issuer_client::{IssuerClient, endpoint};
use crate::auth::{AuthError, Secret};
use crate::net::http;
use crate::network::OauthProfile;

/// An issuer with known endpoints.
#[derive(Clone, Debug)]
pub struct Issuer {
    profile: OauthProfile,
    /// Its discovery document, with the endpoints of the profile.
    document: Document,
}

/// Discovery document of an issuer (RFC 8414, OpenID Connect Discovery), as far as used.
#[derive(Clone, Debug, Default, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
}

/// User information of an issuer (OpenID Connect), as far as used.
#[derive(Debug, Deserialize)]
struct UserInfo {
    sub: Option<String>,
    email: Option<String>,
    preferred_username: Option<String>,
}

impl Issuer {
    /// Returns the issuer of a profile. Values of the profile take precedence over its
    /// discovery document, which is fetched only if the profile has no token endpoint.
    pub async fn discover(profile: &OauthProfile) -> Result<Self, AuthError> {
        let url = endpoint(&profile.issuer)?;
        let mut document = match profile.token_endpoint {
            Some(_) => Document::default(),
            None => {
                let issuer_client = IssuerClient::to(&url)?;
                let mut found = None;
                for document_url in document_urls(&url) {
                    if found.is_none() {
                        found = issuer_client.get::<Document>(&document_url, None).await?;
                    }
                }
                found.ok_or_else(|| {
                    let why = "it offers no discovery document; name its endpoints in the profile";
                    AuthError::issuer(&url, why)
                })?
            }
        };
        // Otherwise a foreign document could divert our tokens.
        let named = document.issuer.trim_end_matches('/');
        if profile.token_endpoint.is_none() && named != profile.issuer.trim_end_matches('/') {
            return Err(AuthError::issuer(
                &url,
                "its discovery document names another issuer",
            ));
        }
        if let Some(methods) = &document.code_challenge_methods_supported
            && !methods.iter().any(|method| method == "S256")
        {
            return Err(AuthError::issuer(
                &url,
                "it does not support PKCE with S256",
            ));
        }
        for (configured, found) in [
            (
                &profile.authorization_endpoint,
                &mut document.authorization_endpoint,
            ),
            (&profile.token_endpoint, &mut document.token_endpoint),
            (
                &profile.device_authorization_endpoint,
                &mut document.device_authorization_endpoint,
            ),
            (
                &profile.revocation_endpoint,
                &mut document.revocation_endpoint,
            ),
        ] {
            if configured.is_some() {
                found.clone_from(configured);
            }
        }
        Ok(Issuer {
            profile: profile.clone(),
            document,
        })
    }

    /// Name of the issuer: the URL in the profile.
    pub fn name(&self) -> &str {
        &self.profile.issuer
    }

    /// Our client ID at the issuer.
    pub fn client_id(&self) -> &str {
        &self.profile.client_id
    }

    /// Scopes to request.
    pub(super) fn scopes(&self) -> impl Iterator<Item = oauth2::Scope> + '_ {
        let scopes = self.profile.scopes.iter();
        scopes.map(|scope| oauth2::Scope::new(scope.clone()))
    }

    /// Whether the issuer supports a sign-in without a browser on this machine.
    pub fn offers_device_flow(&self) -> bool {
        self.document.device_authorization_endpoint.is_some()
    }

    pub(super) fn authorization_endpoint(&self) -> Result<Url, AuthError> {
        self.required(
            "authorization_endpoint",
            &self.document.authorization_endpoint,
        )
    }

    pub(super) fn token_endpoint(&self) -> Result<Url, AuthError> {
        self.required("token_endpoint", &self.document.token_endpoint)
    }

    pub(super) fn device_authorization_endpoint(&self) -> Result<Url, AuthError> {
        let url = &self.document.device_authorization_endpoint;
        self.required("device_authorization_endpoint", url)
    }

    pub(super) fn revocation_endpoint(&self) -> Result<Option<Url>, AuthError> {
        let url = self.document.revocation_endpoint.as_deref();
        url.map(endpoint).transpose()
    }

    fn required(&self, name: &str, url: &Option<String>) -> Result<Url, AuthError> {
        let why = || AuthError::issuer(&self.profile.issuer, format!("it names no {name}"));
        endpoint(url.as_deref().ok_or_else(why)?)
    }

    /// Returns the display name of the signed-in user, if the issuer provides it;
    /// failures are ignored.
    pub(super) async fn user(&self, token: &Secret) -> Option<String> {
        let url = endpoint(self.document.userinfo_endpoint.as_ref()?).ok()?;
        let issuer_client = IssuerClient::to(&url).ok()?;
        let asked = issuer_client
            .get::<UserInfo>(&url, Some(token.expose()))
            .await;
        let user_info = asked.ok()??;
        let name = user_info
            .preferred_username
            .or(user_info.email)
            .or(user_info.sub)?;
        Some(http::words(&name))
    }
}

/// URLs of the discovery document: of OAuth, and of OpenID Connect.
fn document_urls(issuer: &Url) -> [Url; 2] {
    let path = issuer.path().trim_end_matches('/').to_owned();
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url.set_query(None);
        url
    };
    [
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("{path}/.well-known/openid-configuration")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_uses_the_urls_of_the_standards() {
        let document_urls = document_urls(&Url::parse("https://id.example/tenant/").unwrap());
        assert_eq!(
            document_urls.map(|url| url.to_string()),
            [
                "https://id.example/.well-known/oauth-authorization-server/tenant",
                "https://id.example/tenant/.well-known/openid-configuration",
            ]
        );
    }
}
