//! Keeps the daemon discoverable: its directory, lock and sockets.
//!
//! The cache directory may be removed or moved while the daemon is running. Then commands
//! would not find the daemon: each would report that no daemon is running, and a mount
//! would start another one. So the daemon checks every [`CHECK_INTERVAL`] whether the path still
//! leads to its lock and its sockets, and recreates them if not. During this interval,
//! commands may report that no daemon is running. If another daemon has taken the lock by
//! then, this one serves its mounts until they end; `status` shows its process ID with
//! each folder.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::daemon_dir::{ATTACH_SOCKET, CONTROL_SOCKET, DaemonDir, DaemonDirError};
use super::lock::{DaemonLock, Phase};
use super::protocol::Hello;
use super::settings::DaemonSettings;
use super::state::Daemon;
use super::{attach, control};
use crate::config::Dirs;

/// Interval of the checks of the path.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The directory of this daemon.
pub(super) struct Discovery {
    dirs: Dirs,
    dir: DaemonDir,
    lock: DaemonLock,
    /// The service, and the tasks of its sockets.
    served: Option<(Service, [AbortHandle; 2])>,
}

/// What the sockets serve.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) daemon: Arc<Daemon>,
    pub(super) stop: Arc<Notify>,
    pub(super) settings: DaemonSettings,
}

impl Discovery {
    pub(super) fn new(dirs: &Dirs, dir: DaemonDir, lock: DaemonLock) -> Self {
        Discovery {
            dirs: dirs.clone(),
            dir,
            lock,
            served: None,
        }
    }

    /// Listens on the sockets. The lock is held, so existing sockets belong to a dead
    /// daemon.
    pub(super) fn serve(&mut self, service: Service) -> Result<(), DaemonDirError> {
        let control = self.dir.listen(CONTROL_SOCKET)?;
        let attach = self.dir.listen(ATTACH_SOCKET)?;
        self.lock.set_phase(Phase::Running);
        let hello = Hello {
            process: self.lock.record().clone(),
            settings: Some(service.settings.clone()),
        };
        let (daemon, stop) = (service.daemon.clone(), service.stop.clone());
        let tasks = [
            tokio::spawn(attach::serve(attach, daemon.clone())).abort_handle(),
            tokio::spawn(control::serve(control, daemon, stop, hello)).abort_handle(),
        ];
        if let Some((_, tasks)) = self.served.replace((service, tasks)) {
            tasks.iter().for_each(AbortHandle::abort);
        }
        Ok(())
    }

    /// Recreates files that were removed; returns whether there were any. Blocks.
    pub(super) fn restore(&mut self) -> Result<bool, DaemonDirError> {
        let is_ours = self.is_ours();
        let sockets = [CONTROL_SOCKET, ATTACH_SOCKET].map(|name| self.dir.named(name));
        if is_ours && sockets.iter().all(|socket| socket.exists()) {
            return Ok(false);
        }
        if !is_ours {
            let dir = DaemonDir::create(&self.dirs)?;
            let Some(lock) = DaemonLock::take(&dir)? else {
                return Ok(false);
            };
            (self.dir, self.lock) = (dir, lock);
        }
        if let Some((service, _)) = &self.served {
            self.serve(service.clone())?;
        }
        Ok(true)
    }

    /// Whether commands find the lock of this daemon, rather than none or another.
    fn is_ours(&self) -> bool {
        self.lock.is_at(&self.dir)
    }

    /// Records that the daemon is stopping.
    pub(super) fn set_stopping(&mut self) {
        self.lock.set_phase(Phase::Stopping);
    }

    /// Removes the sockets.
    pub(super) fn remove_sockets(&self) {
        // They may belong to another daemon.
        if self.is_ours() {
            for socket in [CONTROL_SOCKET, ATTACH_SOCKET] {
                self.dir.remove(socket);
            }
        }
    }
}
