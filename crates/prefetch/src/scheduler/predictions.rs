//! Current predictions of the model, for all tasks together.

use std::collections::{BTreeMap, HashMap};

use super::super::file_index::{FileId, FileIndex};
use super::super::model::{Forecast, Model, PathId, TaskId};
use super::action::Seconds;

/// A file that is expected to be opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PredictedOpen {
    pub(super) file: FileId,
    pub(super) probability: f64,
    /// Time at which it is needed.
    pub(super) due: Seconds,
}

/// Maximum number of tasks with predictions: the most recently active ones.
const MAX_TASKS: usize = 16;
/// Seconds of inactivity after which the predictions of a task expire.
const TASK_EXPIRY: Seconds = 2.0;

/// The forecast of each task at its last open, and the forecast for all tasks.
#[derive(Debug, Default)]
pub(super) struct Predictions {
    tasks: BTreeMap<TaskId, (Seconds, Vec<PredictedOpen>)>,
    all_tasks: Vec<PredictedOpen>,
    soonest: Vec<PredictedOpen>,
    probabilities: HashMap<FileId, f64>,
    /// Files by path ID of the model.
    files: HashMap<PathId, FileId>,
}

impl Predictions {
    /// Records that a task has opened a file.
    pub(super) fn update(
        &mut self,
        model: &Model,
        index: &FileIndex,
        task: TaskId,
        (now, clock): (Seconds, Seconds),
        horizon: Seconds,
    ) {
        let of_task = self.locate(model, index, &model.forecast(task, horizon), now);
        let all_tasks = model.forecast_all_tasks(clock, horizon);
        self.all_tasks = self.locate(model, index, &all_tasks, now);
        self.tasks.insert(task, (now, of_task));
        self.tasks.retain(|_, &mut (at, _)| now - at < TASK_EXPIRY);
        if self.tasks.len() > MAX_TASKS {
            let oldest = (self.tasks.iter()).min_by(|a, b| a.1.0.total_cmp(&b.1.0));
            if let Some(oldest) = oldest.map(|(&task, _)| task) {
                self.tasks.remove(&oldest);
            }
        }
        self.merge();
    }

    /// Returns all expected files, soonest first.
    pub(super) fn soonest(&self) -> &[PredictedOpen] {
        &self.soonest
    }

    /// Returns the probability that a file is opened, as far as the model knows.
    pub(super) fn probability(&self, file: FileId) -> f64 {
        self.probabilities.get(&file).copied().unwrap_or_default()
    }

    fn locate(
        &mut self,
        model: &Model,
        index: &FileIndex,
        forecasts: &[Forecast],
        now: Seconds,
    ) -> Vec<PredictedOpen> {
        let located = forecasts.iter().filter_map(|forecast| {
            let path = model.path(forecast.path);
            let known = self.files.get(&forecast.path).copied();
            // IDs of forgotten paths are reused.
            let known = known.filter(|&file| path == Some(index.path(file)));
            let file = known.or_else(|| index.find(path?))?;
            self.files.insert(forecast.path, file);
            Some(PredictedOpen {
                file,
                probability: forecast.probability,
                due: now + forecast.after,
            })
        });
        located.collect()
    }

    fn merge(&mut self) {
        let mut files: HashMap<FileId, PredictedOpen> = HashMap::new();
        let tasks = self.tasks.values().flat_map(|(_, predicted)| predicted);
        for predicted in tasks.chain(&self.all_tasks) {
            let it = files.entry(predicted.file).or_insert(*predicted);
            it.probability = it.probability.max(predicted.probability);
            it.due = it.due.min(predicted.due);
        }
        self.probabilities = (files.values().map(|it| (it.file, it.probability))).collect();
        self.soonest = files.into_values().collect();
        // Ties are ordered by number, so that the same events lead to the same
        // decisions.
        self.soonest
            .sort_by(|a, b| a.due.total_cmp(&b.due).then(a.file.cmp(&b.file)));
    }
}
