//! Prediction beyond the next open.
//!
//! From the position of a sequence, the most likely continuations are followed, in
//! order of probability, until they become unlikely or the step limit is reached. A
//! file's probability is the sum over the paths that lead to it; its time is that
//! of the most likely one. Files already opened in this session are passed through:
//! an interleaved process may have opened them a moment ago.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::context::{OpenHistory, Sequence};
use super::{Forecast, Model, PathId, TaskId};

/// Minimum probability of a continuation that is followed.
const MIN_PROBABILITY: f64 = 0.03;
/// Maximum number of steps of one prediction; bounds its time to some 100 µs.
const MAX_STEPS: usize = 160;
/// Maximum number of new processes to predict.
const MAX_NEW_TASKS: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Continuation {
    probability: f64,
    after: f64,
    history: OpenHistory,
}

impl Model {
    /// Returns the next opens of the process itself, with probabilities that sum to
    /// at most 1.
    pub fn next(&self, task: TaskId) -> Vec<Forecast> {
        let task = self.current.tasks.get(&task).copied().unwrap_or_default();
        self.next_in(Sequence::Process, task.history)
    }

    /// Returns what `task` will open within about `horizon` seconds, soonest first.
    /// Only files not yet opened in this session.
    pub fn forecast(&self, task: TaskId, horizon: f64) -> Vec<Forecast> {
        let Some(task) = self.current.tasks.get(&task) else {
            return Vec::new();
        };
        let mut found = Forecasts::default();
        let start = Continuation::new(task.history, 0.0);
        self.follow(Sequence::Process, start, horizon, &mut found);
        found.sorted(self)
    }

    /// Like [`forecast`](Model::forecast), for all tasks: new processes with their
    /// opens, and the order of first opens. `clock` is that of
    /// [`opened`](Model::opened).
    pub fn forecast_all_tasks(&self, clock: f64, horizon: f64) -> Vec<Forecast> {
        let mut found = Forecasts::default();
        let state = &self.current;
        let first_opens = Continuation::new(state.first_opens, state.first_open_at - clock);
        self.follow(Sequence::FirstOpens, first_opens, horizon, &mut found);
        let mut starts = Continuation::new(state.task_starts, state.task_start_at - clock);
        for _ in 0..MAX_NEW_TASKS {
            let next = self
                .next_in(Sequence::TaskStarts, starts.history)
                .into_iter();
            let likeliest = next.max_by(|a, b| a.probability.total_cmp(&b.probability));
            let Some(next) = likeliest else {
                break;
            };
            let hash = self.paths.hash(next.path);
            starts = starts.then(next, hash);
            if starts.probability < MIN_PROBABILITY || starts.after > horizon {
                break;
            }
            let new_task = Continuation {
                history: OpenHistory::default().then(hash),
                ..starts
            };
            let mut of_new_task = Forecasts::default();
            of_new_task.record(next.path, new_task);
            self.follow(Sequence::Process, new_task, horizon, &mut of_new_task);
            found.merge_max(of_new_task);
        }
        found.sorted(self)
    }

    /// Follows the most likely continuations of a sequence.
    fn follow(&self, sequence: Sequence, from: Continuation, horizon: f64, found: &mut Forecasts) {
        let mut pending = BinaryHeap::from([from]);
        let mut visited = BTreeSet::new();
        let mut steps = 0;
        while let Some(continuation) = pending.pop() {
            // A repetition reaches the same position again.
            let position = continuation.history.contexts(sequence).next();
            if position.is_some_and(|(_, context)| !visited.insert(context)) {
                continue;
            }
            steps += 1;
            if steps > MAX_STEPS {
                break;
            }
            for next in self.next_in(sequence, continuation.history) {
                let continued = continuation.then(next, self.paths.hash(next.path));
                if continued.probability < MIN_PROBABILITY {
                    continue;
                }
                if !self.current.opened.contains(&next.path) {
                    found.record(next.path, continued);
                }
                if continued.after <= horizon {
                    pending.push(continued);
                }
            }
        }
    }

    /// Returns the next opens of a sequence with orders blended: each context
    /// receives the probability that longer ones left, and uses as much of it as
    /// its confidence.
    fn next_in(&self, sequence: Sequence, history: OpenHistory) -> Vec<Forecast> {
        let mut next: Vec<Forecast> = Vec::new();
        let mut left = 1.0;
        for (order, context) in history.contexts(sequence) {
            let Some((evidence, successors)) = self.chain.successors(context) else {
                continue;
            };
            let trust = left * self.confidence.of(sequence, order, evidence);
            left -= trust;
            for successor in successors {
                let probability = trust * successor.share;
                match next.iter_mut().find(|it| it.path == successor.path) {
                    Some(known) => known.probability += probability,
                    None => next.push(Forecast {
                        path: successor.path,
                        probability,
                        after: successor.gap,
                    }),
                }
            }
        }
        next
    }
}

impl Continuation {
    fn new(history: OpenHistory, after: f64) -> Self {
        Continuation {
            probability: 1.0,
            after,
            history,
        }
    }

    fn then(&self, next: Forecast, hash: u64) -> Self {
        Continuation {
            probability: self.probability * next.probability,
            after: self.after + next.after,
            history: self.history.then(hash),
        }
    }
}

impl PartialEq for Continuation {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Continuation {}

impl PartialOrd for Continuation {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Continuation {
    fn cmp(&self, other: &Self) -> Ordering {
        self.probability.total_cmp(&other.probability)
    }
}

#[derive(Debug, Default)]
struct Forecasts {
    /// Probability, probability of the most likely path to the file, and its time.
    files: BTreeMap<PathId, (f64, f64, f64)>,
}

impl Forecasts {
    fn record(&mut self, path: PathId, continuation: Continuation) {
        let (all, likeliest, after) = self.files.entry(path).or_default();
        *all = (*all + continuation.probability).min(1.0);
        if continuation.probability > *likeliest {
            *likeliest = continuation.probability;
            *after = continuation.after;
        }
    }

    /// Merges another source; the higher probability wins.
    fn merge_max(&mut self, other: Forecasts) {
        for (path, forecast) in other.files {
            let best = self.files.entry(path).or_insert(forecast);
            if forecast.0 > best.0 {
                *best = forecast;
            }
        }
    }

    fn sorted(self, model: &Model) -> Vec<Forecast> {
        let files = self.files.into_iter();
        let mut forecasts: Vec<Forecast> = files
            .filter(|(path, _)| !model.current.opened.contains(path))
            .map(|(path, (probability, _, after))| Forecast {
                path,
                probability,
                after: after.max(0.0),
            })
            .collect();
        forecasts.sort_by(|a, b| a.after.total_cmp(&b.after));
        forecasts
    }
}
