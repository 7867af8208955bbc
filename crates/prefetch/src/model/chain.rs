//! Transitions: which file followed which context, how often, and how soon.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::context::OpenContext;
use super::paths::PathId;

/// Factor by which a count ages each time its context occurs. A workload last seen
/// five occurrences ago counts a third of a current one.
const DECAY: f32 = 0.8;
/// Number of weight steps per unit: weights are multiples of 1/256.
const WEIGHT_SCALE: f32 = 256.0;
/// Weight below which a transition is dropped: reached after some ten occurrences
/// of its context without it, or as many prunings.
const MIN_WEIGHT: f32 = 0.1;
/// Maximum number of successors of a context. More carry no information.
pub(super) const MAX_SUCCESSORS: usize = 32;

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
        f32::from(self.weight) / WEIGHT_SCALE
    }

    /// Usefulness: the weight, halved for each session since the last occurrence.
    pub(super) fn value(self, session: u16) -> u32 {
        let idle = session.wrapping_sub(self.session).min(16);
        u32::from(self.weight) << 8 >> idle
    }
}

/// Evidence of a context: number of different successors and their total weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContextEvidence {
    pub(super) successors: usize,
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
pub(super) struct TransitionTable {
    pub(super) transitions: BTreeMap<(OpenContext, PathId), Transition>,
}

impl TransitionTable {
    pub(super) fn len(&self) -> usize {
        self.transitions.len()
    }

    /// Returns the successors of a context and the evidence; `None` for a new
    /// context.
    pub(super) fn successors(
        &self,
        context: OpenContext,
    ) -> Option<(ContextEvidence, Vec<Successor>)> {
        let found = self.transitions.range(keys_of(context));
        let found: Vec<_> = found
            .map(|(&(_, path), &transition)| (path, transition))
            .collect();
        let weight: f32 = found
            .iter()
            .map(|(_, transition)| transition.weight())
            .sum();
        if found.is_empty() || weight <= 0.0 {
            return None;
        }
        let evidence = ContextEvidence {
            successors: found.len(),
            weight,
        };
        let successor = |&(path, transition): &(PathId, Transition)| Successor {
            path,
            share: f64::from(transition.weight() / weight),
            gap: f64::from(transition.gap) / 10_000.0,
        };
        Some((evidence, found.iter().map(successor).collect()))
    }

    /// Records that `path` followed `context` after `gap` seconds.
    pub(super) fn record(&mut self, context: OpenContext, path: PathId, gap: f64, session: u16) {
        let gap = (gap * 10_000.0).clamp(0.0, f64::from(u16::MAX)) as u16;
        let mut removed = Vec::new();
        let mut remaining = Vec::new();
        for (&(_, other), transition) in self.transitions.range_mut(keys_of(context)) {
            transition.weight = (f32::from(transition.weight) * DECAY) as u16;
            if other != path {
                let list = if transition.weight() < MIN_WEIGHT {
                    &mut removed
                } else {
                    &mut remaining
                };
                list.push((transition.weight, other));
            }
        }
        if remaining.len() >= MAX_SUCCESSORS {
            // The first one of the lowest weight.
            removed.extend(remaining.into_iter().min());
        }
        for (_, other) in removed {
            self.transitions.remove(&(context, other));
        }
        let transition = (self.transitions.entry((context, path))).or_insert(Transition {
            weight: 0,
            gap,
            session,
        });
        transition.weight = transition.weight.saturating_add(WEIGHT_SCALE as u16);
        transition.gap = ((u32::from(transition.gap) * 3 + u32::from(gap)) / 4) as u16;
        transition.session = session;
    }

    /// Adds a transition of another model. `session` is the current one.
    pub(super) fn add(
        &mut self,
        context: OpenContext,
        path: PathId,
        transition: Transition,
        session: u16,
    ) {
        let entry = self.transitions.entry((context, path));
        let merged = entry.or_insert(Transition {
            weight: 0,
            ..transition
        });
        let gap =
            |transition: &Transition| u32::from(transition.weight) * u32::from(transition.gap);
        let weights = u32::from(merged.weight) + u32::from(transition.weight);
        merged.gap = ((gap(merged) + gap(&transition)) / weights.max(1)) as u16;
        merged.weight = merged.weight.saturating_add(transition.weight);
        let idle = |transition: &Transition| session.wrapping_sub(transition.session);
        if idle(&transition) < idle(merged) {
            merged.session = transition.session;
        }
    }

    /// Removes the successors of a context beyond [`MAX_SUCCESSORS`], lightest first.
    pub(super) fn limit_successors(&mut self) {
        let mut removed = Vec::new();
        let mut successors: Vec<(u16, PathId)> = Vec::new();
        let mut all = self.transitions.iter().peekable();
        while let Some((&(context, path), transition)) = all.next() {
            successors.push((transition.weight, path));
            if all.peek().is_some_and(|((next, _), _)| *next == context) {
                continue;
            }
            successors.sort_unstable();
            let excess = successors.len().saturating_sub(MAX_SUCCESSORS);
            removed.extend((successors.drain(..).take(excess)).map(|(_, path)| (context, path)));
        }
        for key in removed {
            self.transitions.remove(&key);
        }
    }

    /// Removes the least useful transitions until at most `limit` remain.
    pub(super) fn prune(&mut self, limit: usize, session: u16) {
        if self.len() <= limit {
            return;
        }
        let mut excess = self.len() - limit;
        let mut values: Vec<u32> = (self
            .transitions
            .values()
            .map(|transition| transition.value(session)))
        .collect();
        values.sort_unstable();
        let threshold = values.get(excess).copied().unwrap_or(u32::MAX);
        self.transitions.retain(|_, transition| {
            let is_removed = excess > 0 && transition.value(session) <= threshold;
            excess -= usize::from(is_removed);
            !is_removed
        });
    }
}

/// Keys of the transitions of a context.
fn keys_of(context: OpenContext) -> RangeInclusive<(OpenContext, PathId)> {
    (context, PathId(0))..=(context, PathId(u32::MAX))
}
