//! The scheduled compaction job.

use std::sync::Arc;
use std::time::Duration;

use super::compaction::{Choice, Compactor};
use super::jobs::{JobError, to_write};
use super::mounts::Mounts;
use crate::config::Settings;
use crate::publish::Unwatched;

/// Compacts heads that benefit, within the spending limit; returns a description of the
/// result.
pub(super) async fn run(settings: &Settings, mounts: &Arc<Mounts>) -> Result<String, JobError> {
    let (store, access) = to_write(settings).await?;
    let compactor = Compactor::new(settings, mounts.loader().clone(), access, store);
    let compaction = &settings.compaction.value;
    let choice = Choice {
        force: false,
        spend: Some(compaction.spend),
    };
    let looked = compactor.look(&[], &choice).await?;
    let (mut moved, mut failed) = (0, Vec::new());
    for one in looked.iter().filter(|one| one.stays.is_none()) {
        match compactor.compact(one, Arc::new(Unwatched)).await {
            Ok(done) => {
                moved += 1;
                let bytes = done.published.bytes_stored as f64;
                tokio::time::sleep(Duration::from_secs_f64(bytes / compaction.rate as f64)).await;
            }
            Err(error) => failed.push(format!("{}: {error}", one.name)),
        }
    }
    match failed.is_empty() {
        true => Ok(format!("{moved} of {} names laid out anew", looked.len())),
        false => Err(failed.join("; ").into()),
    }
}
