//! OAuth sign-in with automatic renewal.
//!
//! An access token is renewed five minutes before it expires, in a single flight across
//! tasks and processes: an issuer that rotates refresh tokens treats a second use of one
//! as theft, and ends the sign-in. A renewal therefore holds a lock file, first checks
//! whether another process has renewed meanwhile, and stores the new tokens before it
//! uses them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::signin::{Held, SignIn, SignIns};
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
    state: Mutex<State>,
}

struct State {
    grant: Grant,
    /// Whether a publisher rejected the access token.
    refused: bool,
    /// Renewal in progress.
    flight: Option<Flight>,
    /// Set when the issuer refuses further renewals.
    over: Option<Arc<AuthError>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

type Flight = Shared<BoxFuture<'static, Result<Secret, Arc<AuthError>>>>;

impl State {
    fn is_fresh(&self, margin: Duration) -> bool {
        !self.refused && self.grant.is_fresh(margin)
    }

    /// Whether the access token may still be accepted, although it is due for renewal.
    fn will_do(&self) -> bool {
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
                kept: "oauth with another issuer or client",
                wanted: "oauth with this one",
            });
        }
        let margin = profile.refresh_before_s.unwrap_or(DEFAULT_REFRESH_BEFORE_S);
        Ok(Session(Arc::new(Inner {
            sign_ins,
            network: network.into(),
            margin: Duration::from_secs(margin),
            state: Mutex::new(State {
                grant,
                refused: false,
                flight: None,
                over: None,
            }),
        })))
    }

    /// Returns an access token, renewed if necessary. If the renewal fails, returns the
    /// old one while it is valid.
    ///
    /// # Errors
    /// [`AuthError::Renewal`] if there is no valid token.
    pub async fn token(&self) -> Result<Secret, AuthError> {
        let flight = {
            let mut state = self.0.state();
            if state.is_fresh(self.0.margin) || (state.over.is_some() && state.will_do()) {
                return Ok(state.grant.access.clone());
            }
            if let Some(over) = &state.over {
                return Err(AuthError::Renewal(over.clone()));
            }
            let inner = &self.0;
            state.flight.get_or_insert_with(|| inner.renewal()).clone()
        };
        let renewed = flight.await;
        renewed.or_else(|error| {
            let state = self.0.state();
            match state.will_do() {
                true => Ok(state.grant.access.clone()),
                false => Err(AuthError::Renewal(error)),
            }
        })
    }

    /// Records that a publisher rejected this access token: the next call to
    /// [`Session::token`] renews it.
    pub fn refused(&self, token: &Secret) {
        let mut state = self.0.state();
        state.refused |= state.grant.access == *token;
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews in a separate task, which continues if all callers give up, because the
    /// issuer may already have replaced the token.
    fn renewal(self: &Arc<Self>) -> Flight {
        let inner = self.clone();
        let task = tokio::spawn(async move {
            let renewed = inner.renew().await.map_err(Arc::new);
            let mut state = inner.state();
            state.flight = None;
            match renewed {
                Ok(grant) => {
                    state.grant = grant;
                    state.refused = false;
                    Ok(state.grant.access.clone())
                }
                Err(error) => {
                    if !error.heals() {
                        state.over = Some(error.clone());
                    }
                    Err(error)
                }
            }
        });
        let lost = |error| AuthError::Io {
            what: "renewing a sign-in",
            source: std::io::Error::other(error),
        };
        task.map(move |done| done.unwrap_or_else(|error| Err(Arc::new(lost(error)))))
            .boxed()
            .shared()
    }

    async fn renew(&self) -> Result<Grant, AuthError> {
        let (before, refused) = {
            let state = self.state();
            (state.grant.access.clone(), state.refused)
        };
        let (sign_ins, network) = (self.sign_ins.clone(), self.network.clone());
        // Held during the exchange: a concurrent renewal by another process would end
        // the sign-in.
        let lock = blocking(move || sign_ins.lock(&network)).await?;
        let (sign_ins, network) = (self.sign_ins.clone(), self.network.clone());
        let kept = blocking(move || sign_ins.get(&network)).await?;
        let (origins, grant) = match kept {
            Some((
                SignIn {
                    origins,
                    held: Held::Oauth(grant),
                    ..
                },
                _,
            )) => (origins, grant),
            _ => return Err(AuthError::NotSignedIn(self.network.clone())),
        };
        // Another process has already renewed it.
        if grant.access != before && grant.is_fresh(self.margin) {
            return Ok(grant);
        }
        tracing::debug!(network = self.network, refused, "renewing the sign-in");
        let renewed = oauth::renew(&self.network, &grant).await?;
        let (sign_ins, network) = (self.sign_ins.clone(), self.network.clone());
        let record = SignIn::new(origins, Held::Oauth(renewed.clone()));
        let put = blocking(move || sign_ins.put(&network, &record)).await;
        if let Err(error) = put {
            // The old token is used up: this process can continue, no other can.
            tracing::warn!("the renewed sign-in cannot be kept, so sign in again later: {error}");
        }
        drop(lock);
        Ok(renewed)
    }
}

/// Runs work that may block on a disk, or on a keyring prompt.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuthError> + Send + 'static,
) -> Result<T, AuthError> {
    let failed = |error| AuthError::Io {
        what: "looking at the sign-in",
        source: std::io::Error::other(error),
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(failed)?
}
