//! The scheduled renewal job.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::jobs::{Job, JobError, to_write};
use super::mounts::Mounts;
use super::renewal::{Renewer, Wish};
use crate::config::Settings;
use crate::lifecycle::renew::Terms;

/// Name of the job.
pub(super) const NAME: &str = "renewal";

/// Renews due blobs within the budget.
pub(super) struct Renewing {
    settings: Settings,
    every: Duration,
}

impl Renewing {
    /// Returns the job if it is scheduled.
    pub(super) fn scheduled(settings: &Settings) -> Option<Self> {
        let every = settings.renewal.value.every()?;
        Some(Renewing {
            settings: settings.clone(),
            every,
        })
    }
}

#[async_trait]
impl Job for Renewing {
    fn name(&self) -> &'static str {
        NAME
    }

    fn every(&self) -> Duration {
        self.every
    }

    async fn run(&self, mounts: &Arc<Mounts>) -> Result<String, JobError> {
        let settings = &self.settings;
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
}
