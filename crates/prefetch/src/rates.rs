//! Rates at which nearby files were opened together.

use std::collections::BTreeMap;

use super::codec::{MalformedProfile, Reader, Writer};
use super::part::Part;

/// Number of relations.
pub(super) const RELATIONS: usize = 5;

/// Number of size classes: a folder with up to 2, 4, 8 … files of the kind.
pub(super) const SIZES: usize = 10;
/// Maximum number of remembered kinds.
pub(super) const MAX_KINDS: usize = 1024;
/// Maximum length of the name of a kind in bytes: the maximum of a file name.
const MAX_KIND: usize = 255;

/// Fraction of nearby files that are opened, over some 2000 files or folders.
pub(super) type Rate = Part<2000>;

/// Counts over all sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// By kind, then by number of files of that kind in the folder.
    pub(super) kinds: BTreeMap<Box<str>, [Rate; SIZES]>,
    pub(super) relations: [Rate; RELATIONS],
    pub(super) next: Rate,
    pub(super) stem: Rate,
    /// Fraction of the prior's predictions that came true.
    pub(super) together: Rate,
}

impl Rates {
    /// Returns the rates of a kind for update.
    pub(super) fn kind_mut(&mut self, kind: &str) -> &mut [Rate; SIZES] {
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(kind) {
            self.kinds.pop_first();
        }
        self.kinds.entry(kind.into()).or_default()
    }

    /// Adds the counts of another instance.
    pub(super) fn merge(&mut self, other: &Rates) {
        for (kind, sizes) in &other.kinds {
            add_all(self.kind_mut(kind), sizes);
        }
        add_all(&mut self.relations, &other.relations);
        let rest = [&mut self.next, &mut self.stem, &mut self.together];
        for (own, more) in rest
            .into_iter()
            .zip([other.next, other.stem, other.together])
        {
            own.add(more.of, more.part);
        }
    }

    /// Halves the weight of all rates.
    pub(super) fn halve(&mut self) {
        let kinds = self.kinds.values_mut().flatten();
        let rest = [&mut self.next, &mut self.stem, &mut self.together];
        for rate in kinds.chain(&mut self.relations).chain(rest) {
            *rate = rate.halved();
        }
    }

    pub(super) fn write(&self, to: &mut Writer) {
        let kinds = self.kinds.iter().filter(|(name, _)| name.len() <= MAX_KIND);
        let kinds: Vec<_> = kinds.collect();
        to.count(kinds.len());
        for (name, sizes) in kinds {
            to.text(name);
            sizes.iter().for_each(|part| part.write(to));
        }
        self.relations.iter().for_each(|part| part.write(to));
        self.next.write(to);
        self.stem.write(to);
        self.together.write(to);
    }

    /// Reads encoded rates; the first version has no `together`.
    pub(super) fn read(
        from: &mut Reader<'_>,
        with_together: bool,
    ) -> Result<Self, MalformedProfile> {
        let mut rates = Rates::default();
        let count = from.count(1 + SIZES * 8)?;
        if count > MAX_KINDS {
            return Err(MalformedProfile::Wrong("too many kinds of files"));
        }
        for _ in 0..count {
            let name = from.text(MAX_KIND)?;
            let sizes = rates.kind_mut(name);
            for part in sizes {
                *part = Rate::read(from)?;
            }
        }
        for part in &mut rates.relations {
            *part = Rate::read(from)?;
        }
        rates.next = Rate::read(from)?;
        rates.stem = Rate::read(from)?;
        if with_together {
            rates.together = Rate::read(from)?;
        }
        Ok(rates)
    }
}

fn add_all(own: &mut [Rate], more: &[Rate]) {
    for (own, more) in own.iter_mut().zip(more) {
        own.add(more.of, more.part);
    }
}
