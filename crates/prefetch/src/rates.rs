//! How often what lies together was opened together.

use std::collections::BTreeMap;

use super::codec::{MalformedProfile, Reader, Writer};
use super::part::Part;

/// How many relations there are.
pub(super) const RELATIONS: usize = 5;

/// Classes of size: a folder with up to 2, 4, 8 … files of the kind.
pub(super) const SIZES: usize = 10;
/// Kinds that are remembered.
pub(super) const MAX_KINDS: usize = 1024;
/// Longest name of a kind that is remembered, in bytes: the longest name a file
/// can have.
const MAX_KIND: usize = 255;

/// A part of what lies together; some 2000 files or folders are remembered.
pub(super) type Rate = Part<2000>;

/// What has been counted, over all sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// By kind, then by how many of that kind the folder holds.
    pub(super) kinds: BTreeMap<Box<str>, [Rate; SIZES]>,
    pub(super) relations: [Rate; RELATIONS],
    pub(super) next: Rate,
    pub(super) stem: Rate,
    /// Of what a prior said, what came true.
    pub(super) together: Rate,
}

impl Rates {
    /// The rates of a kind, to add to.
    pub(super) fn kind_mut(&mut self, kind: &str) -> &mut [Rate; SIZES] {
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(kind) {
            self.kinds.pop_first();
        }
        self.kinds.entry(kind.into()).or_default()
    }

    /// Adds what was counted elsewhere.
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

    /// Believes half of it.
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

    /// Reads what was written; `together` was not always.
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
