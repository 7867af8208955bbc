//! The parts of a file that stand for it.

use std::cell::RefCell;

use zstd::bulk::Compressor;

/// Longest sample, in bytes: long enough that a level 1 compressor shows what
/// it can, and a sixteenth of the largest chunk.
const MOST: usize = 64 << 10;
/// Bytes of each of its three parts, where it is not the whole.
const PART: usize = MOST / 3;
/// Of each part, what is enough to count byte values: in 12 KiB each of 256
/// values is expected 48 times.
const COUNTED: usize = 4 << 10;

/// What is looked at of a file: all of it, or parts from its start, middle and
/// end.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    len: u64,
    parts: Vec<&'a [u8]>,
}

impl<'a> Sample<'a> {
    /// The sample of content that is in memory.
    pub fn of(content: &'a [u8]) -> Self {
        let ranges = Self::ranges(content.len() as u64);
        let parts = ranges.map(|(at, len)| &content[at as usize..at as usize + len]);
        Sample {
            len: content.len() as u64,
            parts: parts.collect(),
        }
    }

    /// Parts of a file of `len` bytes, that were read from
    /// [`ranges`](Self::ranges).
    pub fn of_parts(len: u64, parts: Vec<&'a [u8]>) -> Self {
        Sample { len, parts }
    }

    /// Where the parts lie in a file of `len` bytes: offset and length.
    pub fn ranges(len: u64) -> impl Iterator<Item = (u64, usize)> {
        let (count, each) = match len <= MOST as u64 {
            true => (1, len as usize),
            false => (3, PART),
        };
        let last = len - each as u64;
        let starts = [0, last / 2, last];
        starts.into_iter().take(count).map(move |at| (at, each))
    }

    /// Length of the whole file, in bytes.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// How the file begins.
    pub(super) fn head(&self) -> &'a [u8] {
        self.parts.first().copied().unwrap_or_default()
    }

    /// The entropy of a smaller sample, in bits per byte; see
    /// [`entropy`](super::entropy::entropy).
    pub(super) fn entropy(&self) -> f64 {
        let most = match self.parts.len() {
            1 => 3 * COUNTED,
            _ => COUNTED,
        };
        let mut counted = Vec::with_capacity(3);
        for part in &self.parts {
            match part.len() <= most || self.parts.len() > 1 {
                true => counted.push(&part[..part.len().min(most)]),
                false => {
                    let middle = (part.len() - COUNTED) / 2;
                    let starts = [0, middle, part.len() - COUNTED];
                    counted.extend(starts.map(|at| &part[at..at + COUNTED]));
                }
            }
        }
        super::entropy::entropy(&counted)
    }

    /// Stored bytes per plain one at zstd level 1, each part by itself: 1 or a
    /// little more for what does not shrink.
    pub(super) fn ratio(&self) -> f64 {
        let plain: usize = self.parts.iter().map(|part| part.len()).sum();
        if plain == 0 {
            return 1.0;
        }
        let stored: usize = self.parts.iter().map(|part| trial(part)).sum();
        stored as f64 / plain as f64
    }
}

/// The length of these bytes, compressed.
fn trial(part: &[u8]) -> usize {
    thread_local! {
        /// A compressor and room for what it writes: making them anew costs
        /// more than a trial.
        static TRIAL: RefCell<Option<(Compressor<'static>, Vec<u8>)>> = const { RefCell::new(None) };
    }
    TRIAL.with_borrow_mut(|slot| {
        if slot.is_none() {
            let room = vec![0; zstd::zstd_safe::compress_bound(MOST)];
            *slot = Compressor::new(1).ok().map(|it| (it, room));
        }
        // It fails only for want of memory; then nothing is known to shrink.
        let done = slot.as_mut().and_then(|(compressor, room)| {
            compressor
                .compress_to_buffer(part, room.as_mut_slice())
                .ok()
        });
        done.unwrap_or(part.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_whole_or_start_middle_and_end() {
        let whole: Vec<_> = Sample::ranges(MOST as u64).collect();
        assert_eq!(whole, [(0, MOST)]);
        for len in [MOST as u64 + 1, 1_000_003, 5 << 30] {
            let ranges: Vec<_> = Sample::ranges(len).collect();
            let [start, middle, end] = ranges[..] else {
                panic!("{ranges:?}");
            };
            assert_eq!(start, (0, PART));
            assert_eq!(end, (len - PART as u64, PART));
            assert!(
                middle.0 >= PART as u64 && middle.0 + PART as u64 <= end.0,
                "{ranges:?}"
            );
        }
    }
}
