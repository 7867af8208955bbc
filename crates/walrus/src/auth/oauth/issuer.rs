//! OAuth issuer and its endpoints.

use reqwest::Url;
use serde::Deserialize;

use super::wire::{Wire, endpoint};
use crate::auth::{AuthError, Secret};
use crate::net::http;
use crate::network::OauthProfile;

/// An issuer with known endpoints.
#[derive(Clone, Debug)]
pub struct Issuer {
    profile: OauthProfile,
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
    ///
    /// # Errors
    /// If the document cannot be fetched or names another issuer, or a URL is neither
    /// https nor on this machine.
    pub async fn discover(profile: &OauthProfile) -> Result<Self, AuthError> {
        let url = endpoint(&profile.issuer)?;
        let document = match profile.token_endpoint {
            Some(_) => Document::default(),
            None => {
                let wire = Wire::to(&url)?;
                let mut found = None;
                for place in places(&url) {
                    if found.is_none() {
                        found = wire.get::<Document>(&place, None).await?;
                    }
                }
                found.ok_or_else(|| {
                    bad(
                        &url,
                        "it offers no discovery document; name its endpoints in the profile",
                    )
                })?
            }
        };
        // Otherwise a foreign document could divert our tokens.
        let named = document.issuer.trim_end_matches('/');
        if profile.token_endpoint.is_none() && named != profile.issuer.trim_end_matches('/') {
            return Err(bad(&url, "its discovery document names another issuer"));
        }
        if let Some(methods) = &document.code_challenge_methods_supported
            && !methods.iter().any(|method| method == "S256")
        {
            return Err(bad(&url, "it does not know PKCE with S256"));
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
        self.profile.device_authorization_endpoint.is_some()
            || self.document.device_authorization_endpoint.is_some()
    }

    pub(super) fn authorization_endpoint(&self) -> Result<Url, AuthError> {
        let said = [
            &self.profile.authorization_endpoint,
            &self.document.authorization_endpoint,
        ];
        self.needed(said, "where to sign in")
    }

    pub(super) fn token_endpoint(&self) -> Result<Url, AuthError> {
        let said = [&self.profile.token_endpoint, &self.document.token_endpoint];
        self.needed(said, "where tokens come from")
    }

    pub(super) fn device_authorization_endpoint(&self) -> Result<Url, AuthError> {
        let said = [
            &self.profile.device_authorization_endpoint,
            &self.document.device_authorization_endpoint,
        ];
        self.needed(said, "where to sign in without a browser")
    }

    pub(super) fn revocation_endpoint(&self) -> Result<Option<Url>, AuthError> {
        let said = [
            &self.profile.revocation_endpoint,
            &self.document.revocation_endpoint,
        ];
        let first = said.into_iter().flatten().next();
        first.map(|url| endpoint(url)).transpose()
    }

    fn needed(&self, said: [&Option<String>; 2], what: &str) -> Result<Url, AuthError> {
        match said.into_iter().flatten().next() {
            Some(url) => endpoint(url),
            None => Err(AuthError::Issuer {
                url: self.profile.issuer.clone(),
                why: format!("it does not tell {what}"),
            }),
        }
    }

    /// Returns the display name of the signed-in user, if the issuer provides it;
    /// failures are ignored.
    pub(super) async fn who(&self, token: &Secret) -> Option<String> {
        let url = endpoint(self.document.userinfo_endpoint.as_ref()?).ok()?;
        let wire = Wire::to(&url).ok()?;
        let asked = wire.get::<UserInfo>(&url, Some(token.expose())).await;
        let said = asked.ok()??;
        let name = said.preferred_username.or(said.email).or(said.sub)?;
        Some(http::words(&name))
    }
}

/// URLs of the discovery document: of OAuth, and of OpenID Connect.
fn places(issuer: &Url) -> [Url; 2] {
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

fn bad(url: &Url, why: &str) -> AuthError {
    AuthError::Issuer {
        url: url.to_string(),
        why: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_looked_for_where_the_standards_say() {
        let places = places(&Url::parse("https://id.example/tenant/").unwrap());
        assert_eq!(
            places.map(|url| url.to_string()),
            [
                "https://id.example/.well-known/oauth-authorization-server/tenant",
                "https://id.example/tenant/.well-known/openid-configuration",
            ]
        );
    }
}
