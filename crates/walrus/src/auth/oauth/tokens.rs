//! Requests for tokens: issue, renewal and revocation.

use oauth2::basic::{BasicTokenResponse, BasicTokenType};
use oauth2::{ClientId, RefreshToken, TokenResponse as _, TokenUrl};
use reqwest::Url;

use super::issuer::Issuer;
use super::issuer_client::{IssuerClient, endpoint, failed};
use crate::auth::{AuthError, Grant, Secret};

/// Longest token, in bytes: what servers accept in a header.
const MAX_TOKEN_BYTES: usize = 16 << 10;

pub(super) type Client = oauth2::basic::BasicClient;

pub(super) fn client(id: &str) -> Client {
    Client::new(ClientId::new(id.into()))
}

/// Exchanges the refresh token of the grant for new tokens.
///
/// # Errors
/// [`AuthError::Over`] if the issuer permanently refuses the renewal,
/// [`AuthError::Unreachable`] if a retry may succeed.
pub async fn renew(network: &str, grant: &Grant) -> Result<Grant, AuthError> {
    let over = |why: String| AuthError::Over {
        network: network.into(),
        why,
    };
    let Some(refresh) = &grant.refresh else {
        return Err(over("the issuer gave no refresh token".into()));
    };
    let url = endpoint(&grant.token_endpoint)?;
    let http = IssuerClient::to(&url)?;
    let client = client(&grant.client_id).set_token_uri(TokenUrl::from_url(url.clone()));
    let refresh = RefreshToken::new(refresh.expose().into());
    let answer = client
        .exchange_refresh_token(&refresh)
        .request_async(&http)
        .await
        .map_err(|error| match failed(&url, error) {
            AuthError::Denied { why, .. } => over(why),
            other => other,
        })?;
    check_tokens(&url, &answer)?;
    let mut renewed = grant.clone();
    renewed.update(&answer);
    Ok(renewed)
}

/// Revokes the tokens; returns whether the issuer supports it.
pub async fn revoke(grant: &Grant) -> Result<bool, AuthError> {
    let Some(url) = &grant.revocation_endpoint else {
        return Ok(false);
    };
    let url = endpoint(url)?;
    let http = IssuerClient::to(&url)?;
    let refresh = grant.refresh.as_ref().map(|token| ("refresh_token", token));
    for (hint, token) in refresh.into_iter().chain([("access_token", &grant.access)]) {
        let form = [
            ("token", token.expose()),
            ("token_type_hint", hint),
            ("client_id", &grant.client_id),
        ];
        // Not with the crate, which does not revoke without TLS at an issuer on this
        // machine.
        http.post(&url, &form).await?;
    }
    Ok(true)
}

/// Rejects tokens that could not be sent, because the publisher could not report the
/// reason.
fn check_tokens(url: &Url, answer: &BasicTokenResponse) -> Result<(), AuthError> {
    let bad = |why: &str| AuthError::issuer(url, why);
    if *answer.token_type() != BasicTokenType::Bearer {
        return Err(bad("its tokens are not bearer tokens"));
    }
    let tokens = [
        Some(answer.access_token().secret()),
        answer.refresh_token().map(|token| token.secret()),
    ];
    for token in tokens.into_iter().flatten() {
        // RFC 6749, appendix A: visible ASCII.
        if token.is_empty() || !token.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(bad("a token is empty or has invalid characters"));
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(bad("a token is too long to be sent"));
        }
    }
    Ok(())
}

/// Creates the grant from the first answer of an issuer.
pub(super) async fn grant(
    issuer: &Issuer,
    answer: &BasicTokenResponse,
) -> Result<Grant, AuthError> {
    check_tokens(&issuer.token_endpoint()?, answer)?;
    let mut grant = Grant {
        issuer: issuer.name().into(),
        client_id: issuer.client_id().into(),
        user: None,
        token_endpoint: issuer.token_endpoint()?.to_string(),
        revocation_endpoint: issuer.revocation_endpoint()?.map(|url| url.to_string()),
        expires: None,
        lifetime_s: None,
        access: Secret::new(String::new()),
        refresh: None,
    };
    grant.update(answer);
    grant.user = issuer.user(&grant.access).await;
    Ok(grant)
}
