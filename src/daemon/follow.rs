//! Mounts that follow their branch.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Result, bail};

use super::mounts::ServedMount;
use super::repositories::Repositories;
use super::state::Daemon;
use crate::leases::MountLease;
use crate::repo::{Snapshot, Source};
use walrus_client::clock::unix_seconds;
use walrus_client::net::jittered;

/// Polls for a new head of one mount, and shows it, until the mount is gone.
pub(super) async fn run(daemon: Weak<Daemon>, mount: u64, interval: Duration) {
    loop {
        // Jitter, so that many mounts of one branch do not poll at the same time.
        tokio::time::sleep(jittered(interval)).await;
        let Some(daemon) = daemon.upgrade() else {
            return;
        };
        let Some(mount) = daemon.mounts.get(mount) else {
            return;
        };
        let result = poll(&daemon.repositories, &mount).await;
        if let Err(error) = &result {
            tracing::warn!("{} does not move: {error}", mount.request.label);
        }
        if let Some(follow) = &mount.follow {
            let mut status = follow.lock();
            status.error = result.as_ref().err().map(ToString::to_string);
            if let Ok(moved) = result {
                status.seen = unix_seconds();
                status.moves += u64::from(moved);
            }
        }
    }
}

/// Checks for a new head; returns whether the mount moved.
async fn poll(repositories: &Repositories, mount: &ServedMount) -> Result<bool> {
    let shown = mount.handle.snapshot();
    if let Some(lease) = &mount.lease {
        release(lease, mount).await;
    }
    let polled = repositories.poll(&mount.request, &shown, mount.lease.as_ref());
    let Some(snapshot) = polled.await? else {
        return Ok(false);
    };
    reject_older(&mount.request.source, &shown, &snapshot).await?;
    let commit = snapshot.commit().id.to_string();
    let names = mount.handle.move_to(snapshot).await?;
    let label = &mount.request.label;
    tracing::info!("{label} moved to {commit}: {names} names changed");
    Ok(true)
}

/// Rejects a commit older than the shown one if the branch is resolved by a remote
/// service, which may be behind or withhold newer commits. A local name is set only by the
/// user, who may move it back.
async fn reject_older(source: &Source, shown: &Snapshot, new: &Snapshot) -> Result<()> {
    if matches!(source, Source::Object { .. })
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

/// Releases earlier heads, except those with open files. Operations that were in progress
/// when the mount moved have ended by now.
async fn release(lease: &Arc<MountLease>, mount: &ServedMount) {
    if !lease.holds_several() {
        return;
    }
    let (lease, handle) = (lease.clone(), mount.handle.clone());
    let released = tokio::task::spawn_blocking(move || {
        let used = handle.heads_in_use();
        lease.release(|blob| used.contains(blob))
    });
    if let Ok(Err(error)) = released.await {
        let label = &mount.request.label;
        tracing::warn!("{label}: earlier heads stay leased: {error}");
    }
}
