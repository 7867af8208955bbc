//! A part of a whole, counted, of which the past weighs less and less.

use super::codec::{MalformedProfile, Reader, Writer};

/// A part of a whole. After `MEMORY` of the whole, the older ones count half.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Part<const MEMORY: u16> {
    pub(super) of: f32,
    pub(super) part: f32,
}

impl<const MEMORY: u16> Part<MEMORY> {
    /// A part that was counted elsewhere, of a whole no larger than is
    /// remembered here.
    pub(super) fn of(of: f32, part: f32) -> Self {
        let most = f32::from(MEMORY);
        match of > most {
            true => Part {
                of: most,
                // In this order a part stays one: it is rounded to no more than
                // the whole.
                part: part / of * most,
            },
            false => Part { of, part },
        }
    }

    /// Half of it: the same share, sooner outweighed.
    pub(super) fn halved(self) -> Self {
        Part {
            of: self.of / 2.0,
            part: self.part / 2.0,
        }
    }

    /// The share, believed to be `prior` until `weight` have been counted.
    pub(super) fn share(self, prior: f64, weight: f64) -> f64 {
        let share = (f64::from(self.part) + prior * weight) / (f64::from(self.of) + weight);
        share.clamp(0.0, 1.0)
    }

    /// Counts `of` more, `part` of them in the part.
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

    /// Reads what [`Part::write`] wrote; the part may be anything.
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
