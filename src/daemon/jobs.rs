//! Scheduled jobs of the daemon.
//!
//! A scheduled job runs when its interval has passed since its last run, which is
//! remembered across sessions. It waits until the network is idle, and jobs do not run
//! concurrently. `status` shows the result or error of the last run.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::state::Daemon;
use super::status::JobStatus;
use crate::config::Settings;
use crate::maintenance::MaintenanceContext;
use crate::maintenance::compaction::{CandidateSelection, Compactor};
use crate::maintenance::renew::{RenewalOptions, RenewalTerms, renew};
use crate::publish::NoProgress;
use crate::repo::Access;
use walrus_client::auth::{Credentials, KeyStore, SignIns};
use walrus_client::clock::unix_seconds;
use walrus_client::net::Journal;
use walrus_client::{self, BlobStore};

/// Time without a fetch after which the network counts as idle.
const IDLE_TIME: Duration = Duration::from_secs(3);
/// Maximum time to wait until the network is idle.
const MAX_IDLE_WAIT: Duration = Duration::from_secs(600);
/// Delay of jobs after the daemon starts, while the first mount is being made.
const STARTUP_DELAY: Duration = Duration::from_secs(2);

/// Maximum size of a job's state file, in bytes.
const MAX_STATE_FILE_BYTES: u64 = 1 << 20;

/// A periodic job.
#[derive(Clone, Copy)]
enum Job {
    Renewal,
    Compaction,
}

impl Job {
    /// Necessary jobs before optional ones.
    const ALL: [Job; 2] = [Job::Renewal, Job::Compaction];

    /// Name in `status`, and of the state file.
    fn name(self) -> &'static str {
        match self {
            Job::Renewal => "renewal",
            Job::Compaction => "compaction",
        }
    }

    /// Interval between runs, if the job is scheduled.
    fn every(self, settings: &Settings) -> Option<Duration> {
        match self {
            Job::Renewal => settings.renewal.value.every(),
            Job::Compaction => settings.compaction.value.every(),
        }
    }

    /// Runs the job; returns a description of the result.
    async fn run(self, settings: &Settings, daemon: &Arc<Daemon>) -> Result<String, JobError> {
        match self {
            Job::Renewal => renew_blobs(settings, daemon).await,
            Job::Compaction => compact_heads(settings, daemon).await,
        }
    }
}

/// Renews due blobs within the budget; returns a description of the result.
async fn renew_blobs(settings: &Settings, daemon: &Daemon) -> Result<String, JobError> {
    let (store, access) = open_to_write(settings).await?;
    let loader = daemon.repositories.loader.clone();
    let context =
        tokio::task::block_in_place(|| MaintenanceContext::new(settings, loader, access, store))?;
    let (renewal, network) = (&settings.renewal.value, &settings.network.value);
    let terms = RenewalTerms {
        margin: renewal.margin,
        epochs: renewal.epochs,
        budget: (!network.is_free()).then_some(renewal.budget),
    };
    let options = RenewalOptions::new(settings, terms, false);
    let report = renew(&context, &options, &|_, _| {}).await?;
    match report.warning() {
        Some(warning) => Err(warning.into()),
        None => Ok(format!(
            "{} of {} blobs renewed",
            report.renewed, report.needed
        )),
    }
}

/// Compacts heads that benefit, within the spending limit; returns a description of the
/// result.
async fn compact_heads(settings: &Settings, daemon: &Daemon) -> Result<String, JobError> {
    let (store, access) = open_to_write(settings).await?;
    let compactor = Compactor::new(settings, daemon.repositories.loader.clone(), access, store);
    let compaction = &settings.compaction.value;
    let selection = CandidateSelection {
        force: false,
        spend: Some(compaction.spend),
    };
    let candidates = compactor.candidates(&[], &selection).await?;
    let (mut compacted, mut failed) = (0, Vec::new());
    for candidate in candidates
        .iter()
        .filter(|candidate| candidate.skip.is_none())
    {
        match compactor.compact(candidate, Arc::new(NoProgress)).await {
            Ok(done) => {
                compacted += 1;
                let seconds = done.published.bytes_stored as f64 / compaction.rate as f64;
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            }
            Err(error) => failed.push(format!("{}: {error}", candidate.name)),
        }
    }
    if failed.is_empty() {
        Ok(format!(
            "{compacted} of {} names compacted",
            candidates.len()
        ))
    } else {
        Err(failed.join("; ").into())
    }
}

/// Reason why a job failed.
type JobError = Box<dyn std::error::Error + Send + Sync>;

impl JobStatus {
    /// Reads the saved status; `None` if there is none, or it is damaged.
    fn load(file: &Path) -> Option<Self> {
        serde_json::from_slice(&walgit_durable::read_regular(file, MAX_STATE_FILE_BYTES).ok()?).ok()
    }
}

/// Starts the scheduled jobs.
pub(super) fn start(settings: &Settings, daemon: &Arc<Daemon>) {
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    for job in Job::ALL {
        if let Some(every) = job.every(settings) {
            let runner = Runner {
                job,
                every,
                settings: settings.clone(),
                daemon: Arc::downgrade(daemon),
                turn: turn.clone(),
            };
            tokio::spawn(runner.run());
        }
    }
}

/// Opens the network in force for writing with the user's account, and for reading with
/// all of the user's keys.
async fn open_to_write(settings: &Settings) -> Result<(Arc<dyn BlobStore>, Access), JobError> {
    let settings = settings.clone();
    // This reads files and queries the keyring, which may not respond.
    tokio::task::spawn_blocking(move || open_blocking(&settings)).await?
}

fn open_blocking(settings: &Settings) -> Result<(Arc<dyn BlobStore>, Access), JobError> {
    let network = &settings.network.value;
    let deadline = Duration::from_secs(settings.deadline_s.value);
    let journal = Some(Arc::new(Journal::new(settings.failures())));
    let sign_ins = SignIns::new(&settings.dirs.data.join("auth"));
    let credentials = Credentials::load(&sign_ins, network)?;
    let store = walrus_client::open_as(credentials, network, deadline, journal)?;
    let (keys, missing) = KeyStore::new(&settings.dirs.data.join("keys")).all()?;
    // Every head must be readable.
    if let Some(error) = missing.into_iter().next() {
        return Err(error.into());
    }
    let access = Access {
        keys,
        ..Access::with_key(store.clone(), None)
    };
    Ok((store, access))
}

/// Returns the saved status of the jobs of a network, for use when no daemon is running.
pub fn saved_statuses(settings: &Settings) -> Vec<JobStatus> {
    let jobs = Job::ALL.into_iter();
    jobs.filter_map(|job| JobStatus::load(&state_file(settings, job)))
        .collect()
}

/// Returns the path of a job's state file.
fn state_file(settings: &Settings, job: Job) -> PathBuf {
    let name = format!("{}.json", job.name());
    settings.lifecycle_dir().join(name)
}

struct Runner {
    job: Job,
    every: Duration,
    settings: Settings,
    daemon: Weak<Daemon>,
    /// Serializes jobs.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Runner {
    async fn run(self) {
        let (name, every) = (self.job.name(), self.every);
        let file = state_file(&self.settings, self.job);
        let path = file.clone();
        let saved = tokio::task::spawn_blocking(move || JobStatus::load(&path)).await;
        let mut status = saved.ok().flatten().unwrap_or_default();
        status.name = name.into();
        status.every_s = every.as_secs();
        let mut startup_delay = STARTUP_DELAY;
        loop {
            let Some(daemon) = self.daemon.upgrade() else {
                return;
            };
            daemon.jobs.lock().insert(name, status.clone());
            drop(daemon);
            let due = status.last.saturating_add(every.as_secs());
            let wait = Duration::from_secs(due.saturating_sub(unix_seconds()));
            tokio::time::sleep(wait.min(every) + std::mem::take(&mut startup_delay)).await;
            let _turn = self.turn.lock().await;
            let Some(daemon) = self.daemon.upgrade() else {
                return;
            };
            wait_until_idle(&daemon).await;
            let done = {
                let _keep_alive = daemon.mounts.keep_alive();
                self.job.run(&self.settings, &daemon).await
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
            if let Err(error) = save(file.clone(), &status).await {
                tracing::warn!("{}: {error}", file.display());
            }
        }
    }
}

async fn save(file: PathBuf, status: &JobStatus) -> std::io::Result<()> {
    let json = serde_json::to_vec_pretty(status)?;
    tokio::task::spawn_blocking(move || walgit_durable::write_atomic(&file, &json)).await?
}

/// Waits until the network is idle.
async fn wait_until_idle(daemon: &Daemon) {
    let started = tokio::time::Instant::now();
    let mut before = daemon.cache().stats().fetches;
    while started.elapsed() < MAX_IDLE_WAIT {
        tokio::time::sleep(IDLE_TIME).await;
        let now = daemon.cache().stats().fetches;
        if now == before {
            return;
        }
        before = now;
    }
}
