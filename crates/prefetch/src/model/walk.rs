//! Prediction beyond the next open.
//!
//! From the position of a stream, the most likely continuations are followed, in
//! order of probability, until they become unlikely or the step limit is reached. A
//! file's probability is the sum over the paths that lead to it; its time is that
//! of the most likely one. Files already opened in this session are passed through:
//! an interleaved process may have opened them a moment ago.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::context::{History, Stream};
use super::{Forecast, Model, PathId, TaskId};

/// Minimum probability of a continuation that is followed.
const UNLIKELY: f64 = 0.03;
/// Maximum number of steps of one prediction; bounds its time to some 100 µs.
const MAX_STEPS: usize = 160;
/// Maximum number of new processes to predict.
const BIRTHS: usize = 4;

/// One continuation of a history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) path: PathId,
    pub(super) probability: f64,
    pub(super) gap: f64,
}

#[derive(Clone, Copy, Debug)]
struct Way {
    probability: f64,
    after: f64,
    history: History,
}

impl Model {
    /// Returns the next opens of the process itself, with probabilities that sum to
    /// at most 1.
    pub fn next(&self, task: TaskId) -> Vec<Forecast> {
        let task = self.now.tasks.get(&task).copied().unwrap_or_default();
        let steps = self.steps(Stream::Process, task.history);
        let forecast = |step: Step| Forecast {
            path: step.path,
            probability: step.probability,
            after: step.gap,
        };
        steps.into_iter().map(forecast).collect()
    }

    /// Returns what `task` will open within about `horizon` seconds, soonest first.
    /// Only files not yet opened in this session.
    pub fn forecast(&self, task: TaskId, horizon: f64) -> Vec<Forecast> {
        let Some(task) = self.now.tasks.get(&task) else {
            return Vec::new();
        };
        let mut found = Found::default();
        self.walk(
            Stream::Process,
            Way::from(task.history),
            horizon,
            &mut found,
        );
        found.sorted(self)
    }

    /// Like [`forecast`](Model::forecast), for all tasks: new processes with their
    /// opens, and the order of first opens. `clock` is that of
    /// [`opened`](Model::opened).
    pub fn forecast_anyone(&self, clock: f64, horizon: f64) -> Vec<Forecast> {
        let mut found = Found::default();
        let mut firsts = Way::from(self.now.firsts);
        firsts.after = self.now.first_at - clock;
        self.walk(Stream::Firsts, firsts, horizon, &mut found);
        let mut births = Way::from(self.now.births);
        births.after = self.now.birth_at - clock;
        for _ in 0..BIRTHS {
            let steps = self.steps(Stream::Births, births.history);
            let Some(step) = steps
                .into_iter()
                .max_by(|a, b| a.probability.total_cmp(&b.probability))
            else {
                break;
            };
            births = births.step(step, self.paths.hash(step.path));
            if births.probability < UNLIKELY || births.after > horizon {
                break;
            }
            let born = Way {
                history: History::default().then(self.paths.hash(step.path)),
                ..births
            };
            let mut of_born = Found::default();
            of_born.note(step.path, born);
            self.walk(Stream::Process, born, horizon, &mut of_born);
            found.either(of_born);
        }
        found.sorted(self)
    }

    fn walk(&self, stream: Stream, from: Way, horizon: f64, found: &mut Found) {
        let mut ways = BinaryHeap::from([from]);
        let mut been = BTreeSet::new();
        let mut steps = 0;
        while let Some(way) = ways.pop() {
            // A repetition reaches the same position again.
            let place = way.history.contexts(stream).next();
            if place.is_some_and(|(_, context)| !been.insert(context)) {
                continue;
            }
            steps += 1;
            if steps > MAX_STEPS {
                break;
            }
            for step in self.steps(stream, way.history) {
                let next = way.step(step, self.paths.hash(step.path));
                if next.probability < UNLIKELY {
                    continue;
                }
                if !self.now.opened.contains(&step.path) {
                    found.note(step.path, next);
                }
                if next.after <= horizon {
                    ways.push(next);
                }
            }
        }
    }

    /// Returns the next opens of a stream with orders blended: each context
    /// receives the probability that longer ones left, and uses as much of it as
    /// its confidence.
    pub(super) fn steps(&self, stream: Stream, history: History) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut left = 1.0;
        for (order, context) in history.contexts(stream) {
            let Some((evidence, successors)) = self.chain.successors(context) else {
                continue;
            };
            let trust = left * self.confidence.of(stream, order, evidence);
            left -= trust;
            for successor in successors {
                let probability = trust * successor.share;
                match steps.iter_mut().find(|step| step.path == successor.path) {
                    Some(step) => step.probability += probability,
                    None => steps.push(Step {
                        path: successor.path,
                        probability,
                        gap: successor.gap,
                    }),
                }
            }
        }
        steps
    }
}

impl Way {
    fn from(history: History) -> Self {
        Way {
            probability: 1.0,
            after: 0.0,
            history,
        }
    }

    fn step(&self, step: Step, hash: u64) -> Self {
        Way {
            probability: self.probability * step.probability,
            after: self.after + step.gap,
            history: self.history.then(hash),
        }
    }
}

impl PartialEq for Way {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Way {}

impl PartialOrd for Way {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Way {
    fn cmp(&self, other: &Self) -> Ordering {
        self.probability.total_cmp(&other.probability)
    }
}

#[derive(Debug, Default)]
struct Found {
    /// Probability, probability of the most likely path to the file, and its time.
    files: BTreeMap<PathId, (f64, f64, f64)>,
}

impl Found {
    fn note(&mut self, path: PathId, way: Way) {
        let (all, likeliest, after) = self.files.entry(path).or_default();
        *all = (*all + way.probability).min(1.0);
        if way.probability > *likeliest {
            *likeliest = way.probability;
            *after = way.after;
        }
    }

    /// Merges another source; the higher probability wins.
    fn either(&mut self, other: Found) {
        for (path, said) in other.files {
            let own = self.files.entry(path).or_insert(said);
            if said.0 > own.0 {
                *own = said;
            }
        }
    }

    fn sorted(self, model: &Model) -> Vec<Forecast> {
        let files = self.files.into_iter();
        let mut forecasts: Vec<Forecast> = files
            .filter(|(path, _)| !model.now.opened.contains(path))
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
