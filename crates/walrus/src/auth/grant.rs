//! What an issuer gave us.

use std::time::Duration;

use oauth2::TokenResponse as _;
use oauth2::basic::BasicTokenResponse;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::secret::{exposed, exposed_option};
use crate::clock::unix_seconds;

/// Tokens of an issuer, and what is needed to renew them and to give them back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Who gave them.
    pub issuer: String,
    /// To whom: what we are called there.
    pub client_id: String,
    /// Who signed in, where the issuer tells.
    pub who: Option<String>,
    /// Where they are renewed.
    pub token_endpoint: String,
    /// Where they are given back.
    pub revocation_endpoint: Option<String>,
    /// When the access token ends, in seconds since 1970; `None` where the
    /// issuer did not tell.
    pub expires: Option<u64>,
    /// How long it was good for when it was given, in seconds.
    pub lifetime_s: Option<u64>,
    /// The access token.
    #[serde(with = "exposed")]
    pub access: Secret,
    /// What brings the next one.
    #[serde(with = "exposed_option")]
    pub refresh: Option<Secret>,
}

impl Grant {
    /// Takes what an issuer answered in place of what is here. An issuer that
    /// sends no refresh token means that the old one stays good.
    pub fn take(&mut self, answer: &BasicTokenResponse) {
        self.lifetime_s = answer.expires_in().map(|lifetime| lifetime.as_secs());
        self.expires = self
            .lifetime_s
            .map(|lifetime| unix_seconds().saturating_add(lifetime));
        self.access = Secret::new(answer.access_token().secret().clone());
        if let Some(refresh) = answer.refresh_token() {
            self.refresh = Some(Secret::new(refresh.secret().clone()));
        }
    }

    /// Whether the access token has not ended.
    pub fn is_valid(&self) -> bool {
        self.expires.is_none_or(|end| unix_seconds() < end)
    }

    /// Whether the access token will be good for longer than `margin`; of a
    /// short-lived one, half of its life has to be left.
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
            who: None,
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
