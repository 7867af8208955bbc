//! Export and import of learned profiles.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::DaemonError;
use super::mounts::Mounts;
use crate::prefetch::{import, learned};
use crate::repo::Source;
use walgit_format::chunk::SecretKey;
use walgit_prefetch::Profile;
use walgit_prefetch::model::Limits;
use walrus_client::network::Network;

/// The repository of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// The repository mounted on this folder.
    Mount(PathBuf),
    /// The repository at an address.
    Repository {
        /// Location of the repository.
        source: Source,
        /// Network of its blobs.
        network: Box<Network>,
        /// Keys of encrypted content.
        keys: Vec<SecretKey>,
    },
}

/// A learned profile, as text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Learned {
    profile: String,
}

/// A profile to import.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Import {
    subject: Subject,
    learned: Learned,
    replace: bool,
}

/// Result of an import.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Imported {
    /// Persistent identity of the repository.
    pub identity: String,
    /// Total number of known transitions.
    pub transitions: u64,
    /// Total number of known paths.
    pub paths: u64,
    /// Number of mounts that now use the profile.
    pub mounts: u64,
}

impl Learned {
    pub(super) fn of(profile: &[u8]) -> Self {
        Learned {
            profile: STANDARD.encode(profile),
        }
    }

    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.profile).ok()
    }
}

impl Import {
    pub(super) fn new(subject: Subject, profile: &[u8], replace: bool) -> Self {
        Import {
            subject,
            learned: Learned::of(profile),
            replace,
        }
    }
}

impl Imported {
    /// Describes a profile after an import.
    pub fn new(identity: String, profile: &Profile, mounts: u64) -> Self {
        Imported {
            identity,
            transitions: profile.model.transitions() as u64,
            paths: profile.model.paths() as u64,
            mounts,
        }
    }
}

impl Mounts {
    /// Returns the learned profile of a repository, including data of its live mounts.
    pub(super) async fn export(&self, subject: &Subject) -> Result<Learned, DaemonError> {
        let known = self.subject(subject).await?;
        let live = known
            .handles
            .iter()
            .find_map(|handle| handle.guide()?.learned());
        let profile = live.or_else(|| learned(&known.repository, &known.identity));
        let profile = profile.filter(|profile| profile.model.transitions() > 0);
        let profile = profile.ok_or(DaemonError::NothingLearned(known.identity))?;
        Ok(Learned::of(&profile.encode()))
    }

    /// Imports a profile. Live mounts use it immediately.
    pub(super) async fn import(&self, import_: Import) -> Result<Imported, DaemonError> {
        let bytes = import_.learned.bytes().unwrap_or_default();
        let new = Profile::decode(&bytes, Limits::default())?;
        let known = self.subject(&import_.subject).await?;
        let guides = known.handles.iter().filter_map(|handle| handle.guide());
        let taught = guides.filter(|guide| guide.teach(&new, import_.replace));
        let mounts = taught.count() as u64;
        let profile = import(&known.repository, &known.identity, new, import_.replace);
        Ok(Imported::new(known.identity, &profile, mounts))
    }
}
