//! Finds, starts and queries the daemon.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::io::StreamReader;

use super::attach;
use super::daemon_dir::{ATTACH_SOCKET, CONTROL_SOCKET, DaemonDir, DaemonDirError};
use super::error::ClientError;
use super::launch::{self, Launch};
use super::lock::{self, LockRecord, LockState, Phase};
use super::protocol::{
    EncodedProfile, ImportRequest, ImportedProfile, MountRequest, PreparedMount, ProfileTarget,
    StopRequest, WarmEvent, WarmRequest,
};
use super::settings::DaemonSettings;
use super::status::DaemonStatus;
use super::transport::{self, Request, while_responsive};
use crate::cache::{ClearScope, Pin, VerifyReport};
use crate::config::{Dirs, Settings};
use crate::fuse::is_stopped;
use crate::prefetch::WarmReport;

/// Time for a new daemon to answer: opening a cache after a crash replays its log.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a command waits for a daemon that is starting or stopping.
const TRANSITION_TIMEOUT: Duration = Duration::from_secs(4);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// State of the daemon, as determined from its lock.
#[derive(Debug)]
pub enum DaemonState {
    /// No daemon is running.
    Absent,
    /// The daemon answers.
    Running(Client),
    /// A daemon is running, but is starting, stopping, unresponsive or of another version.
    Unavailable(ClientError),
}

/// A connection to a daemon that answered. Requests fail if the daemon rejects them or
/// stops answering.
#[derive(Clone, Debug)]
pub struct Client {
    dir: Arc<DaemonDir>,
    pid: u32,
    settings: Option<Box<DaemonSettings>>,
    warnings: Vec<String>,
}

impl Client {
    /// Determines whether a daemon is running and answers; takes at most a few seconds.
    pub async fn probe(dirs: &Dirs) -> Result<DaemonState, ClientError> {
        match DaemonDir::open(dirs)? {
            Some(dir) => probe(&Arc::new(dir)).await,
            None => Ok(DaemonState::Absent),
        }
    }

    /// Returns the running daemon; `None` if there is definitely none. Fails if it does not
    /// answer, has another version, or may or may not exist.
    pub async fn find(dirs: &Dirs) -> Result<Option<Client>, ClientError> {
        let start_time = Instant::now();
        loop {
            match Client::probe(dirs).await? {
                DaemonState::Absent => return Ok(None),
                DaemonState::Running(client) => return Ok(Some(client)),
                DaemonState::Unavailable(ClientError::InTransition { .. })
                    if start_time.elapsed() <= TRANSITION_TIMEOUT => {}
                DaemonState::Unavailable(error) => return Err(error),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns the running daemon; starts one if there is none.
    pub async fn connect_or_start(settings: &Settings) -> Result<Client, ClientError> {
        let start_time = Instant::now();
        let mut launch: Option<Launch> = None;
        loop {
            let state = Client::probe(&settings.dirs).await?;
            match (state, &mut launch) {
                (DaemonState::Running(mut client), launch) => {
                    match launch {
                        Some(launch) => client.warnings = launch.warnings(),
                        None => client.warnings.extend(client.other_settings(settings)),
                    }
                    return Ok(client);
                }
                // Two commands may each start a daemon; the one that survives answers.
                (DaemonState::Absent, None) => launch = Some(launch::start(settings)?),
                (DaemonState::Absent, Some(started)) => {
                    if let Some(exit) = started.early_exit() {
                        exit?;
                        launch = None;
                    }
                }
                (DaemonState::Unavailable(ClientError::InTransition { .. }), _) => {}
                (DaemonState::Unavailable(error), _) => return Err(error),
            }
            if start_time.elapsed() > START_TIMEOUT {
                return Err(match launch {
                    Some(mut launch) => launch.kill(),
                    None => Client::probe(&settings.dirs).await?.into_error(),
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns warnings for the users of the daemon.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns a message if the daemon was started with other settings.
    fn other_settings(&self, settings: &Settings) -> Option<String> {
        let running = self.settings.as_ref()?;
        let differences = running.differences(&DaemonSettings::of(settings));
        (!differences.is_empty()).then(|| {
            format!(
                "the running daemon (process {}) was started with other settings: {}; \
                 `walgit-fs daemon restart` with the same flags applies yours",
                self.pid,
                differences.join(", ")
            )
        })
    }

    /// Returns its process ID.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns its status.
    pub async fn status(&self) -> Result<DaemonStatus, ClientError> {
        self.request(Request::get("/v1/status")).await
    }

    /// Evicts everything from the cache except what `scope` keeps.
    pub async fn clear_cache(&self, scope: ClearScope) -> Result<(), ClientError> {
        self.request(Request::post("/v1/cache/clear", &scope)?)
            .await
    }

    /// Verifies the hashes of everything in the cache.
    pub async fn verify_cache(&self) -> Result<VerifyReport, ClientError> {
        self.request(Request::post("/v1/cache/verify", &())?).await
    }

    /// Returns the learned profile of a repository, encoded.
    pub async fn export(&self, target: &ProfileTarget) -> Result<Vec<u8>, ClientError> {
        let request = Request::post("/v1/learned/export", target)?;
        let profile: EncodedProfile = self.request(request).await?;
        let bytes = profile.bytes();
        bytes.ok_or_else(|| ClientError::interrupted("the answer is not a profile"))
    }

    /// Merges a profile into the learned profile of a repository, or replaces it.
    pub async fn import(
        &self,
        target: ProfileTarget,
        profile: &[u8],
        replace: bool,
    ) -> Result<ImportedProfile, ClientError> {
        let import = ImportRequest {
            subject: target,
            learned: EncodedProfile::new(profile),
            replace,
        };
        self.request(Request::post("/v1/learned/import", &import)?)
            .await
    }

    /// Fetches a file or folder of a mount into the cache, and pins it if `pin`; reports
    /// to `progress` the bytes of content that are cached, and the total.
    pub async fn warm_cache(
        &self,
        path: &Path,
        pin: bool,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<WarmReport, ClientError> {
        let path = path.to_owned();
        let request = Request::post("/v1/cache/warm", &WarmRequest { path, pin })?;
        let work = async {
            let body = self.send(request).await?.into_body().into_data_stream();
            let mut lines = StreamReader::new(body.map_err(io::Error::other)).lines();
            while let Some(line) = lines.next_line().await.map_err(ClientError::interrupted)? {
                match serde_json::from_str(&line).map_err(ClientError::interrupted)? {
                    WarmEvent::Progress(done, total) => progress(done, total),
                    WarmEvent::Done(warmed) => return Ok(warmed),
                    WarmEvent::Failed(why) => return Err(ClientError::Rejected(why)),
                }
            }
            Err(ClientError::interrupted("the response ended early"))
        };
        self.while_responsive(work).await
    }

    /// Lists the pins of the cache.
    pub async fn pins(&self) -> Result<Vec<Pin>, ClientError> {
        self.request(Request::get("/v1/cache/pins")).await
    }

    /// Removes a pin, given its name or a path in a mount; returns its name.
    pub async fn unpin(&self, path: &Path) -> Result<String, ClientError> {
        self.request(Request::post("/v1/cache/unpin", &path)?).await
    }

    /// Stops the daemon; with `if_idle`, only if it has no mounts and no work.
    pub(super) async fn stop(&self, if_idle: bool) -> Result<(), ClientError> {
        let request = Request::post("/v1/stop", &StopRequest { if_idle })?;
        self.request(request).await
    }

    /// Returns the requests of all mounts, including keys.
    pub(super) async fn mounts(&self) -> Result<Vec<MountRequest>, ClientError> {
        self.request(Request::get("/v1/mounts")).await
    }

    /// Lets the daemon open the repository of a future mount.
    pub(super) async fn prepare(
        &self,
        request: &MountRequest,
    ) -> Result<PreparedMount, ClientError> {
        self.request(Request::post("/v1/prepare", request)?).await
    }

    /// Hands a mount to the daemon. Returns a warning for the user of the mount.
    pub(super) async fn attach(
        &self,
        request: &MountRequest,
        device: OwnedFd,
    ) -> Result<Option<String>, ClientError> {
        let work = async {
            let peer = self.dir.connect(ATTACH_SOCKET).await?;
            attach::hand_over(peer.stream, request, device).await
        };
        self.while_responsive(work).await
    }

    /// Runs work that depends on the daemon's answers, and fails early if it stops
    /// answering.
    pub(super) async fn while_responsive<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        while_responsive(&self.dir, work).await
    }

    async fn request<T: DeserializeOwned>(&self, request: Request) -> Result<T, ClientError> {
        let timeout = request.timeout;
        let work = async { transport::decode(self.send(request).await?).await };
        let response = self.while_responsive(work);
        let Some(timeout) = timeout else {
            return response.await;
        };
        let response = tokio::time::timeout(timeout, response).await;
        response.unwrap_or_else(|_| {
            Err(ClientError::Unresponsive {
                pid: Some(self.pid),
                why: format!("no answer to a query within {} s", timeout.as_secs()),
            })
        })
    }

    async fn send(
        &self,
        request: Request,
    ) -> Result<hyper::Response<hyper::body::Incoming>, ClientError> {
        request.send(self.dir.connect(CONTROL_SOCKET).await?).await
    }
}

impl DaemonState {
    /// Returns the error of a command that requires a daemon in another state.
    pub(super) fn into_error(self) -> ClientError {
        match self {
            DaemonState::Absent => ClientError::interrupted("the daemon ended"),
            DaemonState::Running(_) => ClientError::interrupted("the daemon was restarted"),
            DaemonState::Unavailable(error) => error,
        }
    }
}

/// Number of attempts to connect while the lock is held but the socket is not served: one
/// daemon may have exited and another started.
const CONNECT_ATTEMPTS: usize = 5;

async fn probe(dir: &Arc<DaemonDir>) -> Result<DaemonState, ClientError> {
    use DaemonState::{Running, Unavailable};
    let mut why = String::new();
    let mut known = None;
    for _ in 0..CONNECT_ATTEMPTS {
        let holder = match lock_state(dir).await? {
            LockState::Free => return Ok(DaemonState::Absent),
            LockState::Held(holder) => holder,
        };
        known = holder.as_ref().map(|holder| holder.pid);
        match &holder {
            Some(holder) if !holder.is_compatible() => return Ok(other_version(holder)),
            // While it starts, the existing sockets belong to a dead daemon.
            Some(holder) if holder.phase != Phase::Running => {
                return Ok(Unavailable(if known.is_some_and(is_stopped) {
                    ClientError::unresponsive(known, "it is stopped".into())
                } else {
                    let phase = holder.phase;
                    ClientError::InTransition { pid: known, phase }
                }));
            }
            _ => {}
        }
        let (hello, peer) = transport::hello(dir).await;
        let pid = peer.or(known);
        match hello {
            Ok(hello) if hello.process.is_compatible() => {
                return Ok(Running(Client {
                    dir: dir.clone(),
                    pid: pid.unwrap_or(hello.process.pid),
                    settings: hello.settings.map(Box::new),
                    warnings: Vec::new(),
                }));
            }
            Ok(hello) => return Ok(other_version(&hello.process)),
            Err(error @ ClientError::Dir(DaemonDirError::Impostor { .. })) => return Err(error),
            Err(ClientError::Unresponsive { why, .. }) => {
                return Ok(Unavailable(ClientError::Unresponsive { pid, why }));
            }
            Err(error) => why = error.to_string(),
        }
        // It has not opened its sockets yet, or has removed them already.
        if holder.is_none() {
            let phase = Phase::Starting;
            return Ok(Unavailable(ClientError::InTransition { pid, phase }));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(Unavailable(ClientError::Unresponsive { pid: known, why }))
}

/// Tests whether a daemon holds the lock.
pub(super) async fn lock_state(dir: &Arc<DaemonDir>) -> Result<LockState, ClientError> {
    let dir = dir.clone();
    let state = tokio::task::spawn_blocking(move || lock::state(&dir)).await;
    Ok(state.map_err(ClientError::interrupted)??)
}

fn other_version(holder: &LockRecord) -> DaemonState {
    DaemonState::Unavailable(ClientError::OtherVersion {
        pid: Some(holder.pid),
        version: holder.version.clone(),
    })
}
