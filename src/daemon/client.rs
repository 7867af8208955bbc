//! Finds, starts and queries the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::control::{Prepared, StopRequest};
use super::launch::{self, Ended, Launched};
use super::learned::{Import, Imported, Learned, Subject};
use super::location::{ATTACH, CONTROL, Location, LocationError};
use super::lock::{self, Held, Holder, Phase};
use super::transport::{self, Call, PATIENCE, decoded, gone, watched};
use super::warming::{Told, WarmRequest};
use super::{DaemonSettings, DaemonStatus, MountRequest, attach};
use crate::cache::{ClearScope, Pin, VerifyReport};
use crate::config::{Dirs, Settings};
use crate::fuse::is_stopped;
use crate::prefetch::Warmed;

/// Time for a new daemon to answer: opening a cache after a crash replays its log.
const START: Duration = Duration::from_secs(30);
/// How long a command waits for a daemon that is starting or stopping.
const TRANSITION: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(20);

/// Reason why the daemon did not serve a request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon refused, with this reason.
    #[error("{0}")]
    Refused(String),
    /// The daemon is running but does not answer.
    #[error("{}", unresponsive(*pid, why))]
    Unresponsive {
        /// Process ID, if known.
        pid: Option<u32>,
        /// The reason.
        why: String,
    },
    /// The daemon is starting or stopping, and takes long.
    #[error("the walgit-fs daemon{} is {phase}; try again in a moment", process(*pid))]
    InTransition {
        /// Process ID, if known.
        pid: Option<u32>,
        /// `starting` or `stopping`.
        phase: &'static str,
    },
    /// The daemon has another version.
    #[error(
        "the running walgit-fs daemon{} is version {version}, this is {}; replace it with `walgit-fs daemon restart`",
        process(*pid),
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion {
        /// Process ID, if known.
        pid: Option<u32>,
        /// Its version.
        version: String,
    },
    /// The daemon exited during the request, or its answer is invalid.
    #[error("the walgit-fs daemon did not complete the request ({0}); try again")]
    Gone(String),
    /// The daemon did not start.
    #[error("the walgit-fs daemon did not start: {why} (its log: {})", log.display())]
    Start {
        /// Its last message.
        why: String,
        /// Path of its log.
        log: PathBuf,
    },
    /// The daemon was asked to exit and did not.
    #[error("the walgit-fs daemon{} was told to end and has not; end it with `{}`", process(*pid), kill(*pid))]
    Stuck {
        /// Process ID, if known.
        pid: Option<u32>,
    },
    /// Its directory or a socket in it cannot be trusted or used.
    #[error(transparent)]
    Location(#[from] LocationError),
}

impl ClientError {
    /// The error for a daemon that does not answer.
    pub(super) fn silent(pid: Option<u32>) -> Self {
        let why = match pid {
            Some(pid) if is_stopped(pid) => STOPPED.into(),
            _ => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        ClientError::Unresponsive { pid, why }
    }
}

const STOPPED: &str = "it is stopped";

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn kill(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "kill -KILL PID".into(),
        |pid| format!("kill -KILL {pid}"),
    )
}

fn unresponsive(pid: Option<u32>, why: &str) -> String {
    let remedy = match pid {
        Some(pid) if why == STOPPED => format!("resume it with `kill -CONT {pid}`, or end it"),
        _ => "end it".into(),
    };
    let or_kill = pid.map_or_else(String::new, |pid| format!(" or `kill -KILL {pid}`"));
    format!(
        "the walgit-fs daemon{} does not answer: {why}; {remedy} with `walgit-fs daemon stop`{or_kill} and mount again",
        process(pid)
    )
}

/// State of the daemon, as determined from its lock.
#[derive(Clone, Debug)]
pub enum DaemonState {
    /// No daemon is running.
    Absent,
    /// The daemon is opening the cache.
    Starting {
        /// Process ID, if known.
        pid: Option<u32>,
    },
    /// The daemon answers.
    Running(Client),
    /// The daemon is unmounting everything and closing the cache.
    Stopping {
        /// Process ID, if known.
        pid: Option<u32>,
    },
    /// The daemon is running but does not answer.
    Unresponsive {
        /// Process ID, if known.
        pid: Option<u32>,
        /// The reason.
        why: String,
    },
    /// The daemon has another version, and is not queried.
    OtherVersion {
        /// Process ID, if known.
        pid: Option<u32>,
        /// Its version.
        version: String,
    },
}

/// A connection to a daemon that answered.
#[derive(Clone, Debug)]
pub struct Client {
    location: Arc<Location>,
    pid: u32,
    settings: Option<Box<DaemonSettings>>,
    warnings: Vec<String>,
}

impl Client {
    /// Determines whether a daemon is running and answers; takes at most a few seconds.
    ///
    /// # Errors
    /// When that is impossible: its directory cannot be opened or trusted, or another
    /// user listens on its socket.
    pub async fn probe(dirs: &Dirs) -> Result<DaemonState, ClientError> {
        match Location::open(dirs)? {
            Some(location) => probe(&Arc::new(location)).await,
            None => Ok(DaemonState::Absent),
        }
    }

    /// Returns the running daemon; `None` if there is definitely none.
    ///
    /// # Errors
    /// When it does not answer, has another version, or may or may not exist.
    pub async fn find(dirs: &Dirs) -> Result<Option<Client>, ClientError> {
        let begun = Instant::now();
        loop {
            match Client::probe(dirs).await? {
                DaemonState::Absent => return Ok(None),
                DaemonState::Running(client) => return Ok(Some(client)),
                state if begun.elapsed() > TRANSITION => return Err(state.into_error()),
                DaemonState::Starting { .. } | DaemonState::Stopping { .. } => {}
                state => return Err(state.into_error()),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns the running daemon; starts one if there is none.
    ///
    /// # Errors
    /// [`ClientError::Start`] with its message, and the errors of [`Client::find`].
    pub async fn connect_or_start(settings: &Settings) -> Result<Client, ClientError> {
        let begun = Instant::now();
        let mut child: Option<Launched> = None;
        loop {
            let state = Client::probe(&settings.dirs).await?;
            match (state, &mut child) {
                (DaemonState::Running(mut client), child) => {
                    match child {
                        Some(launched) => client.warnings = launched.warnings(),
                        None => client.warnings.extend(client.other_settings(settings)),
                    }
                    return Ok(client);
                }
                // Two commands may each start a daemon; the one that survives answers.
                (DaemonState::Absent, None) => child = Some(launch::start(settings)?),
                (DaemonState::Absent, Some(launched)) => match launched.ended() {
                    None => {}
                    Some(Ended::Superseded) => child = None,
                    Some(Ended::Failed(error)) => return Err(error),
                },
                (DaemonState::Starting { .. } | DaemonState::Stopping { .. }, _) => {}
                (state, _) => return Err(state.into_error()),
            }
            if begun.elapsed() > START {
                return Err(match child {
                    Some(mut launched) => launched.give_up(),
                    None => Client::probe(&settings.dirs).await?.into_error(),
                });
            }
            tokio::time::sleep(PAUSE).await;
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
    ///
    /// # Errors
    /// When the daemon is gone.
    pub async fn status(&self) -> Result<DaemonStatus, ClientError> {
        self.ask(Call::get("/v1/status")).await
    }

    /// Evicts everything from the cache except `keep`.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn clear_cache(&self, scope: ClearScope) -> Result<(), ClientError> {
        self.ask(Call::post("/v1/cache/clear", &scope)?).await
    }

    /// Verifies the hashes of everything in the cache.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn verify_cache(&self) -> Result<VerifyReport, ClientError> {
        self.ask(Call::post("/v1/cache/verify", &())?).await
    }

    /// Returns the learned profile of a repository, encoded.
    ///
    /// # Errors
    /// When nothing was learned, or the repository cannot be opened.
    pub async fn export(&self, subject: &Subject) -> Result<Vec<u8>, ClientError> {
        let learned: Learned = self.ask(Call::post("/v1/learned/export", subject)?).await?;
        (learned.bytes()).ok_or_else(|| gone(&"its answer is not a profile"))
    }

    /// Merges a profile into the learned profile of a repository, or replaces it.
    ///
    /// # Errors
    /// When it is not a valid profile, or the repository cannot be opened.
    pub async fn import(
        &self,
        subject: Subject,
        profile: &[u8],
        replace: bool,
    ) -> Result<Imported, ClientError> {
        let import = Import::new(subject, profile, replace);
        self.ask(Call::post("/v1/learned/import", &import)?).await
    }

    /// Fetches a file or folder of a mount into the cache, and pins it if `pin`; reports
    /// to `progress` the bytes of content that are cached, and the total.
    ///
    /// # Errors
    /// When the path is not in a mount, or something cannot be read or stored.
    pub async fn warm_cache(
        &self,
        path: &Path,
        pin: bool,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Warmed, ClientError> {
        let path = path.to_owned();
        let call = Call::post("/v1/cache/warm", &WarmRequest { path, pin })?;
        let work = async {
            let mut body = self.send(call).await?.into_body();
            let mut text: Vec<u8> = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| gone(&error))?;
                text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    match serde_json::from_slice(&line) {
                        Ok(Told::Progress(done, all)) => progress(done, all),
                        Ok(Told::Done(warmed)) => return Ok(warmed),
                        Ok(Told::Failed(why)) => return Err(ClientError::Refused(why)),
                        Err(error) => return Err(gone(&error)),
                    }
                }
            }
            Err(gone(&"it stopped in the middle"))
        };
        watched(&self.location, work).await
    }

    /// Lists the pins of the cache.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn pins(&self) -> Result<Vec<Pin>, ClientError> {
        self.ask(Call::get("/v1/cache/pins")).await
    }

    /// Removes a pin, given its name or a path in a mount; returns its name.
    ///
    /// # Errors
    /// When there is no such pin.
    pub async fn unpin(&self, path: &Path) -> Result<String, ClientError> {
        self.ask(Call::post("/v1/cache/unpin", &path)?).await
    }

    /// Stops the daemon; with `if_idle`, only if it has no mounts and no work.
    ///
    /// # Errors
    /// When it is in use, or gone already.
    pub(super) async fn stop(&self, if_idle: bool) -> Result<(), ClientError> {
        self.ask(Call::post("/v1/stop", &StopRequest { if_idle })?)
            .await
    }

    /// Returns the requests of all mounts, including keys.
    pub(super) async fn mounts(&self) -> Result<Vec<MountRequest>, ClientError> {
        self.ask(Call::get("/v1/mounts")).await
    }

    /// Lets the daemon open the repository of a future mount.
    pub(super) async fn prepare(&self, request: &MountRequest) -> Result<Prepared, ClientError> {
        self.ask(Call::post("/v1/prepare", request)?).await
    }

    /// Hands a mount to the daemon. Returns a warning for the user of the mount.
    pub(super) async fn attach(
        &self,
        request: &MountRequest,
        device: std::os::fd::OwnedFd,
    ) -> Result<Option<String>, ClientError> {
        let work = async {
            let peer = self.location.connect(ATTACH).await?;
            attach::hand_over(peer.stream, request, device).await
        };
        watched(&self.location, work).await
    }

    /// Runs work that depends on the daemon's answers, and fails early if it stops
    /// answering.
    pub(super) async fn watching<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        watched(&self.location, work).await
    }

    async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let limit = call.limit;
        let work = async { decoded(self.send(call).await?).await };
        let watched = watched(&self.location, work);
        let Some(limit) = limit else {
            return watched.await;
        };
        let answer = tokio::time::timeout(limit, watched).await;
        answer.unwrap_or_else(|_| {
            Err(ClientError::Unresponsive {
                pid: Some(self.pid),
                why: format!("no answer to a question within {} s", limit.as_secs()),
            })
        })
    }

    async fn send(&self, call: Call) -> Result<transport::Answer, ClientError> {
        call.send(self.location.connect(CONTROL).await?).await
    }
}

impl DaemonState {
    /// Returns the error of a command that requires a daemon in another state.
    pub fn into_error(self) -> ClientError {
        match self {
            DaemonState::Absent => gone(&"it ended"),
            DaemonState::Running(_) => gone(&"it runs again"),
            DaemonState::Starting { pid } => ClientError::InTransition {
                pid,
                phase: "starting",
            },
            DaemonState::Stopping { pid } => ClientError::InTransition {
                pid,
                phase: "stopping",
            },
            DaemonState::Unresponsive { pid, why } => ClientError::Unresponsive { pid, why },
            DaemonState::OtherVersion { pid, version } => {
                ClientError::OtherVersion { pid, version }
            }
        }
    }
}

/// Number of attempts to connect while the lock is held but the socket is not served: one
/// daemon may have exited and another started.
const TRIES: usize = 5;

async fn probe(location: &Arc<Location>) -> Result<DaemonState, ClientError> {
    let mut why = String::new();
    let mut known = None;
    for _ in 0..TRIES {
        let holder = match look(location).await? {
            Held::No => return Ok(DaemonState::Absent),
            Held::By(holder) => holder,
        };
        known = holder.as_ref().map(|holder| holder.pid);
        match &holder {
            Some(holder) if !holder.is_compatible() => return Ok(other_version(holder)),
            Some(holder) if holder.phase == Phase::Stopping => {
                return Ok(transition(known, |pid| DaemonState::Stopping { pid }));
            }
            // The existing sockets belong to a dead daemon.
            Some(holder) if holder.phase == Phase::Starting => {
                return Ok(transition(known, |pid| DaemonState::Starting { pid }));
            }
            _ => {}
        }
        let (said, peer) = transport::hello(location).await;
        let pid = peer.or(known);
        match said {
            Ok(hello) if hello.holder.is_compatible() => {
                return Ok(DaemonState::Running(Client {
                    location: location.clone(),
                    pid: pid.unwrap_or(hello.holder.pid),
                    settings: hello.settings.map(Box::new),
                    warnings: Vec::new(),
                }));
            }
            Ok(hello) => return Ok(other_version(&hello.holder)),
            Err(error @ ClientError::Location(LocationError::Impostor { .. })) => {
                return Err(error);
            }
            Err(ClientError::Unresponsive { why, .. }) => {
                return Ok(DaemonState::Unresponsive { pid, why });
            }
            Err(error) => why = error.to_string(),
        }
        // It has not opened its sockets yet, or has removed them already.
        if holder.is_none() {
            return Ok(DaemonState::Starting { pid });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(DaemonState::Unresponsive { pid: known, why })
}

pub(super) async fn look(location: &Arc<Location>) -> Result<Held, ClientError> {
    let location = location.clone();
    let looked = tokio::task::spawn_blocking(move || lock::look(&location)).await;
    Ok(looked.map_err(|error| gone(&error))??)
}

fn other_version(holder: &Holder) -> DaemonState {
    DaemonState::OtherVersion {
        pid: Some(holder.pid),
        version: holder.version.clone(),
    }
}

/// The state of a daemon in transition, unless its process is stopped (SIGSTOP).
fn transition(pid: Option<u32>, state: impl Fn(Option<u32>) -> DaemonState) -> DaemonState {
    if pid.is_some_and(is_stopped) {
        let why = STOPPED.into();
        DaemonState::Unresponsive { pid, why }
    } else {
        state(pid)
    }
}
