//! What the daemon does by itself now and then.
//!
//! A job that is scheduled runs while the daemon does, when as much time has gone
//! by since its last run, which is remembered over sessions. It waits until
//! nobody waits for the network, and one runs at a time. What it did, or why it
//! could not, stands in `status`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::compacting::{self, Compacting};
use super::mounts::Mounts;
use super::renewing::{self, Renewing};
use crate::config::Settings;
use crate::repo::Access;
use walrus_client::auth::{Credentials, KeyChest, SignIns};
use walrus_client::clock::unix_seconds;
use walrus_client::net::Journal;
use walrus_client::{self, BlobStore};

/// How long nothing must have been fetched before a job begins, and how long it
/// waits for that at most.
const QUIET: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a new daemon leaves its jobs alone: its first mount is being made.
const SETTLE: Duration = Duration::from_secs(2);

/// Largest file about the last run of a job, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Something that is done now and then.
#[async_trait]
pub(super) trait Job: Send + Sync {
    /// What it is called in `status`.
    fn name(&self) -> &'static str;
    /// How often.
    fn every(&self) -> Duration;
    /// Does it; what it did, in words.
    async fn run(&self, mounts: &Arc<Mounts>) -> Result<String, JobError>;
}

/// Why a job could not do what it should.
pub(super) type JobError = Box<dyn std::error::Error + Send + Sync>;

/// How a job gets on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobStatus {
    /// Which.
    pub name: String,
    /// Seconds between two runs.
    pub every_s: u64,
    /// When it ran last, in seconds since 1970; 0 for never.
    pub last: u64,
    /// What it did then.
    pub did: String,
    /// Why it could not; `None` where it could.
    pub error: Option<String>,
}

impl JobStatus {
    /// As it was written down last; `None` where it never was, or is damaged.
    fn remembered(file: &Path) -> Option<Self> {
        serde_json::from_slice(&walgit_durable::read_regular(file, MAX_FILE).ok()?).ok()
    }
}

/// How all jobs get on.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<BTreeMap<&'static str, JobStatus>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, JobStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<JobStatus> {
        self.lock().values().cloned().collect()
    }

    fn set(&self, name: &'static str, status: JobStatus) {
        self.lock().insert(name, status);
    }
}

/// Starts the jobs that are scheduled.
pub(super) fn start(settings: &Settings, mounts: &Arc<Mounts>) {
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    let compacting = Compacting::scheduled(settings).map(|job| Arc::new(job) as Arc<dyn Job>);
    let renewing = Renewing::scheduled(settings).map(|job| Arc::new(job) as Arc<dyn Job>);
    // What is needed before what is only better.
    for job in renewing.into_iter().chain(compacting) {
        let runner = Runner {
            file: file(settings, job.name()),
            job,
            mounts: Arc::downgrade(mounts),
            turn: turn.clone(),
        };
        tokio::spawn(runner.run());
    }
}

/// The network in force, to write to as who the user is, and to read with all of
/// the user's keys.
///
/// # Errors
/// When a sign-in or a key cannot be read, or the network cannot be opened.
pub(super) async fn to_write(
    settings: &Settings,
) -> Result<(Arc<dyn BlobStore>, Access), JobError> {
    let settings = settings.clone();
    // It reads files and asks the keyring, which may not answer.
    tokio::task::spawn_blocking(move || open_to_write(&settings)).await?
}

fn open_to_write(settings: &Settings) -> Result<(Arc<dyn BlobStore>, Access), JobError> {
    let network = &settings.network.value;
    let deadline = Duration::from_secs(settings.deadline_s.value);
    let journal = Some(Arc::new(Journal::new(settings.failures())));
    let sign_ins = SignIns::new(&settings.dirs.data.join("auth"));
    let credentials = Credentials::load(&sign_ins, network)?;
    let store = walrus_client::open_as(credentials, network, deadline, journal)?;
    let (keys, missing) = KeyChest::new(&settings.dirs.data.join("keys")).all()?;
    // Every head has to be read.
    if let Some(error) = missing.into_iter().next() {
        return Err(error.into());
    }
    let access = Access {
        keys,
        ..Access::with_key(store.clone(), None)
    };
    Ok((store, access))
}

/// How the jobs of a network got on that were scheduled once, as it is remembered
/// where no daemon runs.
pub fn remembered(settings: &Settings) -> Vec<JobStatus> {
    let names = [renewing::NAME, compacting::NAME].into_iter();
    names
        .filter_map(|name| JobStatus::remembered(&file(settings, name)))
        .collect()
}

/// Where the last run of a job is remembered.
fn file(settings: &Settings, name: &str) -> PathBuf {
    settings.lifecycle_dir().join(format!("{name}.json"))
}

struct Runner {
    job: Arc<dyn Job>,
    /// Where its last run is remembered.
    file: PathBuf,
    mounts: Weak<Mounts>,
    /// One runs at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Runner {
    async fn run(self) {
        let (name, every) = (self.job.name(), self.job.every());
        let file = self.file.clone();
        let remembered = tokio::task::spawn_blocking(move || JobStatus::remembered(&file));
        let mut status = remembered.await.ok().flatten().unwrap_or_default();
        status.name = name.into();
        status.every_s = every.as_secs();
        let mut settle = SETTLE;
        loop {
            let Some(mounts) = self.mounts.upgrade() else {
                return;
            };
            mounts.jobs.set(name, status.clone());
            drop(mounts);
            let due = status.last.saturating_add(every.as_secs());
            let wait = Duration::from_secs(due.saturating_sub(unix_seconds()));
            tokio::time::sleep(wait.min(every) + std::mem::take(&mut settle)).await;
            let _turn = self.turn.lock().await;
            let Some(mounts) = self.mounts.upgrade() else {
                return;
            };
            quiet(&mounts).await;
            let done = {
                let _busy = mounts.busy();
                self.job.run(&mounts).await
            };
            status.last = unix_seconds();
            match done {
                Ok(did) => {
                    tracing::info!("{name}: {did}");
                    (status.did, status.error) = (did, None);
                }
                Err(error) => {
                    tracing::warn!("{name}: {error}");
                    status.error = Some(error.to_string());
                }
            }
            if let Err(error) = self.remember(&status).await {
                tracing::warn!("{}: {error}", self.file.display());
            }
        }
    }

    async fn remember(&self, status: &JobStatus) -> std::io::Result<()> {
        let (file, json) = (self.file.clone(), serde_json::to_vec_pretty(status)?);
        tokio::task::spawn_blocking(move || walgit_durable::write_atomic(&file, &json)).await?
    }
}

/// Waits until nothing has been fetched for a while.
async fn quiet(mounts: &Mounts) {
    let begun = tokio::time::Instant::now();
    let mut before = mounts.cache().stats().fetches;
    while begun.elapsed() < PATIENCE {
        tokio::time::sleep(QUIET).await;
        let now = mounts.cache().stats().fetches;
        if now == before {
            return;
        }
        before = now;
    }
}
