//! Events of a session, and the actions that follow.

use super::super::file_index::FileId;
use super::super::model::TaskId;
use super::action::{Action, Seconds};
use super::select::{MIN_PROBABILITY, SelectedFile};
use super::state::{FileState, ScheduledFile, Scheduler};

/// Maximum number of tasks whose last answer is remembered.
const MAX_ANSWERED_TASKS: usize = 4096;

impl Scheduler {
    /// Records that a task starts to read a file.
    pub fn opened(&mut self, task: TaskId, file: FileId, now: Seconds) -> Vec<Action> {
        let answered = self.answered.get(&task).copied().unwrap_or(now);
        let gap = (now - answered).max(0.0);
        self.advance(now);
        let path = self.file_index.path(file);
        self.model.opened(task, path, gap, self.clock);

        let before = self.file(file);
        if !before.opened {
            self.record_first_open(file, before);
        }
        if self.config.prefetches > 0 {
            let (times, horizon) = ((now, self.clock), self.horizon());
            (self.predictions).update(&self.model, &self.file_index, task, times, horizon);
        }
        match before.state {
            FileState::Cached => self.record_answer(task, now),
            FileState::InFlight(id) => {
                if self.in_flight.is_prefetch(id) {
                    self.counts.files_late += 1;
                    self.lead_factor = (self.lead_factor * 1.25).min(8.0);
                }
                self.in_flight.set_demanded(id);
                self.waiting.entry(file).or_default().push(task);
            }
            FileState::Missing | FileState::Failed => {
                self.waiting.entry(file).or_default().push(task);
                if !self.queue.contains(&file) {
                    self.queue.push_back(file);
                }
            }
        }
        let mut actions = Vec::new();
        self.cancel_unexpected(now, &mut actions);
        self.start_requests(now, &mut actions);
        actions
    }

    /// Records that the bytes of a file have arrived.
    pub fn fetched(&mut self, file: FileId, now: Seconds) -> Vec<Action> {
        self.ended(file, FileState::Cached, now)
    }

    /// Records that the bytes of a file will not arrive.
    pub fn failed(&mut self, file: FileId, now: Seconds) -> Vec<Action> {
        self.ended(file, FileState::Failed, now)
    }

    fn ended(&mut self, file: FileId, state: FileState, now: Seconds) -> Vec<Action> {
        let mut actions = Vec::new();
        self.advance(now);
        if let FileState::InFlight(id) = self.file(file).state {
            self.file_mut(file).state = state;
            if state == FileState::Cached {
                let bytes = self.file_index.range(file).len;
                if let Some(timing) = self.in_flight.arrived(id, file, bytes, now) {
                    self.link.record(timing);
                }
            } else {
                self.budget.release(file);
                self.in_flight.failed(id, file);
            }
            for task in self.waiting.remove(&file).unwrap_or_default() {
                self.record_answer(task, now);
            }
            self.start_requests(now, &mut actions);
        }
        actions
    }

    /// Advances the time; call it when [`wake`](Scheduler::wake) is due.
    pub fn tick(&mut self, now: Seconds) -> Vec<Action> {
        let mut actions = Vec::new();
        self.advance(now);
        self.start_requests(now, &mut actions);
        actions
    }

    /// Returns when a later expected file must be requested to arrive in time, if
    /// nothing else happens before. Changes with every event.
    pub fn wake(&self) -> Option<Seconds> {
        let horizon = self.horizon();
        let later = self.predictions.soonest().iter().filter(|it| {
            let bytes = self.file_index.range(it.file).len;
            self.is_missing(it.file) && self.is_worth(bytes, it.probability)
        });
        later.map(|it| it.due - horizon).find(|&at| at > self.now)
    }

    /// Records that the cache already has a file.
    pub fn mark_cached(&mut self, file: FileId) {
        if self.file(file).state.needs_request() {
            self.file_mut(file).state = FileState::Cached;
            self.queue.retain(|&it| it != file);
        }
    }

    fn record_first_open(&mut self, file: FileId, before: ScheduledFile) {
        self.file_mut(file).opened = true;
        let predicted = self.predictions.probability(file);
        self.model_hit_rate += (predicted - self.model_hit_rate) * 0.1;
        self.locality.opened(&self.file_index, file);
        self.budget.opened(file, self.file_index.range(file).len);
        self.ranked = None;
        self.counts.files_hit += u64::from(before.prefetched);
        if before.prefetched && before.state == FileState::Cached {
            self.lead_factor = (self.lead_factor * 0.99).max(1.0);
        }
    }

    /// Advances the time; the clock of the model stops while any task waits.
    fn advance(&mut self, now: Seconds) {
        if self.waiting.is_empty() {
            self.clock += (now - self.now).max(0.0);
        }
        self.now = self.now.max(now);
    }

    fn record_answer(&mut self, task: TaskId, now: Seconds) {
        self.answered.insert(task, now);
        if self.answered.len() > MAX_ANSWERED_TASKS {
            let mut times: Vec<Seconds> = self.answered.values().copied().collect();
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            self.answered.retain(|_, &mut at| at > median);
        }
    }

    /// Uses free connections: first for demands, then for prefetches.
    fn start_requests(&mut self, now: Seconds, actions: &mut Vec<Action>) {
        while self.in_flight.len() < self.config.connections {
            let Some(file) = self.queue.pop_front() else {
                break;
            };
            // Another request may have delivered it since.
            if self.file(file).state.needs_request() {
                let selected = self.select_demand(file);
                self.start(&selected, Some(file), now, actions);
            }
        }
        while self.queue.is_empty()
            && self.in_flight.prefetches() < self.config.prefetches
            && self.in_flight.len() + 1 < self.config.connections
        {
            let Some(selected) = self.select_prefetch(now) else {
                break;
            };
            self.start(&selected, None, now, actions);
        }
    }

    fn start(
        &mut self,
        selected: &[SelectedFile],
        demanded: Option<FileId>,
        now: Seconds,
        actions: &mut Vec<Action>,
    ) {
        let fetch = self.request(selected, demanded);
        match demanded {
            Some(_) => self.counts.demands += 1,
            None => self.counts.prefetches += 1,
        }
        let mut expected = false;
        for it in selected {
            expected |= self.predictions.probability(it.file) >= MIN_PROBABILITY;
            let file = self.file_mut(it.file);
            file.state = FileState::InFlight(fetch.id);
            if Some(it.file) == demanded {
                continue;
            }
            file.prefetched = true;
            let opened = file.opened;
            self.counts.files_prefetched += 1;
            if !opened {
                let bytes = self.file_index.range(it.file).len;
                (self.budget).charge(it.file, bytes, it.probability, it.account);
            }
        }
        self.in_flight.start(&fetch, expected, now);
        actions.push(Action::Fetch(fetch));
    }

    /// Cancels large requests for files that are no longer expected.
    fn cancel_unexpected(&mut self, now: Seconds, actions: &mut Vec<Action>) {
        // A short request is nearly done anyway.
        let min_bytes = self.link.nearly_free();
        let min_age = 2.0 * self.link.rtt();
        for (id, files) in self.in_flight.cancellable(min_bytes, now - min_age) {
            let is_expected =
                |&file: &FileId| self.predictions.probability(file) >= MIN_PROBABILITY;
            if files.iter().any(is_expected) {
                continue;
            }
            for file in files {
                self.file_mut(file).state = FileState::Missing;
                self.budget.release(file);
            }
            self.in_flight.cancel(id);
            self.counts.cancelled += 1;
            actions.push(Action::Cancel(id));
        }
    }
}
