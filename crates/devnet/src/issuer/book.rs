//! What an issuer has given to whom.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::Refusal;
use walrus_client::auth::Secret;

/// How long a user may take to sign in.
const SIGN_IN: Duration = Duration::from_secs(600);
/// How long a code is good for.
const CODE: Duration = Duration::from_secs(60);
/// How long a client has to wait between two questions about a device.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Most sign-ins of each kind that are kept; more push others out.
const MOST: usize = 1000;

/// Everything that is known.
#[derive(Default)]
pub(super) struct Book {
    pages: HashMap<String, (Asked, Instant)>,
    codes: HashMap<String, (Asked, String, Instant)>,
    devices: HashMap<String, Device>,
    sign_ins: Vec<SignIn>,
}

/// What a client asks for on the page where users sign in.
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
    /// Who said yes; an error for no.
    decided: Option<Result<String, ()>>,
    until: Instant,
    polled: Option<Instant>,
}

/// A user who has signed in with a client.
struct SignIn {
    user: String,
    client: String,
    access: HashMap<String, Instant>,
    refresh: String,
    used: HashSet<String>,
}

/// Tokens, as they are given out.
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
    /// Begins a sign-in on a page; what its form sends back.
    pub(super) fn ask(&mut self, asked: Asked) -> Result<String, Refusal> {
        if self.pages.len() >= MOST {
            self.pages.clear();
        }
        let id = fresh()?;
        self.pages
            .insert(id.clone(), (asked, Instant::now() + SIGN_IN));
        Ok(id)
    }

    /// Ends it: what was asked, once.
    pub(super) fn asked(&mut self, id: &str) -> Option<Asked> {
        let (asked, until) = self.pages.remove(id)?;
        (Instant::now() < until).then_some(asked)
    }

    /// A code for what a user has allowed.
    pub(super) fn code(&mut self, asked: Asked, user: String) -> Result<String, Refusal> {
        let code = fresh()?;
        let now = Instant::now();
        self.codes.retain(|_, (_, _, until)| now < *until);
        let until = now + CODE;
        self.codes.insert(code.clone(), (asked, user, until));
        Ok(code)
    }

    /// What a code stands for, and for whom; once.
    pub(super) fn redeem(&mut self, code: &str) -> Option<(Asked, String)> {
        let (asked, user, until) = self.codes.remove(code)?;
        (Instant::now() < until).then_some((asked, user))
    }

    /// Begins a sign-in on another device; what the client keeps, and what the
    /// user types.
    pub(super) fn device(&mut self, client: &str) -> Result<(String, String), Refusal> {
        if self.devices.len() >= MOST {
            self.devices.clear();
        }
        let code = fresh()?;
        // Letters that are neither vowels nor mistaken for each other.
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

    /// How long a sign-in on another device may take.
    pub(super) fn patience() -> Duration {
        SIGN_IN
    }

    /// The client that a user's code belongs to.
    pub(super) fn client_of(&self, user_code: &str) -> Option<&str> {
        let mut devices = self.devices.values();
        let device = devices.find(|device| device.is(user_code))?;
        Some(&device.client)
    }

    /// A user's yes, with a name, or no; whether the code was one.
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

    /// Who has signed in on another device, where somebody has.
    pub(super) fn poll(&mut self, code: &str, client: &str) -> Result<String, Refusal> {
        let Some(device) = self.devices.get_mut(code).filter(|d| d.client == client) else {
            return Err(Refusal::new("invalid_grant", "no such device code"));
        };
        let now = Instant::now();
        if now > device.until {
            return Err(Refusal::new("expired_token", "nobody has signed in"));
        }
        // A little early is no haste.
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

    /// First tokens for a user.
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

    /// Next tokens for a refresh token. One that was used before ends the
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

    /// Whose an access token is.
    pub(super) fn user_of(&self, token: &str) -> Option<String> {
        let now = Instant::now();
        let valid = |sign_in: &&SignIn| sign_in.access.get(token).is_some_and(|end| now < *end);
        let sign_in = self.sign_ins.iter().find(valid)?;
        Some(sign_in.user.clone())
    }

    /// Ends what a token stands for: one access token, or, for a refresh token,
    /// the sign-in.
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
