//! Talking to the daemon; starting it where none runs.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::control::{Prepared, Refusal};
use super::learned::{Import, Imported, Learned, Subject};
use super::server::{attach_socket, control_socket};
use super::warming::{Told, WarmRequest};
use super::{DaemonStatus, MountRequest, attach};
use crate::cache::{Keep, Pin, VerifyReport};
use crate::config::{ConfigError, Dirs, Settings};
use crate::prefetch::Warmed;

/// How long a new daemon may take to answer: opening a cache after a crash
/// replays its log.
const START: Duration = Duration::from_secs(30);
/// How long a question may take beyond the operations' own deadline.
const SLACK: Duration = Duration::from_secs(10);

/// Why the daemon did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It said why.
    #[error("{0}")]
    Refused(String),
    /// It went away, or does not answer.
    #[error("the walgit-fs daemon does not answer ({0}); try again")]
    Gone(String),
    /// It did not start.
    #[error("the walgit-fs daemon did not start: {why} (its log: {})", log.display())]
    Start {
        /// What it said last.
        why: String,
        /// Its log.
        log: PathBuf,
    },
    /// There is no place for its sockets.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A running daemon.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    attach: PathBuf,
}

impl Client {
    /// The daemon of this user, if one answers.
    pub async fn connect(dirs: &Dirs) -> Option<Client> {
        let socket = control_socket(dirs);
        if !socket.exists() {
            return None;
        }
        let http = crate::net::http::client()
            .unix_socket(socket)
            .no_proxy()
            .build()
            .ok()?;
        let client = Client {
            http,
            attach: attach_socket(dirs),
        };
        client.status().await.ok()?;
        Some(client)
    }

    /// The daemon of this user; started where none runs.
    ///
    /// # Errors
    /// [`ClientError::Start`], with what it said.
    pub async fn connect_or_start(settings: &Settings) -> Result<Client, ClientError> {
        if let Some(client) = Client::connect(&settings.dirs).await {
            return Ok(client);
        }
        settings.dirs.private_runtime()?;
        let log = settings.dirs.state.join("daemon.log");
        let failed = |why: String| ClientError::Start {
            why,
            log: log.clone(),
        };
        let mut child = start(settings, &log).map_err(|error| failed(error.to_string()))?;
        let begun = Instant::now();
        loop {
            if let Some(client) = Client::connect(&settings.dirs).await {
                return Ok(client);
            }
            match child.try_wait() {
                Ok(None) if begun.elapsed() < START => {}
                Ok(None) => {
                    let _ = child.kill();
                    return Err(failed("it took too long".into()));
                }
                // Two mounts may start one each; the one that stays answers.
                Ok(Some(_)) => {
                    return match Client::connect(&settings.dirs).await {
                        Some(client) => Ok(client),
                        None => Err(failed(last_line(&log))),
                    };
                }
                Err(error) => return Err(failed(error.to_string())),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it does.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn status(&self) -> Result<DaemonStatus, ClientError> {
        self.answer(self.http.get(url("/v1/status")).timeout(SLACK))
            .await
    }

    /// Forgets everything in the cache but what is to be kept.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn clear_cache(&self, keep: Keep) -> Result<(), ClientError> {
        self.answer(self.post("/v1/cache/clear", &keep)).await
    }

    /// Re-hashes everything in the cache.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn verify_cache(&self) -> Result<VerifyReport, ClientError> {
        self.answer(self.http.post(url("/v1/cache/verify"))).await
    }

    /// What was learned about a repository, as bytes of a profile; `deadline`
    /// is that of an operation.
    ///
    /// # Errors
    /// When nothing was, or the repository cannot be opened.
    pub async fn export(
        &self,
        subject: &Subject,
        deadline: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        let request = self.post("/v1/learned/export", subject);
        let request = request.timeout(deadline * 4 + SLACK);
        let learned: Learned = self.answer(request).await?;
        (learned.bytes()).ok_or_else(|| ClientError::Gone("it speaks another language".into()))
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
        deadline: Duration,
    ) -> Result<Imported, ClientError> {
        let import = Import::new(subject, profile, replace);
        let request = self.post("/v1/learned/import", &import);
        self.answer(request.timeout(deadline * 4 + SLACK)).await
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
        let gone = |error: reqwest::Error| ClientError::Gone(error.to_string());
        let path = path.to_owned();
        let request = self.post("/v1/cache/warm", &WarmRequest { path, pin });
        let mut response = self.accepted(request).await?;
        let mut text: Vec<u8> = Vec::new();
        while let Some(more) = response.chunk().await.map_err(gone)? {
            text.extend_from_slice(&more);
            while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(Told::Progress(done, all)) => progress(done, all),
                    Ok(Told::Done(warmed)) => return Ok(warmed),
                    Ok(Told::Failed(why)) => return Err(ClientError::Refused(why)),
                    Err(error) => return Err(ClientError::Gone(error.to_string())),
                }
            }
        }
        Err(ClientError::Gone("it stopped in the middle".into()))
    }

    /// What is pinned in the cache.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn pins(&self) -> Result<Vec<Pin>, ClientError> {
        self.answer(self.http.get(url("/v1/cache/pins"))).await
    }

    /// Lets go of a pin, by its name or by a path in a mount; its name.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn unpin(&self, path: &Path) -> Result<String, ClientError> {
        self.answer(self.post("/v1/cache/unpin", &path)).await
    }

    /// Tells it to end.
    ///
    /// # Errors
    /// When it is gone already.
    pub async fn stop(&self) -> Result<(), ClientError> {
        self.answer(self.http.post(url("/v1/stop")).timeout(SLACK))
            .await
    }

    /// Has it open what is to be mounted.
    pub(super) async fn prepare(
        &self,
        request: &MountRequest,
        deadline: Duration,
    ) -> Result<Prepared, ClientError> {
        // Opening may take several operations: head, root, a verification.
        let patience = deadline * 4 + SLACK;
        self.answer(self.post("/v1/prepare", request).timeout(patience))
            .await
    }

    /// Hands it a mount.
    pub(super) async fn attach(
        &self,
        request: MountRequest,
        device: std::os::fd::OwnedFd,
    ) -> Result<(), ClientError> {
        let socket = self.attach.clone();
        let handed =
            tokio::task::spawn_blocking(move || attach::hand_over(&socket, &request, &device));
        match handed.await {
            Ok(done) => done.map_err(ClientError::Refused),
            Err(error) => Err(ClientError::Gone(error.to_string())),
        }
    }

    fn post(&self, path: &str, body: &impl Serialize) -> reqwest::RequestBuilder {
        self.http.post(url(path)).json(body)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ClientError> {
        let gone = |error: reqwest::Error| ClientError::Gone(error.to_string());
        self.accepted(request).await?.json().await.map_err(gone)
    }

    /// The answer to a request that is not refused.
    async fn accepted(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        let gone = |error: reqwest::Error| ClientError::Gone(error.to_string());
        let response = request.send().await.map_err(gone)?;
        match response.status().is_success() {
            true => Ok(response),
            false => {
                let refusal: Refusal = response.json().await.map_err(gone)?;
                Err(ClientError::Refused(refusal.error))
            }
        }
    }
}

/// The host is of no meaning on a Unix socket.
fn url(path: &str) -> String {
    format!("http://daemon{path}")
}

/// Settings of the system's allocator, for programs whose buffers are large and
/// short-lived. By itself it keeps an arena a thread and, after a while, every
/// large buffer it has seen: hundreds of MB.
const FRUGAL: [(&str, &str); 2] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
];

/// Starts a daemon that outlives this process; [`super::run`] parts it from the
/// terminal.
fn start(settings: &Settings, log: &std::path::Path) -> std::io::Result<Child> {
    if let Some(dir) = log.parent() {
        // It tells what is mounted: nobody else's business.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    // What an earlier one said is of no interest any more.
    let output = std::fs::File::create(log)?;
    Command::new(std::env::current_exe()?)
        .arg("daemon")
        .env(
            "WALGIT_FS_CACHE_DISK",
            settings.cache_disk.value.to_string(),
        )
        .envs(FRUGAL)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
}

fn last_line(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text
        .trim_end()
        .lines()
        .last()
        .unwrap_or("it gave no reason");
    last.trim_start_matches("error: ").into()
}
