//! OAuth sign-in with automatic renewal.
//!
//! An access token is renewed five minutes before it expires, as a single flight across
//! tasks and processes: an issuer that rotates refresh tokens treats a second use of one
//! as theft, and ends the sign-in. A renewal therefore holds a lock file, first checks
//! whether another process has renewed concurrently, and stores the new tokens before it
//! uses them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::signin::{SignIn, SignInSecret, SignIns};
use super::{AuthError, Grant, Secret, oauth};
use crate::network::{DEFAULT_REFRESH_BEFORE_S, OauthProfile};

/// An OAuth sign-in, shared by all its users.
#[derive(Clone, Debug)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sign_ins: SignIns,
    network: String,
    margin: Duration,
    state: Mutex<GrantState>,
}

#[derive(Debug)]
struct GrantState {
    grant: Grant,
    /// Whether a publisher rejected the access token.
    refused: bool,
    /// Renewal in progress.
    renewal: Option<RenewalFuture>,
    /// Set when the issuer refuses further renewals.
    ended: Option<Arc<AuthError>>,
}

type RenewalFuture = Shared<BoxFuture<'static, Result<Secret, Arc<AuthError>>>>;

impl GrantState {
    fn is_fresh(&self, margin: Duration) -> bool {
        !self.refused && self.grant.is_fresh(margin)
    }

    /// Whether the access token may still be accepted, although it is due for renewal.
    fn is_usable(&self) -> bool {
        !self.refused && self.grant.is_valid()
    }
}

impl Session {
    /// Creates the session for the sign-in to `network` with the tokens `grant`.
    ///
    /// # Errors
    /// [`AuthError::OtherMethod`] if the profile now names a different issuer.
    pub fn new(
        sign_ins: SignIns,
        network: &str,
        profile: &OauthProfile,
        grant: Grant,
    ) -> Result<Self, AuthError> {
        if grant.issuer != profile.issuer || grant.client_id != profile.client_id {
            return Err(AuthError::OtherMethod {
                network: network.into(),
                stored: "oauth with another issuer or client",
                configured: "oauth with this one",
            });
        }
        let margin = profile.refresh_before_s.unwrap_or(DEFAULT_REFRESH_BEFORE_S);
        Ok(Session(Arc::new(Inner {
            sign_ins,
            network: network.into(),
            margin: Duration::from_secs(margin),
            state: Mutex::new(GrantState {
                grant,
                refused: false,
                renewal: None,
                ended: None,
            }),
        })))
    }

    /// Returns an access token, renewed if necessary. If the renewal fails, returns the
    /// old one while it is valid.
    ///
    /// # Errors
    /// [`AuthError::Renewal`] if there is no valid token.
    pub async fn token(&self) -> Result<Secret, AuthError> {
        let renewal = {
            let mut state = self.0.state.lock();
            if state.is_fresh(self.0.margin) || (state.ended.is_some() && state.is_usable()) {
                return Ok(state.grant.access.clone());
            }
            if let Some(ended) = &state.ended {
                return Err(AuthError::Renewal(ended.clone()));
            }
            let inner = &self.0;
            state
                .renewal
                .get_or_insert_with(|| inner.start_renewal())
                .clone()
        };
        let renewed = renewal.await;
        renewed.or_else(|error| {
            let state = self.0.state.lock();
            if state.is_usable() {
                return Ok(state.grant.access.clone());
            }
            Err(AuthError::Renewal(error))
        })
    }

    /// Records that a publisher rejected this access token: the next call to
    /// [`Session::token`] renews it.
    pub fn refused(&self, token: &Secret) {
        let mut state = self.0.state.lock();
        state.refused |= state.grant.access == *token;
    }
}

impl Inner {
    /// Renews in a separate task, which continues if all callers give up, because the
    /// issuer may already have replaced the token.
    fn start_renewal(self: &Arc<Self>) -> RenewalFuture {
        let inner = self.clone();
        let task = tokio::spawn(async move {
            let renewed = inner.renew().await.map_err(Arc::new);
            let mut state = inner.state.lock();
            state.renewal = None;
            match renewed {
                Ok(grant) => {
                    state.grant = grant;
                    state.refused = false;
                    Ok(state.grant.access.clone())
                }
                Err(error) => {
                    if !error.may_heal() {
                        state.ended = Some(error.clone());
                    }
                    Err(error)
                }
            }
        });
        let lost = |error| Err(Arc::new(AuthError::io("cannot renew the sign-in", error)));
        task.map(move |done| done.unwrap_or_else(lost))
            .boxed()
            .shared()
    }

    async fn renew(&self) -> Result<Grant, AuthError> {
        let (before, refused) = {
            let state = self.state.lock();
            (state.grant.access.clone(), state.refused)
        };
        // Held during the exchange: a concurrent renewal by another process would end
        // the sign-in.
        let lock = self.blocking(SignIns::lock).await?;
        let stored = self.blocking(SignIns::get).await?.map(|(stored, _)| stored);
        let Some(SignIn {
            origins,
            secret: SignInSecret::Oauth(grant),
            ..
        }) = stored
        else {
            return Err(AuthError::NotSignedIn(self.network.clone()));
        };
        // Another process has already renewed it.
        if grant.access != before && grant.is_fresh(self.margin) {
            return Ok(grant);
        }
        tracing::debug!(network = self.network, refused, "renewing the sign-in");
        let renewed = oauth::renew(&self.network, &grant).await?;
        let record = SignIn::new(origins, SignInSecret::Oauth(renewed.clone()));
        let put = self.blocking(move |sign_ins, network| sign_ins.put(network, &record));
        if let Err(error) = put.await {
            // The old token is used up: this process can continue, no other can.
            tracing::warn!("cannot store the renewed sign-in, so sign in again later: {error}");
        }
        drop(lock);
        Ok(renewed)
    }

    /// Runs work that may block on a disk, or on a keyring prompt.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SignIns, &str) -> Result<T, AuthError> + Send + 'static,
    ) -> Result<T, AuthError> {
        let (sign_ins, network) = (self.sign_ins.clone(), self.network.clone());
        let done = tokio::task::spawn_blocking(move || work(&sign_ins, &network)).await;
        done.map_err(|error| AuthError::io("cannot access the sign-in", error))?
    }
}
