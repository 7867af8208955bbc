//! Tokens of an OAuth sign-in.

use std::time::Duration;

use oauth2::TokenResponse as _;
use oauth2::basic::BasicTokenResponse;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::secret::{exposed, exposed_option};
use crate::clock::unix_seconds;

/// Tokens of an issuer, with the data required to renew and revoke them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Issuer of the tokens.
    pub issuer: String,
    /// Our client ID at the issuer.
    pub client_id: String,
    /// Name of the user, if the issuer provides it.
    #[serde(rename = "who")]
    pub user: Option<String>,
    /// URL to renew the tokens.
    pub token_endpoint: String,
    /// URL to revoke the tokens.
    pub revocation_endpoint: Option<String>,
    /// Expiry of the access token in seconds since 1970; `None` if unknown.
    pub expires: Option<u64>,
    /// Total lifetime of the access token, in seconds.
    pub lifetime_s: Option<u64>,
    /// Access token.
    #[serde(with = "exposed")]
    pub access: Secret,
    /// Refresh token.
    #[serde(with = "exposed_option")]
    pub refresh: Option<Secret>,
}

impl Grant {
    /// Replaces the tokens with those of an issuer's answer. If the answer has no
    /// refresh token, the old one remains valid.
    pub fn update(&mut self, answer: &BasicTokenResponse) {
        self.lifetime_s = answer.expires_in().map(|lifetime| lifetime.as_secs());
        self.expires = self
            .lifetime_s
            .map(|lifetime| unix_seconds().saturating_add(lifetime));
        self.access = Secret::new(answer.access_token().secret().clone());
        if let Some(refresh) = answer.refresh_token() {
            self.refresh = Some(Secret::new(refresh.secret().clone()));
        }
    }

    /// Whether the access token has not expired.
    pub fn is_valid(&self) -> bool {
        self.expires.is_none_or(|end| unix_seconds() < end)
    }

    /// Whether the access token remains valid for longer than `margin`, or, if it is
    /// short-lived, for at least half of its lifetime.
    pub fn is_fresh(&self, margin: Duration) -> bool {
        let half = self.lifetime_s.unwrap_or(u64::MAX) / 2;
        let margin = margin.as_secs().min(half);
        self.expires
            .is_none_or(|end| unix_seconds().saturating_add(margin) < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_five_minutes_before_its_end_or_at_half_of_its_life() {
        let grant = |lifetime_s, left| Grant {
            issuer: String::new(),
            client_id: String::new(),
            user: None,
            token_endpoint: String::new(),
            revocation_endpoint: None,
            expires: Some(unix_seconds() + left),
            lifetime_s: Some(lifetime_s),
            access: Secret::new(String::new()),
            refresh: None,
        };
        let margin = Duration::from_secs(300);
        assert!(grant(3600, 330).is_fresh(margin));
        assert!(!grant(3600, 290).is_fresh(margin) && grant(3600, 290).is_valid());
        assert!(grant(100, 80).is_fresh(margin));
        assert!(!grant(100, 40).is_fresh(margin));
        assert!(!grant(100, 0).is_valid());
    }
}
