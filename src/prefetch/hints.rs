//! What is known of a repository beyond what this session shows: what earlier
//! ones learned, and what the repository itself carries along.

use std::sync::Arc;

use crate::repo::Repository;
use walgit_format::Prior;
use walgit_prefetch::model::Limits;
use walgit_prefetch::{Profile, replay};

/// What a repository carries along for whoever has not learned anything yet.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Which files changed together.
    pub(super) prior: Option<Arc<Prior>>,
    /// What somebody else learned, believed half.
    pub(super) shipped: Option<Profile>,
}

impl Hints {
    /// Reads what a repository carries: the profile only where `learning` from
    /// others is wanted. What cannot be read is done without.
    pub(super) async fn of(repository: &Repository, learning: bool) -> Self {
        // Whatever is read first needs one of the dictionaries, most likely.
        let (prior, ()) = tokio::join!(repository.prior(), repository.fetch_dictionaries());
        let prior = prior.unwrap_or_else(|error| {
            tracing::warn!("what changed together is not known: {error}");
            None
        });
        let shipped = match learning {
            true => repository.shipped().await.ok().flatten(),
            false => None,
        };
        let shipped = shipped.and_then(|bytes| {
            let read = Profile::decode(&bytes, Limits::default());
            read.inspect_err(|error| tracing::warn!("what is carried along is lost: {error}"))
                .ok()
        });
        Hints {
            prior: prior.map(Arc::new),
            shipped: shipped.map(Profile::halved),
        }
    }
}

/// The hints that a repository carries, as a mount begins with them.
pub async fn carried(repository: &Repository) -> replay::Known {
    let Hints { prior, shipped } = Hints::of(repository, true).await;
    let profile = shipped.unwrap_or_default();
    replay::Known { prior, profile }
}

/// What earlier sessions learned about the repository called `identity`.
pub fn learned(repository: &Repository, identity: &str) -> Option<Profile> {
    let bytes = repository.learned(identity)?;
    match Profile::decode(&bytes, Limits::default()) {
        Ok(profile) => Some(profile),
        Err(error) => {
            tracing::warn!("what was learned about {identity} is lost: {error}");
            None
        }
    }
}

/// Adds a profile to what earlier sessions learned, or puts it in its place;
/// what is known then.
pub fn import(repository: &Repository, identity: &str, new: Profile, replace: bool) -> Profile {
    let known = match replace {
        true => None,
        false => learned(repository, identity),
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
