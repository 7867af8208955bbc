//! The scheduler at work over a mount.
//!
//! A guide is told who begins to read which file. Somebody who has to wait for
//! it is noted at once, on their own thread: their request is made by the
//! scheduler, with the neighbours that are worth it, before the read itself
//! asks for it. Somebody who need not wait is noted by a worker, a little
//! later, so that a hit costs nothing; when too many come at once, some are
//! forgotten. The worker also reports what arrived, and puts away what was
//! learned: when the mount ends, and now and then before.
//!
//! One mount is one session. What is learned is kept under the repository's
//! identity, which its next commit shares, and is sealed where the repository
//! is encrypted.
//!
//! - `state`: what is known of the session;
//! - `inventory`: the files that are known, and what they consist of;
//! - `landing`: requests, from asking to the last file.

mod inventory;
mod landing;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::hints::{self, Hints};
use crate::repo::{NodeIndex, Snapshot};
use landing::{begin, land};
use state::State;
use walgit_prefetch::Profile;
use walgit_prefetch::catalogue::FileId;
use walgit_prefetch::model::TaskId;
use walgit_prefetch::scheduler::{Action, FetchId};

/// Events that wait for the worker; more are forgotten.
const WAITING: usize = 1024;
/// Directories of trees of up to this many nodes are fetched as soon as they are
/// mounted, a request or two: the model may foretell files in folders that nobody
/// has looked at yet, and who looks into one does not wait. Of larger trees the
/// folders that were looked at are known. About 300 bytes a file.
const KNOWN_WHOLE: u64 = 20_000;
/// How often what was learned is put away while the mount lives.
const SAVED_EVERY: Duration = Duration::from_secs(30);

/// What may be used to foretell opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Learning {
    /// Nothing: no guide.
    Off,
    /// What the repository itself tells: neighbours, folders, names.
    Related,
    /// That, and what earlier sessions opened.
    #[default]
    Learned,
}

/// Figures of prefetching in one mount since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefetchStats {
    /// Requests made ahead.
    pub requests: u64,
    /// Files that were fetched ahead.
    pub files: u64,
    /// Those of them that were opened thereafter.
    pub hits: u64,
    /// Files somebody had to wait for although they were on their way.
    pub late: u64,
    /// First opens that had to wait for a request of their own.
    pub misses: u64,
    /// Stored bytes that were fetched ahead and opened.
    pub useful_bytes: u64,
    /// Stored bytes that were fetched ahead and not opened so far.
    pub unused_bytes: u64,
    /// Seconds that readers would have waited for what was there already.
    pub saved_s: f64,
    /// Transitions that the model has learned, earlier sessions included.
    pub transitions: u64,
    /// Part of the files fetched ahead that was opened thereafter; `None` where
    /// there were none.
    pub precision: Option<f64>,
    /// Part of the first opens that would have waited that did not, because the
    /// file was there already; `None` where none would have.
    pub coverage: Option<f64>,
}

/// Watches the opens of one mount.
#[derive(Debug)]
pub struct Guide {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    began: Instant,
    /// Empty where nothing is to be kept.
    identity: String,
}

#[derive(Debug)]
enum Event {
    Opened(TaskId, NodeIndex),
    Landed(FetchId, FileId, bool),
    /// All files of a fetch have landed.
    Ended(FetchId),
    /// Every directory of the tree is in memory now.
    Walked,
    /// What the repository carries along is here.
    Told(Box<Hints>),
}

impl Guide {
    /// A guide for a mount of `snapshot`, whose repository is called `identity`
    /// from session to session. Must be called within a runtime.
    pub fn new(snapshot: &Snapshot, identity: &str, learning: Learning) -> Option<Self> {
        let known = match learning {
            Learning::Off => return None,
            Learning::Related => None,
            Learning::Learned => hints::learned(snapshot.repository(), identity),
        };
        let begins = learning == Learning::Learned && known.is_none();
        let profile = known.unwrap_or_default();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::of(snapshot, profile)),
            began: Instant::now(),
            identity: match learning {
                Learning::Learned => identity.into(),
                _ => String::new(),
            },
        });
        let (events, received) = mpsc::channel(WAITING);
        let worker = Worker {
            shared: shared.clone(),
            events: events.downgrade(),
            begins,
        };
        tokio::spawn(worker.run(received));
        Some(Guide { shared, events })
    }

    /// Notes that a task begins to read a file of `snapshot`; `away` where it
    /// has to wait for the network. Must be called within a runtime; does not
    /// wait.
    pub fn opened(&self, task: u64, snapshot: &Snapshot, file: NodeIndex, away: bool) {
        let task = TaskId(task);
        if !away {
            let _ = self.events.try_send(Event::Opened(task, file));
            return;
        }
        let actions = {
            let mut state = self.shared.state();
            // After a move to another head, files lie elsewhere.
            state.move_to(snapshot);
            state.opened(task, file, self.shared.now())
        };
        self.shared.perform(actions, &self.events.downgrade());
    }

    /// What has been learned so far; `None` where nothing is kept.
    pub fn learned(&self) -> Option<Profile> {
        let kept = !self.shared.identity.is_empty();
        kept.then(|| self.shared.state().scheduler.profile())
    }

    /// Adds what somebody else learned, or puts it in the place of what is known;
    /// whether it is used from now on.
    pub fn teach(&self, profile: &Profile, replace: bool) -> bool {
        if self.shared.identity.is_empty() {
            return false;
        }
        let mut state = self.shared.state();
        match replace {
            true => state.scheduler.replace(profile.clone()),
            false => state.scheduler.merge(profile, 1.0),
        }
        state.changed = true;
        true
    }

    /// The figures now.
    pub fn stats(&self) -> PrefetchStats {
        let state = self.shared.state();
        let counts = state.counts();
        let (useful_bytes, saved_s) = state.useful;
        let part = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        let in_time = counts.files_hit.saturating_sub(counts.files_late);
        PrefetchStats {
            requests: counts.prefetches,
            files: counts.files_ahead,
            hits: counts.files_hit,
            late: counts.files_late,
            misses: counts.demands,
            useful_bytes,
            unused_bytes: state.unopened.values().sum(),
            saved_s,
            transitions: state.scheduler.transitions() as u64,
            precision: part(counts.files_hit, counts.files_ahead),
            coverage: part(in_time, counts.files_hit + counts.demands),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Does what the scheduler decided.
    fn perform(&self, actions: Vec<Action>, events: &mpsc::WeakSender<Event>) {
        for action in actions {
            match action {
                Action::Fetch(fetch) => {
                    let (snapshot, contents) = self.state().depart(&fetch);
                    let coming = begin(&snapshot, &contents, &fetch);
                    let landing = land(snapshot, contents, coming, fetch.id, events.clone());
                    let landing = AbortOnDropHandle::new(tokio::spawn(landing));
                    if let Some(flying) = self.state().flying.get_mut(&fetch.id) {
                        *flying = Some(landing);
                    }
                }
                Action::Cancel(id) => {
                    self.state().flying.remove(&id);
                }
            }
        }
    }

    /// Puts away what was learned, where there is something new.
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

/// Notes what can wait a moment.
struct Worker {
    shared: Arc<Shared>,
    events: mpsc::WeakSender<Event>,
    /// Nothing has been learned of the repository yet.
    begins: bool,
}

impl Worker {
    /// Runs until the mount is gone.
    async fn run(self, mut received: mpsc::Receiver<Event>) {
        let mut save_at = tokio::time::Instant::now() + SAVED_EVERY;
        self.walk_tree();
        let (mut opened, mut told) = (false, false);
        loop {
            let wake = self.shared.state().scheduler.wake();
            let wait = wake.map_or(SAVED_EVERY.as_secs_f64(), |at| at - self.shared.now());
            let wait = Duration::from_secs_f64(wait.clamp(0.001, SAVED_EVERY.as_secs_f64()));
            let event = tokio::select! {
                event = received.recv() => match event {
                    Some(event) => Some(event),
                    None => break,
                },
                () = tokio::time::sleep(wait) => None,
                () = tokio::time::sleep_until(save_at) => {
                    self.save().await;
                    save_at = tokio::time::Instant::now() + SAVED_EVERY;
                    continue;
                }
            };
            opened |= matches!(event, Some(Event::Opened(..) | Event::Landed(..)));
            // Not before the first file is there: whoever reads it comes first.
            if opened && !std::mem::replace(&mut told, true) {
                self.read_hints();
            }
            let now = self.shared.now();
            let actions = {
                let mut state = self.shared.state();
                match event {
                    Some(Event::Opened(task, file)) => state.opened(task, file, now),
                    Some(Event::Landed(id, file, here)) => state.landed(id, file, here, now),
                    Some(Event::Ended(id)) => {
                        state.flying.remove(&id);
                        Vec::new()
                    }
                    Some(Event::Walked) => {
                        state.walked = true;
                        Vec::new()
                    }
                    Some(Event::Told(hints)) => {
                        state.told(*hints);
                        state.scheduler.tick(now)
                    }
                    None => state.scheduler.tick(now),
                }
            };
            self.shared.perform(actions, &self.events);
        }
        self.save().await;
    }

    /// Reads what the repository carries along, in the background.
    fn read_hints(&self) {
        let repository = self.shared.state().snapshot.repository().clone();
        let (events, begins) = (self.events.clone(), self.begins);
        tokio::spawn(async move {
            let hints = Hints::of(&repository, begins).await;
            if let Some(events) = events.upgrade() {
                let _ = events.send(Event::Told(Box::new(hints))).await;
            }
        });
    }

    async fn save(&self) {
        let shared = self.shared.clone();
        // Only a runtime that shuts down loses this.
        let _ = tokio::task::spawn_blocking(move || shared.save()).await;
    }

    /// Reads all directories of a tree that is small enough, in the background.
    fn walk_tree(&self) {
        let snapshot = self.shared.state().snapshot.clone();
        let nodes = snapshot.commit().nodes;
        if nodes > KNOWN_WHOLE {
            return;
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            if snapshot.stretch(0..nodes + 1).await.is_ok()
                && let Some(events) = events.upgrade()
            {
                let _ = events.send(Event::Walked).await;
            }
        });
    }
}
