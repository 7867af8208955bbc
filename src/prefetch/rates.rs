//! How often what lies together was opened together.

use std::collections::BTreeMap;

use super::codec::{MalformedProfile, Reader, Writer};

/// How many relations there are.
pub(super) const RELATIONS: usize = 5;

/// Classes of size: a folder with up to 2, 4, 8 … files of the kind.
pub(super) const SIZES: usize = 10;
/// Kinds that are remembered.
pub(super) const MAX_KINDS: usize = 1024;
/// Longest name of a kind that is remembered, in bytes: the longest name a file
/// can have.
const MAX_KIND: usize = 255;
/// Files or folders counted, after which older ones count half.
const MEMORY: f32 = 2000.0;

/// A part of a whole, counted; both age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Part {
    pub(super) of: f32,
    pub(super) opened: f32,
}

impl Part {
    /// The part, believed to be `prior` until `weight` have been counted.
    pub(super) fn share(self, prior: f64, weight: f64) -> f64 {
        let share = (f64::from(self.opened) + prior * weight) / (f64::from(self.of) + weight);
        share.clamp(0.0, 1.0)
    }

    pub(super) fn add(&mut self, of: f32, opened: f32) {
        self.of += of;
        self.opened += opened;
        if self.of > MEMORY {
            self.of /= 2.0;
            self.opened /= 2.0;
        }
    }
}

/// What has been counted, over all sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// By kind, then by how many of that kind the folder holds.
    pub(super) kinds: BTreeMap<Box<str>, [Part; SIZES]>,
    pub(super) relations: [Part; RELATIONS],
    pub(super) next: Part,
    pub(super) stem: Part,
}

impl Rates {
    /// The rates of a kind, to add to.
    pub(super) fn kind_mut(&mut self, kind: &str) -> &mut [Part; SIZES] {
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(kind) {
            self.kinds.pop_first();
        }
        self.kinds.entry(kind.into()).or_default()
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
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, MalformedProfile> {
        let mut rates = Rates::default();
        let count = from.count(1 + SIZES * 8)?;
        if count > MAX_KINDS {
            return Err(MalformedProfile::Wrong("too many kinds of files"));
        }
        for _ in 0..count {
            let name = from.text(MAX_KIND)?;
            let sizes = rates.kind_mut(name);
            for part in sizes {
                *part = Part::read(from)?;
            }
        }
        for part in &mut rates.relations {
            *part = Part::read(from)?;
        }
        rates.next = Part::read(from)?;
        rates.stem = Part::read(from)?;
        Ok(rates)
    }
}

impl Part {
    fn write(self, to: &mut Writer) {
        to.float(self.of);
        to.float(self.opened);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, MalformedProfile> {
        Ok(Part {
            of: from.float()?,
            opened: from.float()?,
        })
    }
}
