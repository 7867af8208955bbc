//! Runs the scheduler for a mount.
//!
//! A driver receives every first read of a file by a task. If the read has to wait
//! for the network, the driver handles it immediately on the reader's thread: the
//! scheduler makes its request, with worthwhile neighbours, before the read itself
//! does. Other reads are handled by a worker slightly later, so that a hit costs
//! nothing; if too many arrive at once, some are dropped. The worker also reports
//! arrivals and saves learned data: when the mount ends, and periodically before.
//!
//! One mount is one session. Learned data is stored under the repository's
//! identity, which its next commit shares, and is encrypted if the repository
//! is.
//!
//! - `state`: knowledge of the session;
//! - `known_files`: known files and their content;
//! - `fetch_tracking`: requests, from start to the last file.

mod fetch_tracking;
mod known_files;
mod state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::hints::{Hints, load_profile};
use crate::repo::{NodeIndex, Snapshot};
use state::{DriverEvent, DriverState};
use walgit_prefetch::Profile;
use walgit_prefetch::model::TaskId;
use walgit_prefetch::scheduler::Action;

/// Maximum number of events queued for the worker; further ones are dropped.
const MAX_QUEUED_EVENTS: usize = 1024;
/// Maximum number of nodes of a tree whose directories are all fetched at mount
/// time, in a request or two: the model may predict files in folders that have not
/// been read yet, and later reads of a folder do not wait. In larger trees only
/// visited folders are known. About 300 bytes per file.
const MAX_LOADED_TREE_NODES: u64 = 20_000;
/// Interval at which learned data is saved during a mount.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// Data that may be used to predict opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Learning {
    /// No prediction
    Off,
    /// Data from the repository itself: neighbours, folders, names
    Related,
    /// In addition, opens of earlier sessions
    #[default]
    Learned,
}

/// Prefetch statistics of one mount since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefetchStats {
    /// Prefetch requests.
    pub requests: u64,
    /// Prefetched files.
    pub files: u64,
    /// Prefetched files that were opened later.
    pub hits: u64,
    /// Files that a reader had to wait for although a prefetch was in progress.
    pub late: u64,
    /// First opens that had to wait for their own request.
    pub misses: u64,
    /// Stored bytes that were prefetched and opened.
    pub useful_bytes: u64,
    /// Stored bytes that were prefetched but not opened so far.
    pub unused_bytes: u64,
    /// Seconds of waiting that prefetches have saved readers.
    pub saved_s: f64,
    /// Transitions that the model has learned, including earlier sessions.
    pub transitions: u64,
    /// Fraction of prefetched files that were opened later; `None` if there were
    /// none.
    pub precision: Option<f64>,
    /// Fraction of first opens without a wait, of those that would have waited
    /// without prefetch; `None` if there were none.
    pub coverage: Option<f64>,
}

/// Monitors the opens of one mount.
#[derive(Debug)]
pub struct PrefetchDriver {
    shared: Arc<SharedDriver>,
    events: mpsc::Sender<DriverEvent>,
}

#[derive(Debug)]
struct SharedDriver {
    state: Mutex<DriverState>,
    began: Instant,
    /// Empty if nothing is to be stored.
    identity: String,
}

impl PrefetchDriver {
    /// Creates a driver for a mount of `snapshot`, whose repository has the identity
    /// `identity` across sessions. Must be called within a runtime.
    pub fn new(snapshot: &Snapshot, identity: &str, learning: Learning) -> Option<Self> {
        let (identity, known) = match learning {
            Learning::Off => return None,
            Learning::Related => ("", None),
            Learning::Learned => (identity, load_profile(snapshot.repository(), identity)),
        };
        let is_new = learning == Learning::Learned && known.is_none();
        let profile = known.unwrap_or_default();
        let shared = Arc::new(SharedDriver {
            state: Mutex::new(DriverState::new(snapshot, profile)),
            began: Instant::now(),
            identity: identity.into(),
        });
        let (events, received) = mpsc::channel(MAX_QUEUED_EVENTS);
        let worker = Worker {
            shared: shared.clone(),
            events: events.downgrade(),
            is_new,
        };
        tokio::spawn(worker.run(received));
        Some(PrefetchDriver { shared, events })
    }

    /// Records that a task starts to read a file of `snapshot`; `waits` if it has
    /// to wait for the network. Must be called within a runtime; does not wait.
    pub fn record_open(&self, task: u64, snapshot: &Snapshot, file: NodeIndex, waits: bool) {
        let task = TaskId(task);
        if !waits {
            let _ = self.events.try_send(DriverEvent::Opened(task, file));
            return;
        }
        let actions = {
            let mut state = self.shared.state();
            // After a move to another head, files have other locations.
            state.move_to(snapshot);
            state.handle(DriverEvent::Opened(task, file), self.shared.now())
        };
        self.shared.perform(actions, &self.events.downgrade());
    }

    /// Returns the learned profile; `None` if nothing is stored.
    pub fn profile(&self) -> Option<Profile> {
        let is_stored = !self.shared.identity.is_empty();
        is_stored.then(|| self.shared.state().scheduler.profile())
    }

    /// Merges a foreign profile into the learned one, or replaces it; returns
    /// whether it is used from now on.
    pub fn import(&self, profile: &Profile, replace: bool) -> bool {
        if self.shared.identity.is_empty() {
            return false;
        }
        let mut state = self.shared.state();
        if replace {
            state.scheduler.replace(profile.clone());
        } else {
            state.scheduler.merge(profile, 1.0);
        }
        state.changed = true;
        true
    }

    /// Returns the current statistics.
    pub fn stats(&self) -> PrefetchStats {
        let state = self.shared.state();
        let counts = state.counts();
        let (useful_bytes, saved_s) = state.useful;
        let fraction = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        let in_time = counts.files_hit.saturating_sub(counts.files_late);
        PrefetchStats {
            requests: counts.prefetches,
            files: counts.files_prefetched,
            hits: counts.files_hit,
            late: counts.files_late,
            misses: counts.demands,
            useful_bytes,
            unused_bytes: state.unopened.values().sum(),
            saved_s,
            transitions: state.scheduler.transitions() as u64,
            precision: fraction(counts.files_hit, counts.files_prefetched),
            coverage: fraction(in_time, counts.files_hit + counts.demands),
        }
    }
}

impl SharedDriver {
    fn state(&self) -> MutexGuard<'_, DriverState> {
        self.state.lock()
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Executes the decisions of the scheduler.
    fn perform(&self, actions: Vec<Action>, events: &mpsc::WeakSender<DriverEvent>) {
        for action in actions {
            match action {
                Action::Fetch(fetch) => {
                    let (snapshot, contents) = self.state().start_fetch(&fetch);
                    let pending = fetch_tracking::start(&snapshot, &contents, &fetch);
                    let events = events.clone();
                    let task = fetch_tracking::track(snapshot, contents, pending, fetch.id, events);
                    let task = AbortOnDropHandle::new(tokio::spawn(task));
                    if let Some(in_flight) = self.state().in_flight.get_mut(&fetch.id) {
                        *in_flight = Some(task);
                    }
                }
                Action::Cancel(id) => {
                    self.state().in_flight.remove(&id);
                }
            }
        }
    }

    /// Saves learned data if it has changed.
    fn save(&self) {
        let (profile, snapshot) = {
            let mut state = self.state();
            if self.identity.is_empty() || !std::mem::take(&mut state.changed) {
                return;
            }
            (state.scheduler.profile(), state.snapshot.clone())
        };
        (snapshot.repository()).set_learned(&self.identity, &profile.encode());
    }
}

/// Handles events that are not urgent.
struct Worker {
    shared: Arc<SharedDriver>,
    events: mpsc::WeakSender<DriverEvent>,
    /// Nothing has been learned about the repository yet.
    is_new: bool,
}

impl Worker {
    /// Runs until the mount ends.
    async fn run(self, mut received: mpsc::Receiver<DriverEvent>) {
        let mut save_at = tokio::time::Instant::now() + SAVE_INTERVAL;
        self.load_tree();
        let (mut opened, mut reads_hints) = (false, false);
        loop {
            let wake = self.shared.state().scheduler.wake();
            let wait = wake.map_or(SAVE_INTERVAL.as_secs_f64(), |at| at - self.shared.now());
            let wait = Duration::from_secs_f64(wait.clamp(0.001, SAVE_INTERVAL.as_secs_f64()));
            let event = tokio::select! {
                event = received.recv() => match event {
                    Some(event) => Some(event),
                    None => break,
                },
                () = tokio::time::sleep(wait) => None,
                () = tokio::time::sleep_until(save_at) => {
                    self.save().await;
                    save_at = tokio::time::Instant::now() + SAVE_INTERVAL;
                    continue;
                }
            };
            opened |= matches!(
                event,
                Some(DriverEvent::Opened(..) | DriverEvent::Arrived(..))
            );
            // Wait for the first file: its reader takes precedence.
            if opened && !std::mem::replace(&mut reads_hints, true) {
                self.read_hints();
            }
            let now = self.shared.now();
            let actions = {
                let mut state = self.shared.state();
                match event {
                    Some(event) => state.handle(event, now),
                    None => state.scheduler.tick(now),
                }
            };
            self.shared.perform(actions, &self.events);
        }
        self.save().await;
    }

    /// Reads the hints of the repository in the background.
    fn read_hints(&self) {
        let repository = self.shared.state().snapshot.repository().clone();
        let (events, is_new) = (self.events.clone(), self.is_new);
        tokio::spawn(async move {
            let hints = Hints::of(&repository, is_new).await;
            if let Some(events) = events.upgrade() {
                let _ = events.send(DriverEvent::HintsRead(Box::new(hints))).await;
            }
        });
    }

    async fn save(&self) {
        let shared = self.shared.clone();
        // Only a runtime shutdown loses this.
        let _ = tokio::task::spawn_blocking(move || shared.save()).await;
    }

    /// Reads all directories of a small tree in the background.
    fn load_tree(&self) {
        let snapshot = self.shared.state().snapshot.clone();
        let nodes = snapshot.commit().nodes;
        if nodes > MAX_LOADED_TREE_NODES {
            return;
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            if snapshot.scan(0..nodes + 1).await.is_ok()
                && let Some(events) = events.upgrade()
            {
                let _ = events.send(DriverEvent::TreeLoaded).await;
            }
        });
    }
}
