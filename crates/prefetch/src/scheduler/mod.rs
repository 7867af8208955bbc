//! Prefetch scheduler: decides what is fetched, when, and in which requests.
//!
//! A pure state machine. The caller reports events with their time and executes the
//! returned actions; it owns the clock, the requests and the bytes. The same code
//! runs in the daemon with real requests and in the replay with a simulated link.
//!
//! **Input**: [`opened`](Scheduler::opened), a task starts to read a file (its
//! first read, if opens are not visible); [`fetched`](Scheduler::fetched), the
//! bytes of a file have arrived; [`failed`](Scheduler::failed), they will not
//! arrive; [`held`](Scheduler::held) and [`dropped`](Scheduler::dropped), the cache
//! already has a file, or has lost it; [`tick`](Scheduler::tick), the
//! [`wake`](Scheduler::wake) time has come. Every file that may be fetched must be
//! added to the [`Catalogue`] before, when its folder is first read.
//!
//! **Output**: [`Action`]s, to be executed in order. A [`Fetch`] is one ranged
//! request and the files that it delivers, in the order of their bytes; each must
//! be reported when complete, so that the first need not wait for the last. A fetch
//! ends when all its files are reported. An [`Action::Cancel`] ends it early: its
//! files must not be reported any more. The caller must not fetch files of a
//! pending fetch itself, but wait for that fetch.
//!
//! **Demand first.** A demanded file is requested at once, on a reserved
//! connection, and comes first in its request. Prefetches never use more than
//! [`Config::ahead`] connections, nor have more bytes in flight than the link
//! carries in a round trip, and half of that while a task waits.
//!
//! **Cost and benefit.** A prediction saves its probability times a round trip and
//! costs the time that its bytes occupy the link. Most files are small and round
//! trips long, so by that measure nearly everything is worth fetching; the
//! effective limit is waste, which a ledger restricts to a multiple of the opened
//! bytes. Within that limit the best candidates come first: the model's predictions
//! within the time of a fetch, soonest first; then related files, by probability
//! per byte. Files that are adjacent in the pack share a request.
//!
//! **Accounts.** Files opened in earlier sessions and files that are merely nearby
//! have separate accounts. Guesses are for sessions that repeat nothing: the more
//! of the opened files were known ([`Model::familiarity`]), the less may be risked
//! on guesses; the same applies if few guesses turn out right.

mod action;
mod choose;
mod expect;
mod flight;
mod ledger;
mod link;
mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::catalogue::{Catalogue, FileId};
use super::kinship::Kinship;
use super::model::{Model, TaskId};
use super::profile::Profile;
use choose::{Chosen, GUIDED, LEAD, LEAST, Ranked};
use expect::Expectations;
use flight::Flights;
use ledger::{Account, Ledger};
use walgit_format::Prior;

pub use action::{Action, Config, Counts, Fetch, FetchId, Seconds};
pub use ledger::Allowance;
pub use link::Link;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not cached.
    Away,
    /// Requested.
    Flying(FetchId),
    /// Cached.
    Held,
    /// Not available; requested again only on demand.
    Failed,
}

/// State of one session.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    link: Link,
    catalogue: Catalogue,
    model: Model,
    kinship: Kinship,
    expectations: Expectations,
    ledger: Ledger,
    flights: Flights,
    files: Vec<File>,
    /// Demands that wait for a free connection.
    queue: VecDeque<FileId>,
    waiting: HashMap<FileId, Vec<TaskId>>,
    /// Time at which each task last received its file.
    answered: BTreeMap<TaskId, Seconds>,
    /// Last ranking of related files; recomputed after a first open.
    kin: Option<Arc<Ranked>>,
    /// Seconds without a waiting task, up to `passed`.
    clock: Seconds,
    passed: Seconds,
    /// Increases while predictions come too late.
    reach: f64,
    /// Fraction of recent first opens that the model predicted.
    guided: f64,
    /// Stored bytes that earlier sessions opened on average; 0 if there were none.
    session_bytes: f64,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct File {
    state: State,
    opened: bool,
    ahead: bool,
}

const NEW: File = File {
    state: State::Away,
    opened: false,
    ahead: false,
};

impl Scheduler {
    /// Starts a session with the profile of earlier ones.
    pub fn new(catalogue: Catalogue, profile: Profile, link: Link, config: Config) -> Self {
        let Profile {
            mut model,
            rates,
            session_bytes,
        } = profile;
        model.begin();
        Scheduler {
            config,
            link,
            catalogue,
            model,
            kinship: Kinship::new(rates),
            expectations: Expectations::default(),
            ledger: Ledger::default(),
            flights: Flights::default(),
            files: Vec::new(),
            queue: VecDeque::new(),
            waiting: HashMap::new(),
            answered: BTreeMap::new(),
            kin: None,
            clock: 0.0,
            passed: 0.0,
            reach: 1.0,
            guided: GUIDED,
            session_bytes,
            counts: Counts::default(),
        }
    }

    /// Returns the learned profile.
    pub fn profile(&self) -> Profile {
        Profile {
            session_bytes: self.usual_bytes(),
            model: self.model.clone(),
            rates: self.kinship.clone().into_rates(&self.catalogue),
        }
    }

    /// Stored bytes that sessions open, including this one.
    fn usual_bytes(&self) -> f64 {
        let bytes = self.ledger.useful() as f64;
        match self.session_bytes {
            earlier if earlier > 0.0 => earlier * 0.7 + bytes * 0.3,
            _ => bytes,
        }
    }

    /// Merges a profile of others; `trust` is the assumed degree to which this
    /// session repeats it, 0..=1.
    pub fn merge(&mut self, profile: &Profile, trust: f64) {
        self.model.merge(&profile.model, trust);
        self.kinship.merge(&profile.rates);
        if self.session_bytes <= 0.0 {
            self.session_bytes = profile.session_bytes;
        }
        self.kin = None;
    }

    /// Replaces all learned data.
    pub fn replace(&mut self, profile: Profile) {
        let prior = self.kinship.prior().cloned();
        self.model = profile.model;
        self.model.begin();
        self.kinship = Kinship::new(profile.rates);
        self.session_bytes = profile.session_bytes;
        self.expectations = Expectations::default();
        self.kin = None;
        prior.into_iter().for_each(|prior| self.tell(prior));
    }

    /// Returns the prior of the repository, if set.
    pub fn prior(&self) -> Option<&Arc<Prior>> {
        self.kinship.prior()
    }

    /// Sets the prior: files that changed together in the repository's history.
    pub fn tell(&mut self, prior: Arc<Prior>) {
        self.kinship.tell(&self.catalogue, prior);
        self.kin = None;
    }

    /// Returns the known files.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Returns the known files, to add more.
    pub fn catalogue_mut(&mut self) -> &mut Catalogue {
        &mut self.catalogue
    }

    /// Returns the counters so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Number of known transitions.
    pub fn transitions(&self) -> usize {
        self.model.transitions()
    }

    /// Returns the estimate of the link.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Returns whether a file is cached.
    pub fn is_held(&self, file: FileId) -> bool {
        self.file(file).state == State::Held
    }

    /// Returns the bytes at risk and the limit of each account: learned, then
    /// guessed.
    pub fn at_risk(&self) -> [(u64, u64); 2] {
        [Account::Learned, Account::Guessed].map(|account| {
            let risk = self.ledger.at_risk(account);
            (risk, risk + self.left(account))
        })
    }

    /// Records that a task starts to read a file.
    pub fn opened(&mut self, task: TaskId, file: FileId, now: Seconds) -> Vec<Action> {
        let mut actions = Vec::new();
        let answered = self.answered.get(&task).copied().unwrap_or(now);
        let gap = (now - answered).max(0.0);
        let path = self.catalogue.path(file).to_owned();
        self.pass(now);
        self.model.opened(task, &path, gap, self.clock);

        let was = self.file(file);
        if !was.opened {
            self.first_open(file, was);
        }
        let horizon = self.horizon();
        self.expectations.note(
            &self.model,
            &self.catalogue,
            task,
            (now, self.clock),
            horizon,
        );
        match was.state {
            State::Held => self.answer(task, now),
            State::Flying(id) => {
                self.counts.files_late += u64::from(self.flights.is_ahead(id));
                if self.flights.is_ahead(id) {
                    self.reach = (self.reach * 1.25).min(8.0);
                }
                self.flights.awaited(id);
                self.waiting.entry(file).or_default().push(task);
            }
            State::Away | State::Failed => {
                self.waiting.entry(file).or_default().push(task);
                if !self.queue.contains(&file) {
                    self.queue.push_back(file);
                }
            }
        }
        self.cancel_stale(now, &mut actions);
        self.go_on(now, &mut actions);
        actions
    }

    /// Records that the bytes of a file have arrived.
    pub fn fetched(&mut self, file: FileId, now: Seconds) -> Vec<Action> {
        let mut actions = Vec::new();
        self.pass(now);
        if let State::Flying(id) = self.file(file).state {
            self.file_mut(file).state = State::Held;
            let bytes = self.catalogue.place(file).len;
            if let Some(done) = self.flights.arrived(id, file, bytes, now) {
                self.link
                    .note(done.first, done.last, done.first_bytes, done.bytes);
            }
            for task in self.waiting.remove(&file).unwrap_or_default() {
                self.answer(task, now);
            }
            self.go_on(now, &mut actions);
        }
        actions
    }

    /// Records that the bytes of a file will not arrive.
    pub fn failed(&mut self, file: FileId, now: Seconds) -> Vec<Action> {
        let mut actions = Vec::new();
        self.pass(now);
        if let State::Flying(id) = self.file(file).state {
            self.file_mut(file).state = State::Failed;
            self.ledger.end(file);
            self.flights.lost(id, file);
            for task in self.waiting.remove(&file).unwrap_or_default() {
                self.answer(task, now);
            }
            self.go_on(now, &mut actions);
        }
        actions
    }

    /// Advances the time; call it when [`wake`](Scheduler::wake) is due.
    pub fn tick(&mut self, now: Seconds) -> Vec<Action> {
        let mut actions = Vec::new();
        self.pass(now);
        self.go_on(now, &mut actions);
        actions
    }

    /// Returns when a later expected file must be requested to arrive in time, if
    /// nothing else happens before. Changes with every event.
    pub fn wake(&self) -> Option<Seconds> {
        let horizon = self.horizon();
        let later = self.expectations.soonest().iter().filter(|it| {
            let bytes = self.catalogue.place(it.file).len;
            self.file(it.file).state == State::Away && self.worth(bytes, it.probability)
        });
        later
            .map(|it| it.due - horizon)
            .find(|&at| at > self.passed)
    }

    /// Records that the cache already has a file.
    pub fn held(&mut self, file: FileId) {
        if matches!(self.file(file).state, State::Away | State::Failed) {
            self.file_mut(file).state = State::Held;
            self.queue.retain(|&it| it != file);
        }
    }

    /// Records that the cache has lost a file.
    pub fn dropped(&mut self, file: FileId) {
        if self.file(file).state == State::Held {
            self.file_mut(file).state = State::Away;
        }
    }

    fn first_open(&mut self, file: FileId, was: File) {
        self.file_mut(file).opened = true;
        let foretold = self.expectations.of(file);
        self.guided += (foretold - self.guided) * 0.1;
        self.kinship.opened(&self.catalogue, file);
        self.ledger.opened(file, self.catalogue.place(file).len);
        self.kin = None;
        self.counts.files_hit += u64::from(was.ahead);
        if was.ahead && was.state == State::Held {
            self.reach = (self.reach * 0.99).max(1.0);
        }
    }

    /// Seconds ahead within which expected files are fetched.
    fn horizon(&self) -> Seconds {
        LEAD * self.reach * self.link.rtt()
    }

    /// Advances the time; the clock of the model stops while any task waits.
    fn pass(&mut self, now: Seconds) {
        if self.waiting.is_empty() {
            self.clock += (now - self.passed).max(0.0);
        }
        self.passed = self.passed.max(now);
    }

    fn answer(&mut self, task: TaskId, now: Seconds) {
        self.answered.insert(task, now);
        if self.answered.len() > 4096 {
            let mut times: Vec<Seconds> = self.answered.values().copied().collect();
            times.sort_by(f64::total_cmp);
            let bar = times[times.len() / 2];
            self.answered.retain(|_, &mut at| at > bar);
        }
    }

    /// Uses free connections: first for demands, then for prefetches.
    fn go_on(&mut self, now: Seconds, actions: &mut Vec<Action>) {
        while self.flights.len() < self.config.connections {
            let Some(file) = self.queue.pop_front() else {
                break;
            };
            // Another request may have delivered it meanwhile.
            if !matches!(self.file(file).state, State::Away | State::Failed) {
                continue;
            }
            let chosen = self.demand(file);
            self.begin(&chosen, Some(file), now, actions);
        }
        while self.queue.is_empty()
            && self.flights.ahead() < self.config.ahead
            && self.flights.len() + 1 < self.config.connections
        {
            let Some(chosen) = self.ahead(now) else {
                break;
            };
            self.begin(&chosen, None, now, actions);
        }
    }

    fn begin(
        &mut self,
        chosen: &[Chosen],
        demanded: Option<FileId>,
        now: Seconds,
        actions: &mut Vec<Action>,
    ) {
        let fetch = self.request(chosen, demanded);
        match demanded {
            Some(_) => self.counts.demands += 1,
            None => self.counts.prefetches += 1,
        }
        let mut expected = false;
        for it in chosen {
            expected |= self.expectations.of(it.file) >= LEAST;
            let bytes = self.catalogue.place(it.file).len;
            let file = self.file_mut(it.file);
            file.state = State::Flying(fetch.id);
            if Some(it.file) == demanded {
                continue;
            }
            file.ahead = true;
            let opened = file.opened;
            self.counts.files_ahead += 1;
            if !opened {
                let charge = Ledger::charge(bytes, it.probability);
                self.ledger.lend(it.file, bytes, charge, it.account);
            }
        }
        self.flights.begin(&fetch, expected, now);
        actions.push(Action::Fetch(fetch));
    }

    /// Cancels large requests for files that are no longer expected.
    fn cancel_stale(&mut self, now: Seconds, actions: &mut Vec<Action>) {
        // A short request is nearly done anyway.
        let large = self.link.nearly_free();
        let patience = 2.0 * self.link.rtt();
        for (id, files) in self.flights.large_ahead(large, now - patience) {
            let expected = |&file: &FileId| self.expectations.of(file) >= LEAST;
            if files.iter().any(expected) {
                continue;
            }
            for file in files {
                self.file_mut(file).state = State::Away;
                self.ledger.end(file);
            }
            self.flights.cancel(id);
            self.counts.cancelled += 1;
            actions.push(Action::Cancel(id));
        }
    }

    fn file(&self, file: FileId) -> File {
        self.files.get(file.0 as usize).copied().unwrap_or(NEW)
    }

    fn file_mut(&mut self, file: FileId) -> &mut File {
        let at = file.0 as usize;
        if at >= self.files.len() {
            self.files.resize(at + 1, NEW);
        }
        &mut self.files[at]
    }
}
