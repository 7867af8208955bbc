//! State of an issuer: pending sign-ins, codes and tokens.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::Refusal;
use walrus_client::auth::Secret;

/// Time limit of a sign-in.
const SIGN_IN: Duration = Duration::from_secs(600);
/// Lifetime of a code.
const CODE: Duration = Duration::from_secs(60);
/// Shortest polling interval of a device sign-in.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Most sign-ins of each kind; at the limit, older ones are discarded.
const MOST: usize = 1000;

/// State of the issuer.
#[derive(Default)]
pub(super) struct Book {
    pages: HashMap<String, (Asked, Instant)>,
    codes: HashMap<String, (Asked, String, Instant)>,
    devices: HashMap<String, Device>,
    sign_ins: Vec<SignIn>,
}

/// Authorization request of a client.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) client: String,
    pub(super) redirect: String,
    pub(super) state: Option<String>,
    pub(super) challenge: String,
}

struct Device {
    client: String,
    user_code: String,
    /// Name of the user who allowed it; an error if denied.
    decided: Option<Result<String, ()>>,
    until: Instant,
    polled: Option<Instant>,
}

/// A user signed in with a client.
struct SignIn {
    user: String,
    client: String,
    access: HashMap<String, Instant>,
    refresh: String,
    used: HashSet<String>,
}

/// Issued tokens.
pub(super) struct Given {
    pub(super) access: String,
    pub(super) refresh: String,
}

fn fresh() -> Result<String, Refusal> {
    let random = Secret::random();
    let random = random.map_err(|_| Refusal::new("server_error", "no random numbers"))?;
    Ok(random.expose().to_owned())
}

impl Book {
    /// Begins a sign-in on a page; returns the ID for its form.
    pub(super) fn ask(&mut self, asked: Asked) -> Result<String, Refusal> {
        if self.pages.len() >= MOST {
            self.pages.clear();
        }
        let id = fresh()?;
        self.pages
            .insert(id.clone(), (asked, Instant::now() + SIGN_IN));
        Ok(id)
    }

    /// Ends a sign-in on a page and returns its request, once.
    pub(super) fn asked(&mut self, id: &str) -> Option<Asked> {
        let (asked, until) = self.pages.remove(id)?;
        (Instant::now() < until).then_some(asked)
    }

    /// Creates a code for an allowed request.
    pub(super) fn code(&mut self, asked: Asked, user: String) -> Result<String, Refusal> {
        let code = fresh()?;
        let now = Instant::now();
        self.codes.retain(|_, (_, _, until)| now < *until);
        let until = now + CODE;
        self.codes.insert(code.clone(), (asked, user, until));
        Ok(code)
    }

    /// Redeems a code for its request and user, once.
    pub(super) fn redeem(&mut self, code: &str) -> Option<(Asked, String)> {
        let (asked, user, until) = self.codes.remove(code)?;
        (Instant::now() < until).then_some((asked, user))
    }

    /// Begins a device sign-in; returns the device code for the client and the code for
    /// the user.
    pub(super) fn device(&mut self, client: &str) -> Result<(String, String), Refusal> {
        if self.devices.len() >= MOST {
            self.devices.clear();
        }
        let code = fresh()?;
        // Consonants that are not easily confused.
        let letters = b"BCDFGHJKLMNPQRSTVWXZ";
        let picked = fresh()?;
        let picked = picked.bytes().take(8);
        let mut user_code: String = picked
            .map(|byte| letters[usize::from(byte) % letters.len()] as char)
            .collect();
        user_code.insert(4, '-');
        let device = Device {
            client: client.into(),
            user_code: user_code.clone(),
            decided: None,
            until: Instant::now() + SIGN_IN,
            polled: None,
        };
        self.devices.insert(code.clone(), device);
        Ok((code, user_code))
    }

    /// Time limit of a device sign-in.
    pub(super) fn patience() -> Duration {
        SIGN_IN
    }

    /// Returns the client that a user code belongs to.
    pub(super) fn client_of(&self, user_code: &str) -> Option<&str> {
        let mut devices = self.devices.values();
        let device = devices.find(|device| device.is(user_code))?;
        Some(&device.client)
    }

    /// Records the user's decision, a name or a denial; returns whether the code is
    /// valid.
    pub(super) fn decide(&mut self, user_code: &str, decision: Result<String, ()>) -> bool {
        let mut devices = self.devices.values_mut();
        match devices.find(|device| device.is(user_code)) {
            Some(device) => {
                device.decided = Some(decision);
                true
            }
            None => false,
        }
    }

    /// Returns the user of a device sign-in once it is allowed.
    pub(super) fn poll(&mut self, code: &str, client: &str) -> Result<String, Refusal> {
        let Some(device) = self.devices.get_mut(code).filter(|d| d.client == client) else {
            return Err(Refusal::new("invalid_grant", "no such device code"));
        };
        let now = Instant::now();
        if now > device.until {
            return Err(Refusal::new("expired_token", "nobody has signed in"));
        }
        // Slightly early polls are tolerated.
        let too_soon = |last: Instant| now - last < INTERVAL * 9 / 10;
        if device.polled.replace(now).is_some_and(too_soon) {
            return Err(Refusal::new("slow_down", "asked too often"));
        }
        match device.decided.clone() {
            None => Err(Refusal::new("authorization_pending", "not yet")),
            Some(decision) => {
                self.devices.remove(code);
                decision.map_err(|()| Refusal::new("access_denied", "the user said no"))
            }
        }
    }

    /// Issues the first tokens for a user.
    pub(super) fn sign_in(
        &mut self,
        user: &str,
        client: &str,
        lifetime: Duration,
    ) -> Result<Given, Refusal> {
        let mut sign_in = SignIn {
            user: user.into(),
            client: client.into(),
            access: HashMap::new(),
            refresh: String::new(),
            used: HashSet::new(),
        };
        let given = sign_in.give(lifetime)?;
        if self.sign_ins.len() >= MOST {
            self.sign_ins.remove(0);
        }
        self.sign_ins.push(sign_in);
        Ok(given)
    }

    /// Issues the next tokens for a refresh token. A reused refresh token ends the
    /// sign-in.
    pub(super) fn refresh(
        &mut self,
        token: &str,
        client: &str,
        lifetime: Duration,
    ) -> Result<Given, Refusal> {
        let stolen = (self.sign_ins.iter()).position(|sign_in| sign_in.used.contains(token));
        if let Some(at) = stolen {
            self.sign_ins.remove(at);
            let why = "the refresh token was used before, so the sign-in has ended";
            return Err(Refusal::new("invalid_grant", why));
        }
        let mut sign_ins = self.sign_ins.iter_mut();
        match sign_ins.find(|sign_in| sign_in.refresh == token && sign_in.client == client) {
            Some(sign_in) => sign_in.give(lifetime),
            None => Err(Refusal::new("invalid_grant", "no such refresh token")),
        }
    }

    /// Returns the user of an access token.
    pub(super) fn user_of(&self, token: &str) -> Option<String> {
        let now = Instant::now();
        let valid = |sign_in: &&SignIn| sign_in.access.get(token).is_some_and(|end| now < *end);
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
        self.decided.is_none()
            && Instant::now() < self.until
            && plain(&self.user_code) == plain(user_code)
    }
}

impl SignIn {
    fn give(&mut self, lifetime: Duration) -> Result<Given, Refusal> {
        let given = Given {
            access: fresh()?,
            refresh: fresh()?,
        };
        let now = Instant::now();
        self.access.retain(|_, end| now < *end);
        self.access.insert(given.access.clone(), now + lifetime);
        let before = std::mem::replace(&mut self.refresh, given.refresh.clone());
        if !before.is_empty() {
            self.used.insert(before);
        }
        Ok(given)
    }
}
