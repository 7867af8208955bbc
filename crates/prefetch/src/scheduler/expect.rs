//! Current expectations of the model, for all tasks together.

use std::collections::{BTreeMap, HashMap};

use super::super::catalogue::{Catalogue, FileId};
use super::super::model::{Forecast, Model, PathId, TaskId};
use super::Seconds;

/// An expected file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) file: FileId,
    pub(super) probability: f64,
    /// Time at which it is needed.
    pub(super) due: Seconds,
}

/// Maximum number of tasks with expectations: the most recently active ones.
const TASKS: usize = 16;
/// Seconds of inactivity after which the expectations of a task expire.
const SILENT: Seconds = 2.0;

/// The forecast of each task at its last open, and the forecast for new tasks.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    tasks: BTreeMap<TaskId, (Seconds, Vec<Expected>)>,
    anyone: Vec<Expected>,
    soonest: Vec<Expected>,
    probabilities: HashMap<FileId, f64>,
    /// Files by path ID of the model.
    files: HashMap<PathId, FileId>,
}

impl Expectations {
    /// Records that a task has opened a file.
    pub(super) fn note(
        &mut self,
        model: &Model,
        catalogue: &Catalogue,
        task: TaskId,
        (now, clock): (Seconds, Seconds),
        horizon: Seconds,
    ) {
        let own = self.located(model, catalogue, &model.forecast(task, horizon), now);
        self.anyone = self.located(
            model,
            catalogue,
            &model.forecast_anyone(clock, horizon),
            now,
        );
        self.tasks.insert(task, (now, own));
        self.tasks.retain(|_, &mut (at, _)| now - at < SILENT);
        if self.tasks.len() > TASKS {
            let oldest = (self.tasks.iter()).min_by(|a, b| a.1.0.total_cmp(&b.1.0));
            if let Some(oldest) = oldest.map(|(&task, _)| task) {
                self.tasks.remove(&oldest);
            }
        }
        self.merge();
    }

    /// Returns all expected files, soonest first.
    pub(super) fn soonest(&self) -> &[Expected] {
        &self.soonest
    }

    /// Returns the probability that a file is opened, as far as the model knows.
    pub(super) fn of(&self, file: FileId) -> f64 {
        self.probabilities.get(&file).copied().unwrap_or_default()
    }

    fn located(
        &mut self,
        model: &Model,
        catalogue: &Catalogue,
        forecasts: &[Forecast],
        now: Seconds,
    ) -> Vec<Expected> {
        let mut located = Vec::with_capacity(forecasts.len());
        for forecast in forecasts {
            let known = self.files.get(&forecast.path).copied();
            // IDs of forgotten paths are reused.
            let known =
                known.filter(|&file| model.path(forecast.path) == Some(catalogue.path(file)));
            let file = known.or_else(|| catalogue.find(model.path(forecast.path)?));
            if let Some(file) = file {
                self.files.insert(forecast.path, file);
                located.push(Expected {
                    file,
                    probability: forecast.probability,
                    due: now + forecast.after,
                });
            }
        }
        located
    }

    fn merge(&mut self) {
        let mut files: HashMap<FileId, Expected> = HashMap::new();
        let tasks = self.tasks.values().flat_map(|(_, expected)| expected);
        for expected in tasks.chain(&self.anyone) {
            let it = files.entry(expected.file).or_insert(*expected);
            it.probability = it.probability.max(expected.probability);
            it.due = it.due.min(expected.due);
        }
        self.soonest = files.into_values().collect();
        // Ties are ordered by number, so that the same events lead to the same
        // decisions.
        self.soonest
            .sort_by(|a, b| a.due.total_cmp(&b.due).then(a.file.cmp(&b.file)));
        self.probabilities = (self.soonest.iter())
            .map(|expected| (expected.file, expected.probability))
            .collect();
    }
}
