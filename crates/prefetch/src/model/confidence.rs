//! Confidence in a context, learned from how often it was right.
//!
//! A context that has been seen once has one successor; its reliability depends on
//! the workload: a compiler repeats itself, a person does not. So contexts are
//! divided into classes (stream, order, number of successors, number of
//! occurrences), and each class counts how often the opened file was among the
//! successors. This is the escape probability of PPM, with the class learned rather
//! than assumed (Bloom's secondary estimation).

use super::super::part::Part;
use super::chain::Evidence;
use super::context::{MAX_ORDER, STREAMS, Stream};

/// Classes by number of successors: one, two, more.
const NAMES: usize = 3;
/// Classes by weight: seen once, a few times, often.
const WEIGHTS: usize = 3;
/// Total number of classes.
pub(super) const CLASSES: usize = STREAMS * MAX_ORDER * NAMES * WEIGHTS;

/// Initial confidence in a class, and its weight in opens. Programs mostly repeat
/// themselves.
const PRIOR: f64 = 0.85;
const PRIOR_WEIGHT: f64 = 4.0;

/// Maximum weight in opens of a score with halved trust.
const BELIEVED_HALF: f64 = 8.0;

/// Fraction of correctly predicted opens of a class, over some 200 opens.
pub(super) type Score = Part<200>;

/// Scores of all classes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Confidence {
    pub(super) scores: [Score; CLASSES],
}

impl Default for Confidence {
    fn default() -> Self {
        Confidence {
            scores: [Score::default(); CLASSES],
        }
    }
}

impl Confidence {
    /// Probability that the next open is among the successors of a context; always
    /// below 1.
    pub(super) fn of(&self, stream: Stream, order: usize, evidence: Evidence) -> f64 {
        let score = self.scores[class(stream, order, evidence)];
        score.share(PRIOR, PRIOR_WEIGHT).min(0.999)
    }

    /// Halves the confidence in each class, and lets a dozen opens decide whether
    /// it deserves more.
    pub(super) fn halve(&mut self) {
        for score in &mut self.scores {
            let half = score.share(PRIOR, PRIOR_WEIGHT) / 2.0;
            let of = (f64::from(score.of) / 2.0).min(BELIEVED_HALF) + PRIOR_WEIGHT;
            let part = half * (of + PRIOR_WEIGHT) - PRIOR * PRIOR_WEIGHT;
            score.of = of as f32;
            score.part = part.max(0.0) as f32;
        }
    }

    /// Records whether a context was right.
    pub(super) fn note(&mut self, stream: Stream, order: usize, evidence: Evidence, right: bool) {
        let score = &mut self.scores[class(stream, order, evidence)];
        score.add(1.0, f32::from(u8::from(right)));
    }
}

fn class(stream: Stream, order: usize, evidence: Evidence) -> usize {
    let names = evidence.names.clamp(1, NAMES) - 1;
    let weight = match evidence.weight {
        weight if weight < 1.05 => 0,
        weight if weight < 2.5 => 1,
        _ => 2,
    };
    let order = order.clamp(1, MAX_ORDER) - 1;
    ((stream as usize * MAX_ORDER + order) * NAMES + names) * WEIGHTS + weight
}
