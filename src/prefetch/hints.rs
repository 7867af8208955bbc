//! Initial knowledge about a repository: profiles of earlier sessions, and hints in
//! the repository itself.

use std::sync::Arc;

use crate::repo::Repository;
use walgit_format::Prior;
use walgit_prefetch::model::Limits;
use walgit_prefetch::{Profile, replay};

/// Hints in a repository for users without a learned profile.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Files that changed together.
    pub(super) prior: Option<Arc<Prior>>,
    /// Profile learned by others, with half weight.
    pub(super) shipped: Option<Profile>,
}

impl Hints {
    /// Reads the hints of a repository; the profile only if `learning` is set.
    /// Hints that cannot be read are ignored.
    pub(super) async fn of(repository: &Repository, learning: bool) -> Self {
        // The first read most likely needs one of the dictionaries.
        let (prior, ()) = tokio::join!(repository.prior(), repository.fetch_dictionaries());
        let prior = prior.unwrap_or_else(|error| {
            tracing::warn!("cannot read which files changed together: {error}");
            None
        });
        let shipped = if learning {
            repository.shipped().await.ok().flatten()
        } else {
            None
        };
        let what = "the profile in the repository";
        let shipped = shipped.and_then(|bytes| decode(&bytes, what));
        Hints {
            prior: prior.map(Arc::new),
            shipped: shipped.map(Profile::halved),
        }
    }
}

/// Returns the hints of a repository in the form that a mount starts with.
pub async fn initial_knowledge(repository: &Repository) -> replay::InitialKnowledge {
    let Hints { prior, shipped } = Hints::of(repository, true).await;
    let profile = shipped.unwrap_or_default();
    replay::InitialKnowledge { prior, profile }
}

/// Returns the profile that earlier sessions learned for the repository `identity`.
pub fn load_profile(repository: &Repository, identity: &str) -> Option<Profile> {
    let bytes = repository.learned(identity)?;
    decode(&bytes, &format!("the learned profile of {identity}"))
}

fn decode(profile: &[u8], what: &str) -> Option<Profile> {
    let decoded = Profile::decode(profile, Limits::default());
    decoded
        .inspect_err(|error| tracing::warn!("{what} is ignored: {error}"))
        .ok()
}

/// Merges a profile into the learned one, or replaces it; returns the result.
pub fn import_profile(
    repository: &Repository,
    identity: &str,
    new: Profile,
    replace: bool,
) -> Profile {
    let known = if replace {
        None
    } else {
        load_profile(repository, identity)
    };
    let profile = match known {
        None => new,
        Some(mut known) => {
            known.merge(&new);
            known
        }
    };
    repository.set_learned(identity, &profile.encode());
    profile
}
