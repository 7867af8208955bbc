//! `epoch`: which epoch a network is in.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::{self, Context};
use super::{Failure, output};

/// Tell which epoch the network is in; end epochs of a network of one's own
///
/// Blobs are paid for until an epoch ends: two weeks each on mainnet, a day on
/// testnet. The networks `local` and `devnet` have no clock: their epochs end when
/// --advance says so, and what was paid for until then is gone.
#[derive(Debug, Args)]
pub(super) struct Epoch {
    /// End so many epochs
    #[arg(long, value_name = "N")]
    advance: Option<u32>,
}

impl Epoch {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let name = &settings.network.value.name;
        let store = context::store(&settings)?;
        let epoch = context.run(async {
            match self.advance {
                Some(epochs) => store.advance(epochs).await?.ok_or_else(|| {
                    format!("epochs of {name} end by themselves; only those of `local` and of a devnet (--admin URL) are ended by hand").into()
                }),
                None => store.epoch().await?.ok_or_else(|| {
                    format!("{name} does not tell its epoch: neither aggregators nor publishers do; of a devnet, --admin URL does").into()
                }),
            }
        })?;
        match context.json {
            true => output::json(&json!({"network": name, "epoch": epoch}))?,
            false => output::line(&format!("{name} is in epoch {epoch}"))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
