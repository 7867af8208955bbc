//! A ratio of counts, with exponential decay of the past.

use super::codec::{MalformedProfile, ProfileReader, ProfileWriter};

/// A ratio of hits to a total. After `MEMORY` more counts of the total, older ones
/// count half.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct DecayingRatio<const MEMORY: u16> {
    pub(super) total: f32,
    pub(super) hits: f32,
}

impl<const MEMORY: u16> DecayingRatio<MEMORY> {
    /// Creates a ratio from foreign counts, with the total limited to the memory used
    /// here.
    pub(super) fn from_counts(total: f32, hits: f32) -> Self {
        let max = f32::from(MEMORY);
        if total <= max {
            return DecayingRatio { total, hits };
        }
        DecayingRatio {
            total: max,
            // This order of operations keeps a ratio of one: rounding never exceeds
            // the total.
            hits: hits / total * max,
        }
    }

    /// Halves the weight: the same ratio, outweighed sooner.
    pub(super) fn halve(&mut self) {
        self.total /= 2.0;
        self.hits /= 2.0;
    }

    /// Returns the ratio, blended with `prior` of the given `weight`.
    pub(super) fn ratio(self, prior: f64, weight: f64) -> f64 {
        let ratio = (f64::from(self.hits) + prior * weight) / (f64::from(self.total) + weight);
        ratio.clamp(0.0, 1.0)
    }

    /// Counts one event.
    pub(super) fn record(&mut self, is_hit: bool) {
        self.add(1.0, f32::from(u8::from(is_hit)));
    }

    pub(super) fn add(&mut self, total: f32, hits: f32) {
        self.total += total;
        self.hits += hits;
        if self.total > f32::from(MEMORY) {
            self.halve();
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.add(other.total, other.hits);
    }

    /// Writes the total, then the hits.
    pub(super) fn write(self, to: &mut ProfileWriter) {
        to.float(self.total);
        to.float(self.hits);
    }

    /// Reads the output of [`DecayingRatio::write`]; the ratio may be arbitrary.
    pub(super) fn read(from: &mut ProfileReader<'_>) -> Result<Self, MalformedProfile> {
        Ok(Self::from_counts(from.float()?, from.float()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_never_exceed_the_total() {
        for total in (1..100_000).map(|n| n as f32 * 1.37) {
            let it = DecayingRatio::<2000>::from_counts(total, total);
            assert!(it.hits <= it.total, "{it:?} of {total}");
        }
    }
}
