//! An issuer and its state: pending sign-ins, codes and tokens.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use parking_lot::{Mutex, MutexGuard};
use quick_cache::unsync::Cache;
use serde_json::json;

use walrus_client::auth::Secret;

/// Time limit of a sign-in.
pub(super) const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(600);
/// Lifetime of a code.
const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// Shortest polling interval of a device sign-in.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Most sign-ins of each kind; at the limit, others are discarded.
const MAX_SIGN_INS: usize = 1000;

/// An OAuth issuer.
pub(crate) struct Issuer {
    pub(super) url: String,
    pub(super) lifetime: Duration,
    state: Mutex<SignInState>,
}

impl Issuer {
    /// Creates an issuer at `url` with this `lifetime` of access tokens.
    pub(crate) fn new(url: &str, lifetime: Duration) -> Self {
        Issuer {
            url: url.into(),
            lifetime,
            state: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SignInState> {
        self.state.lock()
    }

    /// Whether this is a valid access token of this issuer.
    pub(crate) fn is_valid_token(&self, token: &str) -> bool {
        self.state().user_of(token).is_some()
    }
}

/// Error of a request, with the standards' error codes.
#[derive(Debug)]
pub(crate) struct OauthError {
    error: &'static str,
    why: &'static str,
}

impl OauthError {
    pub(crate) fn new(error: &'static str, why: &'static str) -> Self {
        OauthError { error, why }
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.why});
        let no_store = [(CACHE_CONTROL, "no-store")];
        (StatusCode::BAD_REQUEST, no_store, Json(body)).into_response()
    }
}

/// State of the issuer.
pub(super) struct SignInState {
    pages: Cache<String, (AuthorizationRequest, Instant)>,
    codes: HashMap<String, (AuthorizationRequest, String, Instant)>,
    devices: Cache<String, Device>,
    sign_ins: Vec<PendingSignIn>,
}

/// Authorization request of a client.
#[derive(Clone, Debug)]
pub(super) struct AuthorizationRequest {
    pub(super) client: String,
    pub(super) redirect: String,
    pub(super) state: Option<String>,
    pub(super) challenge: String,
}

struct Device {
    client: String,
    user_code: String,
    /// Name of the user who allowed it; an error if denied.
    decision: Option<Result<String, ()>>,
    until: Instant,
    polled: Option<Instant>,
}

/// A user signed in with a client.
struct PendingSignIn {
    user: String,
    client: String,
    access: HashMap<String, Instant>,
    refresh: String,
    used: HashSet<String>,
}

/// Issued tokens.
pub(super) struct IssuedTokens {
    pub(super) access: String,
    pub(super) refresh: String,
}

fn random_token() -> Result<String, OauthError> {
    let random = Secret::random();
    let random = random.map_err(|_| OauthError::new("server_error", "no random numbers"))?;
    Ok(random.expose().to_owned())
}

impl Default for SignInState {
    fn default() -> Self {
        SignInState {
            pages: Cache::new(MAX_SIGN_INS),
            codes: HashMap::new(),
            devices: Cache::new(MAX_SIGN_INS),
            sign_ins: Vec::new(),
        }
    }
}

impl SignInState {
    /// Begins a sign-in on a page; returns the ID for its form.
    pub(super) fn begin_authorization(
        &mut self,
        request: AuthorizationRequest,
    ) -> Result<String, OauthError> {
        let id = random_token()?;
        let now = Instant::now();
        // The cache would evict new entries before expired ones.
        self.pages.retain(|_, (_, until)| now < *until);
        self.pages
            .insert(id.clone(), (request, now + SIGN_IN_TIMEOUT));
        Ok(id)
    }

    /// Ends a sign-in on a page and returns its request, once.
    pub(super) fn take_authorization(&mut self, id: &str) -> Option<AuthorizationRequest> {
        let (_, (request, until)) = self.pages.remove(id)?;
        (Instant::now() < until).then_some(request)
    }

    /// Creates a code for an allowed request.
    pub(super) fn create_code(
        &mut self,
        request: AuthorizationRequest,
        user: String,
    ) -> Result<String, OauthError> {
        let code = random_token()?;
        let now = Instant::now();
        self.codes.retain(|_, (_, _, until)| now < *until);
        let until = now + CODE_LIFETIME;
        self.codes.insert(code.clone(), (request, user, until));
        Ok(code)
    }

    /// Redeems a code for its request and user, once.
    pub(super) fn redeem_code(&mut self, code: &str) -> Option<(AuthorizationRequest, String)> {
        let (request, user, until) = self.codes.remove(code)?;
        (Instant::now() < until).then_some((request, user))
    }

    /// Begins a device sign-in; returns the device code for the client and the code for
    /// the user.
    pub(super) fn begin_device(&mut self, client: &str) -> Result<(String, String), OauthError> {
        let code = random_token()?;
        // Consonants that are not easily confused.
        let letters = b"BCDFGHJKLMNPQRSTVWXZ";
        let picked = random_token()?;
        let picked = picked.bytes().take(8);
        let mut user_code: String = picked
            .map(|byte| letters[usize::from(byte) % letters.len()] as char)
            .collect();
        user_code.insert(4, '-');
        let now = Instant::now();
        // For a while, a late poll learns that its sign-in has expired.
        self.devices
            .retain(|_, device| now < device.until + SIGN_IN_TIMEOUT);
        let device = Device {
            client: client.into(),
            user_code: user_code.clone(),
            decision: None,
            until: now + SIGN_IN_TIMEOUT,
            polled: None,
        };
        self.devices.insert(code.clone(), device);
        Ok((code, user_code))
    }

    /// Returns the client that a user code belongs to.
    pub(super) fn client_of(&self, user_code: &str) -> Option<&str> {
        let device = self
            .devices
            .iter()
            .find(|(_, device)| device.is(user_code))?;
        Some(&device.1.client)
    }

    /// Records the user's decision, a name or a denial; returns whether the code is
    /// valid.
    pub(super) fn decide(&mut self, user_code: &str, decision: Result<String, ()>) -> bool {
        let found = self.devices.iter().find(|(_, device)| device.is(user_code));
        let Some(code) = found.map(|(code, _)| code.clone()) else {
            return false;
        };
        if let Some(mut device) = self.devices.get_mut(&code) {
            device.decision = Some(decision);
        }
        true
    }

    /// Returns the user of a device sign-in once it is allowed.
    pub(super) fn poll(&mut self, code: &str, client: &str) -> Result<String, OauthError> {
        let refused = |error, why| Err(OauthError::new(error, why));
        let now = Instant::now();
        let decision = {
            let device = self.devices.get_mut(code);
            let Some(mut device) = device.filter(|device| device.client == client) else {
                return refused("invalid_grant", "no such device code");
            };
            if now > device.until {
                return refused("expired_token", "the sign-in was not completed in time");
            }
            // Slightly early polls are tolerated.
            let too_soon = |last: Instant| now - last < POLL_INTERVAL * 9 / 10;
            if device.polled.replace(now).is_some_and(too_soon) {
                return refused("slow_down", "polled too often");
            }
            device.decision.clone()
        };
        let Some(decision) = decision else {
            return refused("authorization_pending", "not yet");
        };
        self.devices.remove(code);
        decision.map_err(|()| OauthError::new("access_denied", "the user denied the sign-in"))
    }

    /// Issues the first tokens for a user.
    pub(super) fn sign_in(
        &mut self,
        user: &str,
        client: &str,
        lifetime: Duration,
    ) -> Result<IssuedTokens, OauthError> {
        let mut sign_in = PendingSignIn {
            user: user.into(),
            client: client.into(),
            access: HashMap::new(),
            refresh: String::new(),
            used: HashSet::new(),
        };
        let tokens = sign_in.issue(lifetime)?;
        if self.sign_ins.len() >= MAX_SIGN_INS {
            self.sign_ins.remove(0);
        }
        self.sign_ins.push(sign_in);
        Ok(tokens)
    }

    /// Issues the next tokens for a refresh token. A reused refresh token ends the
    /// sign-in.
    pub(super) fn refresh(
        &mut self,
        token: &str,
        client: &str,
        lifetime: Duration,
    ) -> Result<IssuedTokens, OauthError> {
        let stolen = (self.sign_ins.iter()).position(|sign_in| sign_in.used.contains(token));
        if let Some(at) = stolen {
            self.sign_ins.remove(at);
            let why = "the refresh token was used before, so the sign-in has ended";
            return Err(OauthError::new("invalid_grant", why));
        }
        let mut sign_ins = self.sign_ins.iter_mut();
        match sign_ins.find(|sign_in| sign_in.refresh == token && sign_in.client == client) {
            Some(sign_in) => sign_in.issue(lifetime),
            None => Err(OauthError::new("invalid_grant", "no such refresh token")),
        }
    }

    /// Returns the user of an access token.
    pub(super) fn user_of(&self, token: &str) -> Option<String> {
        let now = Instant::now();
        let valid =
            |sign_in: &&PendingSignIn| sign_in.access.get(token).is_some_and(|end| now < *end);
        let sign_in = self.sign_ins.iter().find(valid)?;
        Some(sign_in.user.clone())
    }

    /// Revokes a token: an access token alone, or, for a refresh token, the whole
    /// sign-in.
    pub(super) fn revoke(&mut self, token: &str) {
        self.sign_ins.retain(|sign_in| sign_in.refresh != token);
        for sign_in in &mut self.sign_ins {
            sign_in.access.remove(token);
        }
    }
}

impl Device {
    fn is(&self, user_code: &str) -> bool {
        let plain = |code: &str| code.replace(['-', ' '], "").to_ascii_uppercase();
        self.decision.is_none()
            && Instant::now() < self.until
            && plain(&self.user_code) == plain(user_code)
    }
}

impl PendingSignIn {
    fn issue(&mut self, lifetime: Duration) -> Result<IssuedTokens, OauthError> {
        let tokens = IssuedTokens {
            access: random_token()?,
            refresh: random_token()?,
        };
        let now = Instant::now();
        self.access.retain(|_, end| now < *end);
        self.access.insert(tokens.access.clone(), now + lifetime);
        let before = std::mem::replace(&mut self.refresh, tokens.refresh.clone());
        if !before.is_empty() {
            self.used.insert(before);
        }
        Ok(tokens)
    }
}
