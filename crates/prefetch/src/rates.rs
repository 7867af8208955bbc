//! Rates at which nearby files were opened together.

use std::collections::BTreeMap;

use super::codec::{MalformedProfile, ProfileReader, ProfileWriter};
use super::decaying_ratio::DecayingRatio;

/// Number of relations.
pub(super) const RELATIONS: usize = 5;

/// Number of size classes: a folder with up to 2, 4, 8 … files of the kind.
pub(super) const SIZE_CLASSES: usize = 10;
/// Maximum number of remembered kinds.
pub(super) const MAX_KINDS: usize = 1024;
/// Maximum length of the name of a kind in bytes: the maximum of a file name.
const MAX_KIND_LEN: usize = 255;

/// Fraction of nearby files that are opened, over some 2000 files or folders.
pub(super) type Rate = DecayingRatio<2000>;

/// Counts over all sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// By kind, then by number of files of that kind in the folder.
    pub(super) kinds: BTreeMap<Box<str>, [Rate; SIZE_CLASSES]>,
    pub(super) relations: [Rate; RELATIONS],
    pub(super) next: Rate,
    pub(super) stem: Rate,
    /// Fraction of the prior's predictions that came true.
    pub(super) co_change: Rate,
}

impl Rates {
    /// Returns the rates of a kind for update.
    pub(super) fn kind_mut(&mut self, kind: &str) -> &mut [Rate; SIZE_CLASSES] {
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(kind) {
            self.kinds.pop_first();
        }
        self.kinds.entry(kind.into()).or_default()
    }

    /// Adds the counts of another instance.
    pub(super) fn merge(&mut self, other: &Rates) {
        for (kind, sizes) in &other.kinds {
            let current = self.kind_mut(kind).iter_mut();
            current
                .zip(sizes)
                .for_each(|(current, other)| current.merge(other));
        }
        let current = self.fixed_mut().into_iter();
        current
            .zip(other.fixed())
            .for_each(|(current, other)| current.merge(other));
    }

    /// Halves the weight of all rates.
    pub(super) fn halve(&mut self) {
        self.kinds.values_mut().flatten().for_each(Rate::halve);
        self.fixed_mut().into_iter().for_each(Rate::halve);
    }

    /// Returns the rates that do not depend on a kind, in the order of the encoding.
    fn fixed_mut(&mut self) -> Vec<&mut Rate> {
        let relations = self.relations.iter_mut();
        let others = [&mut self.next, &mut self.stem, &mut self.co_change];
        relations.chain(others).collect()
    }

    fn fixed(&self) -> impl Iterator<Item = &Rate> {
        let others = [&self.next, &self.stem, &self.co_change];
        self.relations.iter().chain(others)
    }

    pub(super) fn write(&self, to: &mut ProfileWriter) {
        let kinds = self
            .kinds
            .iter()
            .filter(|(name, _)| name.len() <= MAX_KIND_LEN);
        let kinds: Vec<_> = kinds.collect();
        to.count(kinds.len());
        for (name, sizes) in kinds {
            to.text(name);
            sizes.iter().for_each(|rate| rate.write(to));
        }
        self.fixed().for_each(|rate| rate.write(to));
    }

    /// Reads encoded rates; the first version has no `co_change`, which is the last.
    pub(super) fn read(
        from: &mut ProfileReader<'_>,
        with_co_change: bool,
    ) -> Result<Self, MalformedProfile> {
        let mut rates = Rates::default();
        let count = from.count(1 + SIZE_CLASSES * 8)?;
        if count > MAX_KINDS {
            return Err(MalformedProfile::Invalid("too many kinds of files"));
        }
        for _ in 0..count {
            let name = from.text(MAX_KIND_LEN)?;
            for rate in rates.kind_mut(name) {
                *rate = Rate::read(from)?;
            }
        }
        let fixed = RELATIONS + if with_co_change { 3 } else { 2 };
        for rate in rates.fixed_mut().into_iter().take(fixed) {
            *rate = Rate::read(from)?;
        }
        Ok(rates)
    }
}
