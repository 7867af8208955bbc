//! Files that changed together with opened files.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalogue::{Catalogue, FileId};
use super::rates::Rate;
use walgit_format::Prior;
use walgit_format::prior::PathName;

/// Initial fraction of a prior's predictions that come true. A developer who works
/// on one change reads the files that it touches; a compiler does not.
const TRUE: f64 = 0.7;
const TRUE_WEIGHT: f64 = 4.0;
/// Minimum probability of a recorded prediction.
const HARDLY: f64 = 0.05;

/// Predictions of a prior in one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Together {
    prior: Option<Arc<Prior>>,
    /// Files that changed together with an opened one: the largest fraction of its
    /// commits, and the time of the last prediction, in opens.
    said: BTreeMap<PathName, (f64, u64)>,
}

impl Together {
    /// Sets the prior.
    pub(super) fn tell(&mut self, prior: Arc<Prior>) {
        self.prior = Some(prior);
    }

    /// Returns the prior, if there is one.
    pub(super) fn prior(&self) -> Option<&Arc<Prior>> {
        self.prior.as_ref()
    }

    /// Records the `at`-th open of a file; counts predictions and hits in `rate`.
    /// `opened` returns whether a file was opened before.
    pub(super) fn opened(
        &mut self,
        catalogue: &Catalogue,
        file: FileId,
        at: u64,
        rate: &mut Rate,
        opened: impl Fn(FileId) -> bool,
    ) {
        let name = PathName::of(catalogue.path(file).as_bytes());
        if self.said.remove(&name).is_some() {
            rate.add(0.0, 1.0);
        }
        let Some(prior) = &self.prior else { return };
        for (other, part) in prior.with(name).filter(|&(_, part)| part >= HARDLY) {
            if catalogue.named(other).is_some_and(&opened) {
                continue;
            }
            let (said, last) = self.said.entry(other).or_default();
            *last = at;
            if part > *said {
                rate.add((part - *said) as f32, 0.0);
                *said = part;
            }
        }
    }

    /// Removes predictions last made before open number `before`.
    pub(super) fn forget(&mut self, before: u64) {
        self.said.retain(|_, &mut (_, last)| last >= before);
    }

    /// Returns the predicted files with the probability that they are opened.
    pub(super) fn files(
        &self,
        catalogue: &Catalogue,
        rate: Rate,
    ) -> impl Iterator<Item = (FileId, f64)> {
        let share = rate.share(TRUE, TRUE_WEIGHT);
        let said = self.said.iter();
        said.filter_map(move |(&name, &(part, _))| Some((catalogue.named(name)?, part * share)))
    }
}
