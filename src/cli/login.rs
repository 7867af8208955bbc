//! `login`: signs in to a network's publishers.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use clap::Args;
use serde_json::json;
use webbrowser::{Browser, BrowserOptions};

use super::context::{self, Context};
use super::{Failure, output, secrets};
use walrus_client::auth::oauth::{self, CodeFlow, DeviceFlow, Issuer};
use walrus_client::auth::{
    AuthError, Grant, Held, KeyringError, Origin, Secret, SignIn, UploadTokens, is_private,
};
use walrus_client::network::{AuthMethod, Network, NetworkPlace, OauthProfile};

/// Time limit for signing in with a browser.
const PATIENCE: Duration = Duration::from_secs(600);

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
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let network = &settings.network.value;
        self.fits(network)?;
        let origins = publishers(network)?;
        let held = match &network.auth {
            AuthMethod::None => return Err(no_method(&network.name).into()),
            AuthMethod::ApiKey { header } => {
                let named = header.parse::<HeaderName>();
                named.map_err(|_| AuthError::Header {
                    what: "the profile's name for the API key's header",
                })?;
                let key = given(self.api_key_file.as_deref(), "API key", &network.name)?;
                let sendable = HeaderValue::from_str(key.expose());
                sendable.map_err(|_| AuthError::Header {
                    what: "the API key",
                })?;
                Held::ApiKey { key }
            }
            AuthMethod::Jwt(profile) => {
                let what = "the publisher's secret";
                let key = given(self.jwt_secret_file.as_deref(), what, &network.name)?;
                UploadTokens::new(&key, profile)?;
                Held::Jwt { key }
            }
            AuthMethod::Oauth(profile) => {
                let flow = async { Ok(sign_in(profile, self.device).await?) };
                Held::Oauth(context.run(flow)?)
            }
        };
        let who = match &held {
            Held::Oauth(grant) => grant.who.clone(),
            _ => None,
        };
        let sign_ins = context::sign_ins(&settings);
        let lock = sign_ins.lock(&network.name)?;
        let before = sign_ins.get(&network.name).ok().flatten();
        let stored = sign_ins.put(&network.name, &SignIn::new(origins.clone(), held))?;
        let kept = stored.kept;
        drop(lock);
        // Revoke tokens that would otherwise stay valid unused.
        if let Some((
            SignIn {
                held: Held::Oauth(old),
                ..
            },
            _,
        )) = before
        {
            let _ = context.run(async { Ok(oauth::revoke(&old).await?) });
        }
        if context.json {
            output::json(&json!({
                "network": network.name,
                "method": network.auth.name(),
                "who": who,
                "kept": kept,
                "origins": origins,
            }))?;
        } else {
            let name = who.map(|who| format!(" as {who}")).unwrap_or_default();
            let text = format!("signed in to {}{name}; kept in {kept}", network.name);
            output::line(&text)?;
        }
        if let Some(KeyringError::Silent) = stored.keyring {
            let why = KeyringError::Silent;
            output::warning(&format!("the system keyring was not used: {why}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Rejects a flag that belongs to a different method than the profile's.
    fn fits(&self, network: &Network) -> Result<(), Failure> {
        let asked = match self {
            Login { device: true, .. } => "oauth",
            Login {
                api_key_file: Some(_),
                ..
            } => "api_key",
            Login {
                jwt_secret_file: Some(_),
                ..
            } => "jwt",
            _ => return Ok(()),
        };
        match network.auth.name() {
            "none" => Err(no_method(&network.name).into()),
            method if method == asked => Ok(()),
            method => Err(format!(
                "network {} signs in by {method}, as its profile says, and this is for {asked}",
                network.name
            )
            .into()),
        }
    }
}

fn no_method(network: &str) -> String {
    format!(
        "network {network} asks for no sign-in; where its publishers do, say how in the config \
         file: [networks.{network}.auth] with method = \"api_key\", \"jwt\" or \"oauth\""
    )
}

/// Recipients of the secrets: the current publishers of the network.
fn publishers(network: &Network) -> Result<Vec<Origin>, Failure> {
    let urls = match &network.place {
        NetworkPlace::Http { publishers, .. } => publishers.as_slice(),
        NetworkPlace::Local { .. } => &[],
    };
    let mut origins = Vec::new();
    for url in urls {
        let parsed = reqwest::Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        let origin = Origin::of(&parsed);
        if !is_private(&parsed) {
            return Err(AuthError::Unencrypted(origin).into());
        }
        origins.push(origin);
    }
    match origins.is_empty() && network.auth != AuthMethod::None {
        true => {
            let name = &network.name;
            Err(format!("network {name} has no publisher to sign in to; name one with --publisher URL or in the config file").into())
        }
        false => Ok(origins),
    }
}

fn given(file: Option<&std::path::Path>, what: &str, network: &str) -> Result<Secret, Failure> {
    match file {
        Some(file) => secrets::from_file(file),
        None => secrets::asked_for(&format!("{what} for {network}")),
    }
}

/// Signs in with an OAuth issuer.
async fn sign_in(profile: &OauthProfile, device: bool) -> Result<Grant, AuthError> {
    let issuer = Issuer::discover(profile).await?;
    if device || (!has_browser() && issuer.offers_device_flow()) {
        let flow = DeviceFlow::begin(issuer).await?;
        let asked = flow.verification();
        output::note(&format!(
            "open this page on any device, and enter {} there:",
            asked.code
        ));
        output::note(&format!("  {}", asked.url));
        if let Some(url) = asked.complete_url {
            output::note("or this one, where it is filled in already:");
            output::note(&format!("  {url}"));
        }
        return flow.wait().await;
    }
    let flow = CodeFlow::begin(issuer).await?;
    let url = flow.url().to_string();
    output::note("sign in on the page that opens in your browser; if none does, open it yourself:");
    output::note(&format!("  {url}"));
    let opened = tokio::task::spawn_blocking(move || {
        let quiet = BrowserOptions::new().with_suppress_output(true).clone();
        webbrowser::open_browser_with_options(Browser::Default, &url, &quiet)
    });
    let arrived = flow.wait(PATIENCE).await?;
    // Leave a browser that runs in this terminal to the user.
    drop(opened);
    arrived.exchange().await
}

/// Whether a browser can be opened on this machine.
fn has_browser() -> bool {
    let names = ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY"];
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    names.into_iter().any(set)
}
