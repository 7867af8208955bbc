//! Confidence in a context, learned from how often it was right.
//!
//! A context that has been seen once has one successor; its reliability depends on
//! the workload: a compiler repeats itself, a person does not. So contexts are
//! divided into classes (sequence, order, number of successors, number of
//! occurrences), and each class counts how often the opened file was among the
//! successors. This is the escape probability of PPM, with the class learned rather
//! than assumed (Bloom's secondary estimation).

use super::super::decaying_ratio::DecayingRatio;
use super::chain::ContextEvidence;
use super::context::{MAX_ORDER, SEQUENCES, Sequence};

/// Classes by number of successors: one, two, more.
const SUCCESSOR_CLASSES: usize = 3;
/// Classes by weight: seen once, a few times, often.
const WEIGHT_CLASSES: usize = 3;
/// Total number of classes.
pub(super) const CLASSES: usize = SEQUENCES * MAX_ORDER * SUCCESSOR_CLASSES * WEIGHT_CLASSES;

/// Initial confidence in a class, and its weight in opens. Programs mostly repeat
/// themselves.
const INITIAL_CONFIDENCE: f64 = 0.85;
const INITIAL_WEIGHT: f64 = 4.0;

/// Maximum weight in opens of a score with halved trust.
const MAX_HALVED_WEIGHT: f64 = 8.0;

/// Fraction of correctly predicted opens of a class, over some 200 opens.
pub(super) type ConfidenceScore = DecayingRatio<200>;

/// Scores of all classes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Confidence {
    pub(super) scores: [ConfidenceScore; CLASSES],
}

impl Default for Confidence {
    fn default() -> Self {
        Confidence {
            scores: [ConfidenceScore::default(); CLASSES],
        }
    }
}

impl Confidence {
    /// Probability that the next open is among the successors of a context; always
    /// below 1.
    pub(super) fn of(&self, sequence: Sequence, order: usize, evidence: ContextEvidence) -> f64 {
        let score = self.scores[class(sequence, order, evidence)];
        score.ratio(INITIAL_CONFIDENCE, INITIAL_WEIGHT).min(0.999)
    }

    /// Halves the confidence in each class, and lets a dozen opens decide whether
    /// it deserves more.
    pub(super) fn halve(&mut self) {
        for score in &mut self.scores {
            let half = score.ratio(INITIAL_CONFIDENCE, INITIAL_WEIGHT) / 2.0;
            let total = (f64::from(score.total) / 2.0).min(MAX_HALVED_WEIGHT) + INITIAL_WEIGHT;
            let hits = half * (total + INITIAL_WEIGHT) - INITIAL_CONFIDENCE * INITIAL_WEIGHT;
            score.total = total as f32;
            score.hits = hits.max(0.0) as f32;
        }
    }

    /// Records whether a context was right.
    pub(super) fn record(
        &mut self,
        sequence: Sequence,
        order: usize,
        evidence: ContextEvidence,
        right: bool,
    ) {
        self.scores[class(sequence, order, evidence)].record(right);
    }
}

fn class(sequence: Sequence, order: usize, evidence: ContextEvidence) -> usize {
    let successors = evidence.successors.clamp(1, SUCCESSOR_CLASSES) - 1;
    let weight = match evidence.weight {
        weight if weight < 1.05 => 0,
        weight if weight < 2.5 => 1,
        _ => 2,
    };
    let order = order.clamp(1, MAX_ORDER) - 1;
    ((sequence as usize * MAX_ORDER + order) * SUCCESSOR_CLASSES + successors) * WEIGHT_CLASSES
        + weight
}
