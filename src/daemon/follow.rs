//! Mounts that follow their branch.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Result, bail};

use super::protocol::MountRequest;
use super::state::Daemon;
use crate::fuse::MountHandle;
use crate::leases::MountLease;
use crate::repo::{Snapshot, Source};
use walrus_client::clock::unix_seconds;
use walrus_client::net::jittered;

/// Polls for a new head of one mount, and shows it.
pub(super) struct Follower {
    pub(super) daemon: Weak<Daemon>,
    /// ID of the mount.
    pub(super) mount: u64,
    pub(super) request: MountRequest,
    pub(super) handle: MountHandle,
    /// Dropped with the mount; `None` if the mount has no lease.
    pub(super) lease: Option<Weak<MountLease>>,
    pub(super) interval: Duration,
}

impl Follower {
    /// Runs until the mount is gone.
    pub(super) async fn run(self) {
        loop {
            // Jitter, so that many mounts of one branch do not poll at the same time.
            tokio::time::sleep(jittered(self.interval)).await;
            let Some(daemon) = self.daemon.upgrade() else {
                return;
            };
            if !daemon.mounts.update_follow(self.mount, |_| {}) {
                return;
            }
            let result = self.poll(&daemon).await;
            daemon
                .mounts
                .update_follow(self.mount, |status| match &result {
                    Ok(moved) => {
                        status.seen = unix_seconds();
                        status.moves += u64::from(*moved);
                        status.error = None;
                    }
                    Err(error) => status.error = Some(error.to_string()),
                });
            if let Err(error) = result {
                tracing::warn!("{} does not move: {error}", self.request.label);
            }
        }
    }

    /// Checks for a new head; returns whether the mount moved.
    async fn poll(&self, daemon: &Daemon) -> Result<bool> {
        let shown = self.handle.snapshot();
        let lease = self.lease.as_ref().map(Weak::upgrade);
        if let Some(None) = lease {
            // Unmounted.
            return Ok(false);
        }
        let lease = lease.flatten();
        if let Some(lease) = &lease {
            self.release(lease).await;
        }
        let repositories = &daemon.repositories;
        let snapshot = repositories.poll(&self.request, &shown, lease.as_ref());
        let Some(snapshot) = snapshot.await? else {
            return Ok(false);
        };
        self.reject_older(&shown, &snapshot).await?;
        let commit = snapshot.commit().id.to_string();
        let names = self.handle.move_to(snapshot).await?;
        let label = &self.request.label;
        tracing::info!("{label} moved to {commit}: {names} names changed");
        Ok(true)
    }

    /// Rejects a commit older than the shown one if the branch is resolved by a remote
    /// service, which may be behind or withhold newer commits. A local name is set only
    /// by the user, who may move it back.
    async fn reject_older(&self, shown: &Snapshot, new: &Snapshot) -> Result<()> {
        if matches!(self.request.source, Source::Object { .. })
            && new.repository().precedes(shown.repository()).await?
        {
            bail!(
                "the branch is reported at {}, an ancestor of {}: the Sui node is behind, or the \
                 branch was reset; mount it again to show that commit",
                new.commit().id,
                shown.commit().id
            );
        }
        Ok(())
    }

    /// Releases earlier heads, except those with open files. Operations that were in
    /// progress when the mount moved have ended by now.
    async fn release(&self, lease: &Arc<MountLease>) {
        if !lease.holds_several() {
            return;
        }
        let (lease, handle) = (lease.clone(), self.handle.clone());
        let released = tokio::task::spawn_blocking(move || {
            let used = handle.heads_in_use();
            lease.release(|blob| used.contains(blob))
        });
        if let Ok(Err(error)) = released.await {
            tracing::warn!("{}: earlier heads stay leased: {error}", self.request.label);
        }
    }
}
