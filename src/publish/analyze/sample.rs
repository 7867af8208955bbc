//! Samples of a file.

use std::cell::RefCell;

use zstd::bulk::Compressor;

/// Maximum sample size, in bytes: enough to measure a level 1 compressor, and a sixteenth
/// of the maximum chunk.
const MOST: usize = 64 << 10;
/// Bytes of each of the three parts of a partial sample.
const PART: usize = MOST / 3;
/// Bytes of each part that suffice for byte statistics: in 12 KiB each of 256 values is
/// expected 48 times.
const COUNTED: usize = 4 << 10;

/// Sample of a file: the entire file, or parts from its start, middle and end.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    len: u64,
    parts: Vec<&'a [u8]>,
}

impl<'a> Sample<'a> {
    /// Samples content in memory.
    pub fn of(content: &'a [u8]) -> Self {
        let ranges = Self::ranges(content.len() as u64);
        let parts = ranges.map(|(at, len)| &content[at as usize..at as usize + len]);
        Sample {
            len: content.len() as u64,
            parts: parts.collect(),
        }
    }

    /// Sample of a file of `len` bytes, from the parts at [`ranges`](Self::ranges).
    pub fn of_parts(len: u64, parts: Vec<&'a [u8]>) -> Self {
        Sample { len, parts }
    }

    /// Offsets and lengths of the parts in a file of `len` bytes.
    pub fn ranges(len: u64) -> impl Iterator<Item = (u64, usize)> {
        let (count, each) = match len <= MOST as u64 {
            true => (1, len as usize),
            false => (3, PART),
        };
        let last = len - each as u64;
        let starts = [0, last / 2, last];
        starts.into_iter().take(count).map(move |at| (at, each))
    }

    /// Size of the entire file, in bytes.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// The first bytes of the file.
    pub(super) fn head(&self) -> &'a [u8] {
        self.parts.first().copied().unwrap_or_default()
    }

    /// Entropy of a smaller sample, in bits per byte; see
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

    /// Ratio of stored to plain bytes at zstd level 1, with each part compressed
    /// separately: 1 or slightly more for incompressible content.
    pub(super) fn ratio(&self) -> f64 {
        let plain: usize = self.parts.iter().map(|part| part.len()).sum();
        if plain == 0 {
            return 1.0;
        }
        let stored: usize = self.parts.iter().map(|part| trial(part)).sum();
        stored as f64 / plain as f64
    }
}

/// Compressed size.
fn trial(part: &[u8]) -> usize {
    thread_local! {
        /// Reusable compressor and output buffer: creating them costs more than a trial.
        static TRIAL: RefCell<Option<(Compressor<'static>, Vec<u8>)>> = const { RefCell::new(None) };
    }
    TRIAL.with_borrow_mut(|slot| {
        if slot.is_none() {
            let room = vec![0; zstd::zstd_safe::compress_bound(MOST)];
            *slot = Compressor::new(1).ok().map(|it| (it, room));
        }
        // Fails only if memory is exhausted; assume that nothing compresses.
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
