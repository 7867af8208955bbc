//! `logout`: removes a sign-in and revokes its tokens.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::{self, Context};
use super::{Failure, output};
use walrus_client::auth::{Held, SignIn, oauth};

/// Sign out of a network: delete its secret and revoke its tokens
///
/// Tokens of an OAuth issuer are revoked if the issuer supports it.
#[derive(Debug, Args)]
pub(super) struct Logout {}

impl Logout {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let network = &settings.network.value.name;
        let sign_ins = context::sign_ins(&settings);
        let lock = sign_ins.lock(network)?;
        let found = sign_ins.get(network);
        let removed = sign_ins.remove(network)?;
        drop(lock);
        let revoked = match found {
            Ok(Some((
                SignIn {
                    held: Held::Oauth(grant),
                    ..
                },
                _,
            ))) => match context.run(async { Ok(oauth::revoke(&grant).await?) }) {
                Ok(revoked) => revoked,
                Err(error) => {
                    output::warning(&format!(
                        "the tokens could not be given back ({error}); they end by themselves"
                    ));
                    false
                }
            },
            _ => false,
        };
        if context.json {
            let report = json!({"network": network, "signed_out": removed, "revoked": revoked});
            output::json(&report)?;
        } else {
            output::line(&match (removed, revoked) {
                (true, true) => format!("signed out of {network}; its tokens are revoked"),
                (true, false) => format!("signed out of {network}"),
                (false, _) => format!("you were not signed in to {network}"),
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
