//! Transitions: which file followed which context, how often, and how soon.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::context::Context;
use super::paths::PathId;

/// Factor by which a count ages each time its context occurs. A workload last seen
/// five occurrences ago counts a third of a current one.
const AGEING: f32 = 0.8;
/// Number of weight steps per unit: weights are multiples of 1/256.
const STEP: f32 = 256.0;
/// Weight below which a transition is dropped: reached after some ten occurrences
/// of its context without it, or as many prunings.
const FORGOTTEN: f32 = 0.1;
/// Maximum number of successors of a context. More carry no information.
pub(super) const MAX_NAMES: usize = 32;

/// A transition: six bytes in addition to its key of twelve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transition {
    /// Aged count, in steps of 1/256.
    pub(super) weight: u16,
    /// Time between the two opens in tenths of a millisecond, excluding the wait
    /// for fetches.
    pub(super) gap: u16,
    /// Session in which it last occurred.
    pub(super) session: u16,
}

impl Transition {
    fn weight(self) -> f32 {
        f32::from(self.weight) / STEP
    }
}

/// Evidence of a context: number of different successors and their total weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    pub(super) names: usize,
    pub(super) weight: f32,
}

/// One successor of a context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Successor {
    pub(super) path: PathId,
    /// Share of the context's weight, 0..=1.
    pub(super) share: f64,
    /// Seconds until it is opened.
    pub(super) gap: f64,
}

/// All transitions, ordered so that those of a context are adjacent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chain {
    pub(super) transitions: BTreeMap<(Context, PathId), Transition>,
}

impl Chain {
    pub(super) fn len(&self) -> usize {
        self.transitions.len()
    }

    /// Returns the successors of a context and the evidence; `None` for a new
    /// context.
    pub(super) fn successors(&self, context: Context) -> Option<(Evidence, Vec<Successor>)> {
        let found: Vec<_> = self.of(context).collect();
        let weight: f32 = found.iter().map(|(_, it)| it.weight()).sum();
        if found.is_empty() || weight <= 0.0 {
            return None;
        }
        let evidence = Evidence {
            names: found.len(),
            weight,
        };
        let successor = |&(path, it): &(PathId, Transition)| Successor {
            path,
            share: f64::from(it.weight() / weight),
            gap: f64::from(it.gap) / 10_000.0,
        };
        Some((evidence, found.iter().map(successor).collect()))
    }

    /// Records that `path` followed `context` after `gap` seconds.
    pub(super) fn note(&mut self, context: Context, path: PathId, gap: f64, session: u16) {
        let gap = (gap * 10_000.0).clamp(0.0, f64::from(u16::MAX)) as u16;
        let mut gone = Vec::new();
        let mut least: Option<(PathId, u16)> = None;
        let mut names = 0;
        for (&(_, name), it) in self.of_mut(context) {
            it.weight = (f32::from(it.weight) * AGEING) as u16;
            if name == path {
                continue;
            }
            names += 1;
            if it.weight() < FORGOTTEN {
                gone.push(name);
            } else if least.is_none_or(|(_, weight)| it.weight < weight) {
                least = Some((name, it.weight));
            }
        }
        if names - gone.len() >= MAX_NAMES {
            gone.extend(least.map(|(name, _)| name));
        }
        for name in gone {
            self.transitions.remove(&(context, name));
        }
        let it = (self.transitions.entry((context, path))).or_insert(Transition {
            weight: 0,
            gap,
            session,
        });
        it.weight = it.weight.saturating_add(STEP as u16);
        it.gap = ((u32::from(it.gap) * 3 + u32::from(gap)) / 4) as u16;
        it.session = session;
    }

    /// Adds a transition of another model. `session` is the current one.
    pub(super) fn add(&mut self, context: Context, path: PathId, it: Transition, session: u16) {
        let entry = self.transitions.entry((context, path));
        let own = entry.or_insert(Transition { weight: 0, ..it });
        let gap = |it: &Transition| u32::from(it.weight) * u32::from(it.gap);
        let weights = u32::from(own.weight) + u32::from(it.weight);
        own.gap = ((gap(own) + gap(&it)) / weights.max(1)) as u16;
        own.weight = own.weight.saturating_add(it.weight);
        let idle = |it: &Transition| session.wrapping_sub(it.session);
        if idle(&it) < idle(own) {
            own.session = it.session;
        }
    }

    /// Removes the successors of a context beyond [`MAX_NAMES`], lightest first.
    pub(super) fn keep_names(&mut self) {
        let mut gone = Vec::new();
        let mut names: Vec<(u16, PathId)> = Vec::new();
        let mut all = self.transitions.iter().peekable();
        while let Some((&(context, path), it)) = all.next() {
            names.push((it.weight, path));
            if all.peek().is_some_and(|((next, _), _)| *next == context) {
                continue;
            }
            names.sort_unstable();
            let more = names.len().saturating_sub(MAX_NAMES);
            gone.extend(names.iter().take(more).map(|&(_, path)| (context, path)));
            names.clear();
        }
        for key in gone {
            self.transitions.remove(&key);
        }
    }

    /// Removes the least useful transitions until at most `most` remain: those of
    /// the lowest weight, halved for each session since the last occurrence.
    pub(super) fn prune(&mut self, most: usize, session: u16) {
        if self.len() <= most {
            return;
        }
        let worth = |it: &Transition| {
            let idle = session.wrapping_sub(it.session).min(16);
            u32::from(it.weight) << 8 >> idle
        };
        let mut worths: Vec<u32> = self.transitions.values().map(worth).collect();
        worths.sort_unstable();
        let mut gone = self.len() - most;
        let bar = worths.get(gone).copied().unwrap_or(u32::MAX);
        self.transitions.retain(|_, it| {
            let goes = gone > 0 && worth(it) <= bar;
            gone -= usize::from(goes);
            !goes
        });
    }

    fn of(&self, context: Context) -> impl Iterator<Item = (PathId, Transition)> + '_ {
        let all = (Bound::Included((context, PathId(0))), last(context));
        (self.transitions.range(all)).map(|(&(_, path), &it)| (path, it))
    }

    fn of_mut(
        &mut self,
        context: Context,
    ) -> impl Iterator<Item = (&(Context, PathId), &mut Transition)> {
        let all = (Bound::Included((context, PathId(0))), last(context));
        self.transitions.range_mut(all)
    }
}

fn last(context: Context) -> Bound<(Context, PathId)> {
    Bound::Included((context, PathId(u32::MAX)))
}
