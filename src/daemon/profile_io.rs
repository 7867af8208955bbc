//! Export and import of learned profiles.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};

use super::protocol::{EncodedProfile, ImportRequest, ImportedProfile, ProfileTarget};
use super::state::Daemon;
use crate::fuse::MountHandle;
use crate::prefetch::{import_profile, load_profile};
use crate::repo::Repository;
use walgit_prefetch::Profile;
use walgit_prefetch::model::Limits;

/// A repository with a learned profile.
struct ProfileOwner {
    /// Persistent identity of the repository.
    identity: String,
    repository: Repository,
    /// Its live mounts.
    mounts: Vec<MountHandle>,
}

impl Daemon {
    /// Finds the repository of a learned profile, and its live mounts.
    async fn profile_target(&self, target: &ProfileTarget) -> Result<ProfileOwner> {
        let _keep_alive = self.mounts.keep_alive();
        let mounts = self.mounts.map(|mount| {
            let identity = mount.request.source.identity();
            (
                mount.request.mountpoint.clone(),
                identity,
                mount.handle.clone(),
            )
        });
        let identity = match target {
            ProfileTarget::Repository { source, .. } => source.identity(),
            ProfileTarget::Mount(dir) => {
                let mount = mounts.iter().find(|(mountpoint, ..)| mountpoint == dir);
                let mount = mount.ok_or_else(|| not_mounted(dir))?;
                mount.1.clone()
            }
        };
        let mounts = mounts.into_iter().filter(|mount| mount.1 == identity);
        let mounts: Vec<MountHandle> = mounts.map(|(.., handle)| handle).collect();
        let repository = match (mounts.first(), target) {
            (Some(handle), _) => handle.snapshot().repository().clone(),
            (None, ProfileTarget::Mount(dir)) => return Err(not_mounted(dir)),
            (
                None,
                ProfileTarget::Repository {
                    source,
                    network,
                    keys,
                },
            ) => {
                self.repositories
                    .open_unmounted(source, network, keys)
                    .await?
            }
        };
        Ok(ProfileOwner {
            identity,
            repository,
            mounts,
        })
    }

    /// Returns the learned profile of a repository, including data of its live mounts.
    pub(super) async fn export(&self, target: &ProfileTarget) -> Result<EncodedProfile> {
        let target = self.profile_target(target).await?;
        let live = (target.mounts.iter()).find_map(|mount| mount.prefetch_driver()?.profile());
        let profile = live.or_else(|| load_profile(&target.repository, &target.identity));
        let profile = profile.filter(|profile| profile.model.transitions() > 0);
        let profile = profile.with_context(|| {
            let identity = target.identity;
            format!("nothing has been learned about {identity} yet; mount it and use it first")
        })?;
        Ok(EncodedProfile::new(&profile.encode()))
    }

    /// Imports a profile. Live mounts use it immediately.
    pub(super) async fn import(&self, request: ImportRequest) -> Result<ImportedProfile> {
        let bytes = request.learned.bytes().unwrap_or_default();
        let new = Profile::decode(&bytes, Limits::default())?;
        let target = self.profile_target(&request.subject).await?;
        let drivers = target
            .mounts
            .iter()
            .filter_map(MountHandle::prefetch_driver);
        let updated = drivers.filter(|driver| driver.import(&new, request.replace));
        let mounts = updated.count() as u64;
        let profile = import_profile(&target.repository, &target.identity, new, request.replace);
        Ok(ImportedProfile::new(target.identity, &profile, mounts))
    }
}

fn not_mounted(dir: &Path) -> anyhow::Error {
    anyhow!("{} is not mounted; see walgit-fs status", dir.display())
}
