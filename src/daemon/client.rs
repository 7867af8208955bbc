//! Finding the daemon, starting it where none runs, and asking it.

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
use crate::cache::{Keep, Pin, VerifyReport};
use crate::config::{Dirs, Settings};
use crate::fuse::is_stopped;
use crate::prefetch::Warmed;

/// How long a new daemon may take to answer: opening a cache after a crash
/// replays its log.
const START: Duration = Duration::from_secs(30);
/// How long a command waits for a daemon that starts or ends.
const TRANSITION: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(20);

/// Why the daemon did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It said why.
    #[error("{0}")]
    Refused(String),
    /// It runs and does not answer.
    #[error("{}", unresponsive(*pid, why))]
    Unresponsive {
        /// Its process, where that is known.
        pid: Option<u32>,
        /// What is wrong with it.
        why: String,
    },
    /// It starts or ends at this moment, and takes its time.
    #[error("the walgit-fs daemon{} is {phase}; try again in a moment", process(*pid))]
    InTransition {
        /// Its process, where that is known.
        pid: Option<u32>,
        /// `starting` or `stopping`.
        phase: &'static str,
    },
    /// It is of another version.
    #[error(
        "the running walgit-fs daemon{} is version {version}, this is {}; replace it with `walgit-fs daemon restart`",
        process(*pid),
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion {
        /// Its process, where that is known.
        pid: Option<u32>,
        /// Its version.
        version: String,
    },
    /// It ended while it was asked, or its answer makes no sense.
    #[error("the walgit-fs daemon did not complete the request ({0}); try again")]
    Gone(String),
    /// It did not start.
    #[error("the walgit-fs daemon did not start: {why} (its log: {})", log.display())]
    Start {
        /// What it said last.
        why: String,
        /// Its log.
        log: PathBuf,
    },
    /// It was told to end and did not.
    #[error("the walgit-fs daemon{} was told to end and has not; end it with `{}`", process(*pid), kill(*pid))]
    Stuck {
        /// Its process, where that is known.
        pid: Option<u32>,
    },
    /// Its directory or a socket there cannot be trusted or used.
    #[error(transparent)]
    Location(#[from] LocationError),
}

impl ClientError {
    /// A daemon that keeps silent.
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

/// Whether a daemon runs, as its lock tells it.
#[derive(Clone, Debug)]
pub enum DaemonState {
    /// None runs.
    Absent,
    /// It opens the cache.
    Starting {
        /// Its process, where that is known.
        pid: Option<u32>,
    },
    /// It answers.
    Running(Client),
    /// It unmounts everything and closes the cache.
    Stopping {
        /// Its process, where that is known.
        pid: Option<u32>,
    },
    /// It runs and does not answer.
    Unresponsive {
        /// Its process, where that is known.
        pid: Option<u32>,
        /// What is wrong with it.
        why: String,
    },
    /// It is of another version, and is not asked anything.
    OtherVersion {
        /// Its process, where that is known.
        pid: Option<u32>,
        /// Its version.
        version: String,
    },
}

/// A daemon that answered.
#[derive(Clone, Debug)]
pub struct Client {
    location: Arc<Location>,
    pid: u32,
    settings: Option<Box<DaemonSettings>>,
    warnings: Vec<String>,
}

impl Client {
    /// Looks whether a daemon runs and answers; takes at most a few seconds.
    ///
    /// # Errors
    /// When that cannot be determined: its directory cannot be opened or trusted, or
    /// another user listens on its socket.
    pub async fn probe(dirs: &Dirs) -> Result<DaemonState, ClientError> {
        match Location::open(dirs)? {
            Some(location) => probe(&Arc::new(location)).await,
            None => Ok(DaemonState::Absent),
        }
    }

    /// The daemon that runs; `None` where certainly none does.
    ///
    /// # Errors
    /// When it does not answer, is of another version, or may be there or not.
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

    /// The daemon that runs; started where none does.
    ///
    /// # Errors
    /// [`ClientError::Start`] with what it said, and whatever [`Client::find`] fails with.
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
                // Two commands may start one each; the one that stays answers.
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

    /// What whoever uses it should know.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// That it was started with other settings, in words.
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

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it does.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn status(&self) -> Result<DaemonStatus, ClientError> {
        self.ask(Call::get("/v1/status")).await
    }

    /// Forgets everything in the cache but what is to be kept.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn clear_cache(&self, keep: Keep) -> Result<(), ClientError> {
        self.ask(Call::post("/v1/cache/clear", &keep)?).await
    }

    /// Re-hashes everything in the cache.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn verify_cache(&self) -> Result<VerifyReport, ClientError> {
        self.ask(Call::post("/v1/cache/verify", &())?).await
    }

    /// What was learned about a repository, as bytes of a profile.
    ///
    /// # Errors
    /// When nothing was, or the repository cannot be opened.
    pub async fn export(&self, subject: &Subject) -> Result<Vec<u8>, ClientError> {
        let learned: Learned = self.ask(Call::post("/v1/learned/export", subject)?).await?;
        (learned.bytes()).ok_or_else(|| gone(&"its answer is not a profile"))
    }

    /// Adds a profile to what was learned about a repository, or puts it in its
    /// place.
    ///
    /// # Errors
    /// When it is none, or the repository cannot be opened.
    pub async fn import(
        &self,
        subject: Subject,
        profile: &[u8],
        replace: bool,
    ) -> Result<Imported, ClientError> {
        let import = Import::new(subject, profile, replace);
        self.ask(Call::post("/v1/learned/import", &import)?).await
    }

    /// Brings a file or folder of a mount into the cache, to stay with `pin`;
    /// tells `progress` how many bytes of content are here, of how many.
    ///
    /// # Errors
    /// When the path is in no mount, or something cannot be read or kept.
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

    /// What is pinned in the cache.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn pins(&self) -> Result<Vec<Pin>, ClientError> {
        self.ask(Call::get("/v1/cache/pins")).await
    }

    /// Lets go of a pin, by its name or by a path in a mount; its name.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn unpin(&self, path: &Path) -> Result<String, ClientError> {
        self.ask(Call::post("/v1/cache/unpin", &path)?).await
    }

    /// Tells it to end; `if_idle`, only if it has no mounts and nothing to do.
    ///
    /// # Errors
    /// When it is in use, or gone already.
    pub(super) async fn stop(&self, if_idle: bool) -> Result<(), ClientError> {
        self.ask(Call::post("/v1/stop", &StopRequest { if_idle })?)
            .await
    }

    /// What was asked to be mounted, keys included.
    pub(super) async fn mounts(&self) -> Result<Vec<MountRequest>, ClientError> {
        self.ask(Call::get("/v1/mounts")).await
    }

    /// Has it open what is to be mounted.
    pub(super) async fn prepare(&self, request: &MountRequest) -> Result<Prepared, ClientError> {
        self.ask(Call::post("/v1/prepare", request)?).await
    }

    /// Hands it a mount. Returns what whoever mounts should know.
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

    /// Does something that depends on its answers, and ends early where it stops
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
    /// Why a command that needs to know what the daemon does cannot go on.
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

/// How often a socket that nobody serves is tried while the lock is held: a daemon
/// may have ended and another one begun.
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
            // The sockets that are there are of one that died.
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

/// A daemon that starts or ends, unless somebody stopped it in the middle.
fn transition(pid: Option<u32>, state: impl Fn(Option<u32>) -> DaemonState) -> DaemonState {
    if pid.is_some_and(is_stopped) {
        let why = STOPPED.into();
        DaemonState::Unresponsive { pid, why }
    } else {
        state(pid)
    }
}
