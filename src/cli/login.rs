//! `login`, `logout` and `whoami`: the user's sign-in to the publishers of a network.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::http::{HeaderName, HeaderValue};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use webbrowser::{Browser, BrowserOptions};

use super::context::{self, Context};
use super::{output, secrets};
use walrus_client::auth::oauth::{self, CodeFlow, DeviceFlow, Issuer};
use walrus_client::auth::{
    AuthError, Grant, KeyringError, Origin, Secret, SecretLocation, SignIn, SignInSecret,
    UploadTokens, is_private,
};
use walrus_client::network::{AuthMethod, Network, NetworkPlace, OauthProfile};

/// Time limit for signing in with a browser.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(600);

/// Sign in to the publishers of a network
///
/// The network's profile sets the method ([networks.NAME.auth] in the config file): an
/// API key, the publisher's key, which then signs a token for every upload, or an OAuth
/// issuer in your browser. Secrets are stored in the system keyring, or else in a sealed
/// file that only you can read. They are sent only to the current publishers of the
/// network.
#[derive(Debug, Args)]
pub(super) struct Login {
    /// Sign in on another device; the default if no browser is available
    #[arg(long)]
    device: bool,
    /// File with the API key [default: prompt, or standard input]
    #[arg(long, value_name = "FILE", conflicts_with = "device")]
    api_key_file: Option<PathBuf>,
    /// File with the publisher's key: a shared secret (text, 0x… or base64:…) or a
    /// private key (PEM) [default: prompt, or standard input]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["device", "api_key_file"])]
    jwt_secret_file: Option<PathBuf>,
}

impl Login {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let network = &settings.network.value;
        self.check_method(network)?;
        let origins = publishers(network)?;
        let held = match &network.auth {
            AuthMethod::None => bail!(no_method(&network.name)),
            AuthMethod::ApiKey { header } => {
                let named = header.parse::<HeaderName>();
                named.map_err(|_| AuthError::Header {
                    what: "the profile's name for the API key's header",
                })?;
                let key = read_secret(self.api_key_file.as_deref(), "API key", &network.name)?;
                let sendable = HeaderValue::from_str(key.expose());
                sendable.map_err(|_| AuthError::Header {
                    what: "the API key",
                })?;
                SignInSecret::ApiKey { key }
            }
            AuthMethod::Jwt(profile) => {
                let what = "the publisher's secret";
                let key = read_secret(self.jwt_secret_file.as_deref(), what, &network.name)?;
                UploadTokens::new(&key, profile)?;
                SignInSecret::Jwt { key }
            }
            AuthMethod::Oauth(profile) => {
                let flow = async { Ok(sign_in(profile, self.device).await?) };
                SignInSecret::Oauth(context.run(flow)?)
            }
        };
        let who = match &held {
            SignInSecret::Oauth(grant) => grant.user.clone(),
            _ => None,
        };
        let sign_ins = context::sign_ins(&settings);
        let lock = sign_ins.lock(&network.name)?;
        let before = sign_ins.get(&network.name).ok().flatten();
        let stored = sign_ins.put(&network.name, &SignIn::new(origins.clone(), held))?;
        let location = stored.location;
        drop(lock);
        // Revoke tokens that would otherwise stay valid unused.
        if let Some((SignIn { secret: held, .. }, _)) = before
            && let SignInSecret::Oauth(old) = held
        {
            let _ = context.wait(oauth::revoke(&old));
        }
        let report = json!({
            "network": network.name,
            "method": network.auth.name(),
            "who": who,
            "kept": location,
            "origins": origins,
        });
        context.report(&report, || {
            let name = who.map(|who| format!(" as {who}")).unwrap_or_default();
            outln!("signed in to {}{name}; stored in {location}", network.name)
        })?;
        if let Some(KeyringError::TimedOut) = stored.keyring {
            let why = KeyringError::TimedOut;
            warning!("the system keyring was not used: {why}");
        }
        Ok(())
    }

    /// Rejects a flag that belongs to a different method than the profile's.
    fn check_method(&self, network: &Network) -> Result<()> {
        let flags = [
            (self.device, "oauth"),
            (self.api_key_file.is_some(), "api_key"),
            (self.jwt_secret_file.is_some(), "jwt"),
        ];
        let Some((_, flag)) = flags.into_iter().find(|(given, _)| *given) else {
            return Ok(());
        };
        match network.auth.name() {
            "none" => bail!(no_method(&network.name)),
            method if method == flag => Ok(()),
            method => bail!(
                "network {} signs in by {method} according to its profile, but the flag is for \
                 {flag}",
                network.name
            ),
        }
    }
}

fn no_method(network: &str) -> String {
    format!(
        "network {network} requires no sign-in; if its publishers do, set the method in the config \
         file: [networks.{network}.auth] with method = \"api_key\", \"jwt\" or \"oauth\""
    )
}

/// Recipients of the secrets: the current publishers of the network.
fn publishers(network: &Network) -> Result<Vec<Origin>> {
    let urls = match &network.place {
        NetworkPlace::Http { publishers, .. } => publishers.as_slice(),
        NetworkPlace::Local { .. } => &[],
    };
    let mut origins = Vec::new();
    for url in urls {
        let parsed = reqwest::Url::parse(url).with_context(|| url.clone())?;
        let origin = Origin::of(&parsed);
        if !is_private(&parsed) {
            return Err(AuthError::Unencrypted(origin).into());
        }
        origins.push(origin);
    }
    if origins.is_empty() && network.auth != AuthMethod::None {
        let name = &network.name;
        bail!(
            "network {name} has no publisher to sign in to; add one with --publisher URL or in \
             the config file"
        );
    }
    Ok(origins)
}

fn read_secret(file: Option<&Path>, what: &str, network: &str) -> Result<Secret> {
    match file {
        Some(file) => secrets::from_file(file),
        None => secrets::prompt(&format!("{what} for {network}")),
    }
}

/// Signs in with an OAuth issuer.
async fn sign_in(profile: &OauthProfile, device: bool) -> Result<Grant, AuthError> {
    let issuer = Issuer::discover(profile).await?;
    if device || (!has_browser() && issuer.offers_device_flow()) {
        let flow = DeviceFlow::begin(issuer).await?;
        let page = flow.verification();
        errln!(
            "open this page on any device, and enter {} there:",
            page.code
        );
        errln!("  {}", page.url);
        if let Some(url) = page.complete_url {
            errln!("or this page, which contains the code:");
            errln!("  {url}");
        }
        return flow.wait().await;
    }
    let flow = CodeFlow::begin(issuer).await?;
    let url = flow.url().to_string();
    errln!("sign in on the page that opens in your browser; if none does, open it yourself:");
    errln!("  {url}");
    let opened = tokio::task::spawn_blocking(move || {
        let quiet = BrowserOptions::new().with_suppress_output(true).clone();
        webbrowser::open_browser_with_options(Browser::Default, &url, &quiet)
    });
    let redirected = flow.wait(BROWSER_TIMEOUT).await?;
    // Leave a browser that runs in this terminal to the user.
    drop(opened);
    redirected.exchange().await
}

/// Whether a browser can be opened on this machine.
fn has_browser() -> bool {
    let names = ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY"];
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    names.into_iter().any(set)
}

/// Sign out of a network: delete its secret and revoke its tokens
///
/// Tokens of an OAuth issuer are revoked if the issuer supports it.
#[derive(Debug, Args)]
pub(super) struct Logout {}

impl Logout {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let network = &settings.network.value.name;
        let sign_ins = context::sign_ins(&settings);
        let lock = sign_ins.lock(network)?;
        let found = sign_ins.get(network);
        let removed = sign_ins.remove(network)?;
        drop(lock);
        let mut revoked = false;
        if let Ok(Some((SignIn { secret: held, .. }, _))) = found
            && let SignInSecret::Oauth(grant) = held
        {
            match context.wait(oauth::revoke(&grant)) {
                Ok(done) => revoked = done,
                Err(error) => {
                    warning!("the tokens could not be revoked ({error}); they expire on their own");
                }
            }
        }
        let report = json!({"network": network, "signed_out": removed, "revoked": revoked});
        context.report(&report, || match (removed, revoked) {
            (true, true) => outln!("signed out of {network}; its tokens are revoked"),
            (true, false) => outln!("signed out of {network}"),
            (false, _) => outln!("you were not signed in to {network}"),
        })
    }
}

/// Show your identity as a publisher on a network, and until when it is valid
///
/// Exits with code 1 if the network requires a sign-in and there is none.
#[derive(Debug, Args)]
pub(super) struct Whoami {}

#[derive(Serialize)]
struct Identity {
    network: String,
    method: &'static str,
    signed_in: bool,
    /// The user's name, if the issuer reported one.
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(rename = "kept", skip_serializing_if = "Option::is_none")]
    location: Option<SecretLocation>,
    /// Recipients of the secret.
    origins: Vec<Origin>,
    /// In seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    /// Expiry of the access token, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    /// Whether the token is refreshed before it expires.
    renewed: bool,
}

impl Whoami {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let settings = context.settings()?;
        let network = &settings.network.value;
        let mut report = Identity {
            network: network.name.clone(),
            method: network.auth.name(),
            signed_in: false,
            who: None,
            issuer: None,
            location: None,
            origins: Vec::new(),
            since: None,
            expires: None,
            renewed: false,
        };
        if let Some((found, location)) = context::sign_ins(&settings).get(&network.name)? {
            report.signed_in = found.secret.method() == network.auth.name();
            report.location = Some(location);
            report.origins = found.origins;
            report.since = Some(found.created_at);
            if let SignInSecret::Oauth(grant) = found.secret {
                report.who = grant.user.clone();
                report.issuer = Some(grant.issuer.clone());
                report.expires = grant.expires;
                report.renewed = grant.refresh.is_some();
            }
        }
        context.report(&report, || report.print())?;
        let fine = report.signed_in || network.auth == AuthMethod::None;
        Ok(output::exit_code(fine))
    }
}

impl Identity {
    fn print(&self) -> Result<()> {
        let network = &self.network;
        if self.method == "none" {
            return outln!("{network} requires no sign-in");
        }
        if !self.signed_in {
            return Err(AuthError::NotSignedIn(network.clone()).into());
        }
        match &self.who {
            Some(who) => outln!("{who} on {network}")?,
            None => outln!("signed in to {network}")?,
        }
        let origins: Vec<String> = self.origins.iter().map(Origin::to_string).collect();
        let date = |time: Option<u64>| time.map_or("unknown".into(), output::time);
        let end = match (self.expires, self.renewed) {
            (None, _) => "never".into(),
            (end, true) => format!("{}, renewed before that", date(end)),
            (end, false) => date(end),
        };
        let mut rows = vec![("by", self.method.into())];
        rows.extend(self.issuer.clone().map(|issuer| ("issuer", issuer)));
        rows.push(("sent to", origins.join(", ")));
        rows.extend(
            self.location
                .map(|location| ("kept in", location.to_string())),
        );
        rows.extend([("since", date(self.since)), ("ends", end)]);
        output::details(rows)
    }
}
