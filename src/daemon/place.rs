//! Where commands find a living daemon: its directory, lock and sockets.
//!
//! Somebody may remove or move the cache directory while the daemon runs. Then no
//! command would find the daemon: each would say that none runs, and a mount would
//! start another one. So the daemon looks every [`LOOK`] whether the path still leads
//! to its lock and its sockets, and makes them again where it does not. For that long
//! commands may say that none runs. Where another daemon has the lock by then, this
//! one serves its mounts to their end; `status` names its process with each folder.

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

/// How often it is looked whether the path still leads here.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// The place of this daemon.
pub(super) struct Place {
    dirs: Dirs,
    location: Location,
    lock: Lock,
    served: Option<Served>,
}

/// What is served, and by which tasks.
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

    /// Listens on the sockets. The lock is held, so whatever is left there is of a
    /// daemon that died.
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

    /// Makes again what was removed; whether anything was. Blocks.
    ///
    /// # Errors
    /// When that is impossible: it is to be tried again.
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

    /// Whether commands find the lock of this daemon, and not none or that of another.
    fn is_ours(&self) -> bool {
        self.lock.is_at(&self.location)
    }

    /// Says that the daemon ends.
    pub(super) fn leave(&mut self) {
        self.lock.enter(Phase::Stopping);
    }

    /// Removes the sockets.
    pub(super) fn clear(&self) {
        // Those of another daemon may be there.
        if self.is_ours() {
            for socket in [CONTROL, ATTACH] {
                self.location.remove(socket);
            }
        }
    }
}
