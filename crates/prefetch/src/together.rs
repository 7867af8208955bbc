//! What changed together with the files that are opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalogue::{Catalogue, FileId};
use super::rates::Rate;
use walgit_format::Prior;
use walgit_format::prior::PathName;

/// Part of what a prior says that comes true, before any was counted. Whoever
/// works on one change reads what it touches; a compiler does not.
const TRUE: f64 = 0.7;
const TRUE_WEIGHT: f64 = 4.0;
/// What is less probable is not noted.
const HARDLY: f64 = 0.05;

/// What a prior says in one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Together {
    prior: Option<Arc<Prior>>,
    /// Files that changed together with an opened one: the largest part of its
    /// commits, and when that was said last, in opens.
    said: BTreeMap<PathName, (f64, u64)>,
}

impl Together {
    /// Sets the prior.
    pub(super) fn tell(&mut self, prior: Arc<Prior>) {
        self.prior = Some(prior);
    }

    /// The prior, where there is one.
    pub(super) fn prior(&self) -> Option<&Arc<Prior>> {
        self.prior.as_ref()
    }

    /// Notes that a file is opened, the `at`-th; counts in `rate` what was said
    /// and what of it came true. `opened` tells the files opened before.
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

    /// Forgets what was said last before the `before`-th open.
    pub(super) fn forget(&mut self, before: u64) {
        self.said.retain(|_, &mut (_, last)| last >= before);
    }

    /// The files that are said, with the probability that they are opened.
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
