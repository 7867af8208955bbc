//! Keeps the daemon discoverable: its directory, lock and sockets.
//!
//! The cache directory may be removed or moved while the daemon is running. Then commands
//! would not find the daemon: each would report that no daemon is running, and a mount
//! would start another one. So the daemon checks every [`LOOK`] whether the path still
//! leads to its lock and its sockets, and recreates them if not. During this interval,
//! commands may report that no daemon is running. If another daemon has taken the lock by
//! then, this one serves its mounts until they end; `status` shows its process ID with
//! each folder.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::control::{self, Hello};
use super::location::{ATTACH, CONTROL, Location, LocationError};
use super::lock::{Lock, Phase};
use super::mounts::Mounts;
use super::{DaemonSettings, attach};
use crate::config::Dirs;

/// Interval of the checks of the path.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// The directory of this daemon.
pub(super) struct Place {
    dirs: Dirs,
    location: Location,
    lock: Lock,
    served: Option<Served>,
}

/// The sockets that are served, and their tasks.
struct Served {
    mounts: Arc<Mounts>,
    stop: Arc<Notify>,
    settings: DaemonSettings,
    tasks: [AbortHandle; 2],
}

impl Place {
    pub(super) fn new(dirs: &Dirs, location: Location, lock: Lock) -> Self {
        Place {
            dirs: dirs.clone(),
            location,
            lock,
            served: None,
        }
    }

    /// Listens on the sockets. The lock is held, so existing sockets belong to a dead
    /// daemon.
    pub(super) fn serve(
        &mut self,
        mounts: Arc<Mounts>,
        stop: Arc<Notify>,
        settings: DaemonSettings,
    ) -> Result<(), LocationError> {
        let [control, attach] = [
            self.location.listen(CONTROL)?,
            self.location.listen(ATTACH)?,
        ];
        self.lock.enter(Phase::Running);
        let hello = Hello {
            holder: self.lock.holder().clone(),
            settings: Some(settings.clone()),
        };
        let tasks = [
            tokio::spawn(attach::serve(attach, mounts.clone())).abort_handle(),
            tokio::spawn(control::serve(control, mounts.clone(), stop.clone(), hello))
                .abort_handle(),
        ];
        if let Some(before) = self.served.take() {
            before.tasks.iter().for_each(AbortHandle::abort);
        }
        self.served = Some(Served {
            mounts,
            stop,
            settings,
            tasks,
        });
        Ok(())
    }

    /// Recreates files that were removed; returns whether there were any. Blocks.
    ///
    /// # Errors
    /// When that fails: try again later.
    pub(super) fn restore(&mut self) -> Result<bool, LocationError> {
        let is_ours = self.is_ours();
        let sockets = [CONTROL, ATTACH].map(|name| self.location.named(name));
        if is_ours && sockets.iter().all(|socket| socket.exists()) {
            return Ok(false);
        }
        if !is_ours {
            let location = Location::create(&self.dirs)?;
            let Some(lock) = Lock::take(&location)? else {
                return Ok(false);
            };
            (self.location, self.lock) = (location, lock);
        }
        if let Some(served) = &self.served {
            let (mounts, stop) = (served.mounts.clone(), served.stop.clone());
            let settings = served.settings.clone();
            self.serve(mounts, stop, settings)?;
        }
        Ok(true)
    }

    /// Whether commands find the lock of this daemon, rather than none or another.
    fn is_ours(&self) -> bool {
        self.lock.is_at(&self.location)
    }

    /// Records that the daemon is stopping.
    pub(super) fn leave(&mut self) {
        self.lock.enter(Phase::Stopping);
    }

    /// Removes the sockets.
    pub(super) fn clear(&self) {
        // They may belong to another daemon.
        if self.is_ours() {
            for socket in [CONTROL, ATTACH] {
                self.location.remove(socket);
            }
        }
    }
}
