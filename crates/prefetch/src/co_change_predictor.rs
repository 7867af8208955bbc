//! Files that changed together with opened files.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::file_index::{FileId, FileIndex};
use super::rates::Rate;
use walgit_format::Prior;
use walgit_format::prior::PathName;

/// Initial fraction of a prior's predictions that come true. A developer who works
/// on one change reads the files that it touches; a compiler does not.
const INITIAL_RATE: f64 = 0.7;
const INITIAL_WEIGHT: f64 = 4.0;
/// Minimum probability of a recorded prediction.
const MIN_PROBABILITY: f64 = 0.05;

/// Predictions of a prior in one session.
#[derive(Clone, Debug, Default)]
pub(super) struct CoChangePredictor {
    prior: Option<Arc<Prior>>,
    /// Files that changed together with an opened one: the largest fraction of its
    /// commits, and the time of the last prediction, in opens.
    predicted: BTreeMap<PathName, (f64, u64)>,
}

impl CoChangePredictor {
    pub(super) fn set_prior(&mut self, prior: Arc<Prior>) {
        self.prior = Some(prior);
    }

    pub(super) fn prior(&self) -> Option<&Arc<Prior>> {
        self.prior.as_ref()
    }

    /// Records the `at`-th open of a file; counts predictions and hits in `rate`.
    /// `opened` returns whether a file was opened before.
    pub(super) fn opened(
        &mut self,
        index: &FileIndex,
        file: FileId,
        at: u64,
        rate: &mut Rate,
        opened: impl Fn(FileId) -> bool,
    ) {
        let name = PathName::of(index.path(file).as_bytes());
        if self.predicted.remove(&name).is_some() {
            rate.add(0.0, 1.0);
        }
        let Some(prior) = &self.prior else { return };
        for (other, fraction) in (prior.with(name)).filter(|it| it.1 >= MIN_PROBABILITY) {
            if index.named(other).is_some_and(&opened) {
                continue;
            }
            let (predicted, last) = self.predicted.entry(other).or_default();
            *last = at;
            if fraction > *predicted {
                rate.add((fraction - *predicted) as f32, 0.0);
                *predicted = fraction;
            }
        }
    }

    /// Removes predictions last made before open number `before`.
    pub(super) fn forget(&mut self, before: u64) {
        self.predicted.retain(|_, &mut (_, last)| last >= before);
    }

    /// Returns the predicted files with the probability that they are opened.
    pub(super) fn files(
        &self,
        index: &FileIndex,
        rate: Rate,
    ) -> impl Iterator<Item = (FileId, f64)> {
        let ratio = rate.ratio(INITIAL_RATE, INITIAL_WEIGHT);
        let predicted = self.predicted.iter();
        predicted
            .filter_map(move |(&name, &(fraction, _))| Some((index.named(name)?, fraction * ratio)))
    }
}
