//! Serves a mount until it ends.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;

use super::error::not_served;
use super::follow;
use super::mounts::ServedMount;
use super::protocol::MountRequest;
use super::state::Daemon;
use super::status::FollowStatus;
use crate::fuse::{self, DriverConfig, StatusSource};
use crate::leases::MountLease;
use crate::repo::Snapshot;
use walrus_client::clock::unix_seconds;

/// Serves a new mount. Returns once the kernel has received the first answer; blocks
/// until then.
pub(super) fn serve(
    daemon: &Arc<Daemon>,
    request: MountRequest,
    snapshot: Snapshot,
    lease: Option<Arc<MountLease>>,
    device: OwnedFd,
) -> Result<()> {
    let config = DriverConfig {
        deadline: daemon.repositories.deadline,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        allow_other: request.allow_other,
        may_move: request.follow.is_some(),
        learning: request.learning,
        identity: request.source.identity(),
    };
    let id = daemon.mounts.next_id();
    let status = Arc::new(StatusOfMount {
        daemon: Arc::downgrade(daemon),
        id,
    });
    let runtime = tokio::runtime::Handle::current();
    let (session, handle) =
        fuse::serve(snapshot, device, &config, runtime.clone(), status).map_err(not_served)?;
    let dir = request.mountpoint.clone();
    let every_s = request.follow;
    let mount = ServedMount {
        follow: every_s.map(|every_s| {
            Mutex::new(FollowStatus {
                every_s,
                ..FollowStatus::default()
            })
        }),
        request,
        handle,
        since: unix_seconds(),
        lease,
    };
    daemon.mounts.add(id, mount)?;
    if let Some(seconds) = every_s {
        let interval = Duration::from_secs(seconds);
        runtime.spawn(follow::run(Arc::downgrade(daemon), id, interval));
    }
    tracing::info!("serving {}", dir.display());
    let this = daemon.clone();
    let thread = std::thread::Builder::new().name(format!("mount-{id}"));
    let started = thread.spawn(move || {
        // Ended by an unmount, or by an abort of the connection.
        if let Err(error) = session.run() {
            tracing::info!("{}: {error}", dir.display());
        }
        this.mounts.remove(id);
        tracing::info!("{} is unmounted", dir.display());
    });
    started.map(drop).map_err(|error| {
        daemon.mounts.remove(id);
        not_served(error)
    })
}

/// Source of `.walgit/status` of one mount.
struct StatusOfMount {
    daemon: Weak<Daemon>,
    id: u64,
}

impl StatusSource for StatusOfMount {
    fn status(&self) -> Vec<u8> {
        let Some(daemon) = self.daemon.upgrade() else {
            return b"{}\n".to_vec();
        };
        let mount = daemon.mounts.get(self.id);
        let network = mount.as_ref().map(|mount| &mount.request.network);
        let text = serde_json::json!({
            "mount": mount.as_ref().map(|mount| mount.status()),
            "network": network.and_then(|network| daemon.repositories.health(network)),
            "cache": daemon.cache().stats(),
        });
        format!("{text:#}\n").into_bytes()
    }
}
