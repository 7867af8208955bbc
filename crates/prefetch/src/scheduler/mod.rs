//! Deciding what is fetched, when, and together with what.
//!
//! A pure state machine. The caller says what happened, with the time, and is
//! told what to do; it owns the clock, the requests and the bytes. The same
//! code runs in the daemon over real requests and in the replay over a
//! simulated link.
//!
//! **In**: [`opened`](Scheduler::opened), a task begins to read a file (its
//! first read, where opens are not seen); [`fetched`](Scheduler::fetched), a
//! file's bytes are there; [`failed`](Scheduler::failed), they will not come;
//! [`held`](Scheduler::held) and [`dropped`](Scheduler::dropped), the cache has
//! a file already, or has it no more; [`tick`](Scheduler::tick), it is
//! [`wake`](Scheduler::wake) time. Before: every file that may be fetched
//! is added to the [`Catalogue`], when its folder is first read.
//!
//! **Out**: [`Action`]s, in the order in which they are to be done. A
//! [`Fetch`] is one ranged request and the files it brings, in the order in
//! which their bytes come; each is to be reported as it is complete, so that
//! the first need not wait for the last. A fetch ends when all its files were
//! reported. A [`Action::Cancel`] ends it early: its files must not be
//! reported any more. The caller must not fetch by itself what a fetch is
//! under way for; it waits for it.
//!
//! **Demand first.** A demanded file is asked for at once, with a connection
//! kept free for it, and stands first in its request. What is fetched ahead
//! never uses more than [`Config::ahead`] connections, nor has more bytes under
//! way than the link carries in a round trip, and half of that while somebody
//! waits.
//!
//! **Is it worth it?** A prediction saves its probability times a round trip
//! and costs the time its bytes keep the link. Most files are small and
//! round trips long, so by that measure nearly everything is worth it; what
//! limits prefetching in truth is waste, and a ledger holds it to a multiple of
//! the bytes that were opened. Under that limit the best is taken
//! first: what the model expects within the time a fetch takes, the soonest
//! first; then the kin of what was opened, by probability per byte. Files that
//! lie together in the pack come in one request.
//!
//! **Who is believed.** What earlier sessions opened and what merely lies near
//! have an account each. Guesses are for sessions that repeat nothing: the more
//! of what is opened was known ([`Model::familiarity`]), the less may be risked
//! on them, and the same where few of them turn out right.

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
    /// Not here.
    Away,
    /// Asked for.
    Flying(FetchId),
    /// Here.
    Held,
    /// Could not be had; asked for again only on demand.
    Failed,
}

/// The state of one session.
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
    /// Demands for which no connection was free.
    queue: VecDeque<FileId>,
    waiting: HashMap<FileId, Vec<TaskId>>,
    /// When each task was last answered.
    answered: BTreeMap<TaskId, Seconds>,
    /// Kin as it was weighed last; weighed anew when a file is opened first.
    kin: Option<Arc<Ranked>>,
    /// Seconds in which nobody waited, up to `passed`.
    clock: Seconds,
    passed: Seconds,
    /// Grows while predictions come late.
    reach: f64,
    /// Part of the last first opens that the model had foretold.
    guided: f64,
    /// What a session opens, from earlier ones; 0 when there were none.
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
    /// A session begins, with what earlier ones taught.
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

    /// What has been learned so far.
    pub fn profile(&self) -> Profile {
        Profile {
            session_bytes: self.usual_bytes(),
            model: self.model.clone(),
            rates: self.kinship.clone().into_rates(&self.catalogue),
        }
    }

    /// Stored bytes that sessions open, this one included.
    fn usual_bytes(&self) -> f64 {
        let bytes = self.ledger.useful() as f64;
        match self.session_bytes {
            earlier if earlier > 0.0 => earlier * 0.7 + bytes * 0.3,
            _ => bytes,
        }
    }

    /// Takes over what somebody else learned; `trust` is how far this session is
    /// believed to repeat it, 0..=1.
    pub fn merge(&mut self, profile: &Profile, trust: f64) {
        self.model.merge(&profile.model, trust);
        self.kinship.merge(&profile.rates);
        if self.session_bytes <= 0.0 {
            self.session_bytes = profile.session_bytes;
        }
        self.kin = None;
    }

    /// Forgets what was learned for something else.
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

    /// What the repository tells of its history, where it was told.
    pub fn prior(&self) -> Option<&Arc<Prior>> {
        self.kinship.prior()
    }

    /// Tells which files changed together in the repository's history.
    pub fn tell(&mut self, prior: Arc<Prior>) {
        self.kinship.tell(&self.catalogue, prior);
        self.kin = None;
    }

    /// The files that are known.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The files that are known, to add more.
    pub fn catalogue_mut(&mut self) -> &mut Catalogue {
        &mut self.catalogue
    }

    /// What has been done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Transitions that are known.
    pub fn transitions(&self) -> usize {
        self.model.transitions()
    }

    /// What the link is believed to be.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Whether a file is here.
    pub fn is_held(&self, file: FileId) -> bool {
        self.file(file).state == State::Held
    }

    /// Bytes at risk on what is learned and on what is guessed, each with what
    /// may be.
    pub fn at_risk(&self) -> [(u64, u64); 2] {
        [Account::Learned, Account::Guessed].map(|account| {
            let risk = self.ledger.at_risk(account);
            (risk, risk + self.left(account))
        })
    }

    /// A task begins to read a file.
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

    /// A file's bytes are there.
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

    /// A file's bytes will not come.
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

    /// Time has passed: to be called when [`wake`](Scheduler::wake) said.
    pub fn tick(&mut self, now: Seconds) -> Vec<Action> {
        let mut actions = Vec::new();
        self.pass(now);
        self.go_on(now, &mut actions);
        actions
    }

    /// When a file that is expected later must be asked for to be there in
    /// time, if nothing else happens before. Changes with every event.
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

    /// The cache has a file already.
    pub fn held(&mut self, file: FileId) {
        if matches!(self.file(file).state, State::Away | State::Failed) {
            self.file_mut(file).state = State::Held;
            self.queue.retain(|&it| it != file);
        }
    }

    /// The cache has a file no more.
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

    /// How far ahead, in seconds, what is expected is fetched.
    fn horizon(&self) -> Seconds {
        LEAD * self.reach * self.link.rtt()
    }

    /// Time passes; the clock of the model stands still while anybody waits.
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

    /// Uses what connections are free: for whoever waits, then ahead.
    fn go_on(&mut self, now: Seconds, actions: &mut Vec<Action>) {
        while self.flights.len() < self.config.connections {
            let Some(file) = self.queue.pop_front() else {
                break;
            };
            // It may have come along with another meanwhile.
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

    /// Ends large requests for what is no longer expected.
    fn cancel_stale(&mut self, now: Seconds, actions: &mut Vec<Action>) {
        // A short one is as good as done.
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
