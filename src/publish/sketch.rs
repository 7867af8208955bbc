//! Estimates the likeness of two contents from small sketches.
//!
//! A rolling hash selects content-defined positions, about one in [`AVERAGE_DISTANCE`], and assigns
//! each a number that only depends on the [`WINDOW_BYTES`] bytes before it: an insertion
//! changes only the numbers next to it. The [`FEATURE_COUNT`] smallest numbers form the sketch
//! (*bottom-k* MinHash): the fraction of them that two sketches share approximates the
//! fraction that the contents share.

use std::sync::LazyLock;

/// Number of features in a sketch.
const FEATURE_COUNT: usize = 16;
/// Average distance of the selected positions, in bytes.
const AVERAGE_DISTANCE: u32 = 32;
/// Bytes that a feature depends on: later shifts push them out of the hash.
const WINDOW_BYTES: usize = 64;
/// Multiplier that distributes hashes over all numbers (2⁶⁴ over the golden ratio).
const FIBONACCI_MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A constant number for each byte: equal content must yield equal blobs in every run.
static GEAR: LazyLock<[u64; 256]> = LazyLock::new(|| {
    let mut bytes = [0; 256 * 8];
    let mut hash = blake3::Hasher::new_derive_key("walgit-fs 2026 sketch of content");
    hash.update(&[]).finalize_xof().fill(&mut bytes);
    let mut numbers = [0; 256];
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = bytes.iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
    }
    numbers
});

/// Sketch of a content, for finding similar contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sketch {
    /// Ascending, without duplicates.
    features: Vec<u32>,
}

impl Sketch {
    /// Computes the sketch of a content.
    pub(super) fn of(content: &[u8]) -> Self {
        let gear = &*GEAR;
        let mut features: Vec<u32> = Vec::with_capacity(FEATURE_COUNT + 1);
        let mut hash = 0u64;
        for (at, &byte) in content.iter().enumerate() {
            hash = (hash << 1).wrapping_add(gear[usize::from(byte)]);
            // The upper bits depend on the entire window.
            if hash >> (u64::BITS - AVERAGE_DISTANCE.ilog2()) != 0 || at + 1 < WINDOW_BYTES {
                continue;
            }
            let feature = (hash.wrapping_mul(FIBONACCI_MULTIPLIER) >> 32) as u32;
            let full = features.len() == FEATURE_COUNT;
            if full && features.last().is_some_and(|&max| feature >= max) {
                continue;
            }
            if let Err(at) = features.binary_search(&feature) {
                features.insert(at, feature);
                features.truncate(FEATURE_COUNT);
            }
        }
        Sketch { features }
    }

    /// The features.
    pub(super) fn features(&self) -> &[u32] {
        &self.features
    }

    /// Estimated likeness: the common fraction of both contents, 0..=1.
    pub(super) fn resemblance(&self, other: &Sketch) -> f64 {
        let (mut a, mut b) = (&self.features[..], &other.features[..]);
        let (mut merged, mut common) = (0, 0);
        while merged < FEATURE_COUNT {
            let (in_a, in_b) = match (a.first(), b.first()) {
                (Some(a), Some(b)) => (a <= b, b <= a),
                (None, None) => break,
                (a, b) => (a.is_some(), b.is_some()),
            };
            common += usize::from(in_a && in_b);
            a = &a[usize::from(in_a)..];
            b = &b[usize::from(in_b)..];
            merged += 1;
        }
        common as f64 / merged.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes without repetition.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    #[test]
    fn short_or_empty_content_resembles_nothing() {
        for content in [&b""[..], b"short"] {
            let sketch = Sketch::of(content);
            assert_eq!(sketch.resemblance(&sketch), 0.0);
        }
    }

    proptest! {
        #[test]
        fn few_changes_keep_most_of_a_sketch(seed in any::<u64>(), at in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4)) {
            let content = noise(seed, 64 << 10);
            let mut changed = content.clone();
            for at in at {
                let at = at.index(changed.len());
                changed.splice(at..at, *b"something that was not there before");
            }
            let (one, two) = (Sketch::of(&content), Sketch::of(&changed));
            prop_assert!(one.resemblance(&two) > 0.5);
            prop_assert_eq!(one.resemblance(&two), two.resemblance(&one));
            prop_assert_eq!(one.resemblance(&one), 1.0);
        }

        #[test]
        fn unrelated_contents_do_not_resemble(one in 0u64..1000, two in 1000u64..2000, len in 100usize..20_000) {
            let (one, two) = (Sketch::of(&noise(one, len)), Sketch::of(&noise(two, len)));
            prop_assert!(one.resemblance(&two) < 0.2);
        }

        #[test]
        fn half_in_common_is_estimated_as_about_a_third(seed in any::<u32>()) {
            let seed = u64::from(seed);
            let half = noise(seed, 64 << 10);
            let with = |other| [&half[..], &noise(other, 64 << 10)].concat();
            let (one, two) = (Sketch::of(&with(seed + 1)), Sketch::of(&with(seed + 2)));
            let resemblance = one.resemblance(&two);
            prop_assert!((0.0..0.8).contains(&resemblance), "{resemblance}");
        }
    }
}
