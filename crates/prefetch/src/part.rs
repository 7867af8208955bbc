//! A fraction of a whole, with exponential aging of the past.

use super::codec::{MalformedProfile, Reader, Writer};

/// A counted fraction of a whole. After `MEMORY` more counts of the whole, older
/// ones count half.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Part<const MEMORY: u16> {
    pub(super) of: f32,
    pub(super) part: f32,
}

impl<const MEMORY: u16> Part<MEMORY> {
    /// Creates a fraction from foreign counts, with the whole limited to the memory
    /// used here.
    pub(super) fn of(of: f32, part: f32) -> Self {
        let most = f32::from(MEMORY);
        match of > most {
            true => Part {
                of: most,
                // This order of operations keeps a fraction of one: rounding never
                // exceeds the whole.
                part: part / of * most,
            },
            false => Part { of, part },
        }
    }

    /// Halves the weight: the same fraction, outweighed sooner.
    pub(super) fn halved(self) -> Self {
        Part {
            of: self.of / 2.0,
            part: self.part / 2.0,
        }
    }

    /// Returns the fraction, blended with `prior` of the given `weight`.
    pub(super) fn share(self, prior: f64, weight: f64) -> f64 {
        let share = (f64::from(self.part) + prior * weight) / (f64::from(self.of) + weight);
        share.clamp(0.0, 1.0)
    }

    /// Counts `of` more of the whole, `part` of them in the fraction.
    pub(super) fn add(&mut self, of: f32, part: f32) {
        self.of += of;
        self.part += part;
        if self.of > f32::from(MEMORY) {
            self.of /= 2.0;
            self.part /= 2.0;
        }
    }

    /// Writes the whole, then the part.
    pub(super) fn write(self, to: &mut Writer) {
        to.float(self.of);
        to.float(self.part);
    }

    /// Reads the output of [`Part::write`]; the part may be arbitrary.
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, MalformedProfile> {
        Ok(Part::of(from.float()?, from.float()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_much_is_no_more_than_the_whole() {
        for of in (1..100_000).map(|n| n as f32 * 1.37) {
            let it = Part::<2000>::of(of, of);
            assert!(it.part <= it.of, "{it:?} of {of}");
        }
    }
}
