//! The scheduled renewal job.

use std::sync::Arc;

use super::jobs::{JobError, to_write};
use super::mounts::Mounts;
use super::renewal::{Renewer, Wish};
use crate::config::Settings;
use crate::lifecycle::renew::Terms;

/// Renews due blobs within the budget; returns a description of the result.
pub(super) async fn run(settings: &Settings, mounts: &Arc<Mounts>) -> Result<String, JobError> {
    let network = &settings.network.value;
    let (store, access) = to_write(settings).await?;
    let renewer = Renewer {
        settings,
        loader: mounts.loader().clone(),
        access,
        store,
    };
    let renewing = &settings.renewal.value;
    let wish = Wish {
        terms: Terms {
            margin: renewing.margin,
            epochs: renewing.epochs,
            budget: (!network.is_free()).then_some(renewing.budget),
        },
        dry_run: false,
    };
    let report = renewer.run(&wish, &|_, _| {}).await?;
    match report.warning() {
        Some(warning) => Err(warning.into()),
        None => Ok(format!(
            "{} of {} blobs renewed",
            report.renewed, report.needed
        )),
    }
}
