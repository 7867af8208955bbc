//! `whoami`: shows the user's identity on a network.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::context::{self, Context};
use super::{Failure, output};
use walrus_client::auth::{AuthError, Held, Kept, Origin};
use walrus_client::network::AuthMethod;

/// Show your identity as a publisher on a network, and until when it is valid
///
/// Exits with code 1 if the network requires a sign-in and there is none.
#[derive(Debug, Args)]
pub(super) struct Whoami {}

#[derive(Serialize)]
struct Report {
    network: String,
    method: &'static str,
    signed_in: bool,
    /// The user's name, if the issuer reported one.
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
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
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let network = &settings.network.value;
        let mut report = Report {
            network: network.name.clone(),
            method: network.auth.name(),
            signed_in: false,
            who: None,
            issuer: None,
            kept: None,
            origins: Vec::new(),
            since: None,
            expires: None,
            renewed: false,
        };
        if let Some((found, kept)) = context::sign_ins(&settings).get(&network.name)? {
            report.signed_in = found.held.method() == network.auth.name();
            report.kept = Some(kept);
            report.origins = found.origins;
            report.since = Some(found.since);
            if let Held::Oauth(grant) = found.held {
                report.who = grant.who.clone();
                report.issuer = Some(grant.issuer.clone());
                report.expires = grant.expires;
                report.renewed = grant.refresh.is_some();
            }
        }
        match context.json {
            true => output::json(&report)?,
            false => report.print()?,
        }
        let fine = report.signed_in || network.auth == AuthMethod::None;
        Ok(match fine {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

impl Report {
    fn print(&self) -> Result<(), Failure> {
        let network = &self.network;
        if self.method == "none" {
            return output::line(&format!("{network} asks for no sign-in"));
        }
        if !self.signed_in {
            return Err(AuthError::NotSignedIn(network.clone()).into());
        }
        let row = |name: &str, value: String| vec![format!("  {name}"), value];
        let title = match &self.who {
            Some(who) => format!("{who} on {network}"),
            None => format!("signed in to {network}"),
        };
        output::line(&title)?;
        let mut rows = vec![row("by", self.method.into())];
        if let Some(issuer) = &self.issuer {
            rows.push(row("issuer", issuer.clone()));
        }
        let origins: Vec<String> = self.origins.iter().map(Origin::to_string).collect();
        rows.push(row("sent to", origins.join(", ")));
        if let Some(kept) = self.kept {
            rows.push(row("kept in", kept.to_string()));
        }
        rows.push(row("since", date(self.since)));
        let end = match (self.expires, self.renewed) {
            (None, _) => "never".into(),
            (Some(end), true) => format!("{}, renewed before that", date(Some(end))),
            (Some(end), false) => date(Some(end)),
        };
        rows.push(row("ends", end));
        output::table(&rows)
    }
}

fn date(seconds: Option<u64>) -> String {
    let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
    let time = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(
        || "unknown".into(),
        |time| time.strftime("%F %T UTC").to_string(),
    )
}
