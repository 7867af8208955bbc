//! Samples of a file.

use std::cell::RefCell;

use zstd::bulk::Compressor;

/// Maximum sample size, in bytes: enough to measure a level 1 compressor, and a sixteenth
/// of the maximum chunk.
const MAX_SAMPLE_BYTES: usize = 64 << 10;
/// Bytes of each of the three parts of a partial sample.
const PART_BYTES: usize = MAX_SAMPLE_BYTES / 3;
/// Bytes of each part that suffice for byte statistics: in 12 KiB each of 256 values is
/// expected 48 times.
const COUNTED_BYTES: usize = 4 << 10;

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
        let (count, each) = if len <= MAX_SAMPLE_BYTES as u64 {
            (1, len as usize)
        } else {
            (3, PART_BYTES)
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
    /// [`entropy`].
    pub(super) fn entropy(&self) -> f64 {
        let mut counted = Vec::with_capacity(3);
        match &self.parts[..] {
            [entire] if entire.len() > 3 * COUNTED_BYTES => {
                let last = entire.len() - COUNTED_BYTES;
                let starts = [0, last / 2, last];
                counted.extend(starts.map(|at| &entire[at..at + COUNTED_BYTES]));
            }
            [entire] => counted.push(&entire[..]),
            parts => counted.extend(parts.iter().map(|it| &it[..it.len().min(COUNTED_BYTES)])),
        }
        entropy(&counted)
    }

    /// Ratio of stored to plain bytes at zstd level 1, with each part compressed
    /// separately: 1 or slightly more for incompressible content.
    pub(super) fn ratio(&self) -> f64 {
        let plain: usize = self.parts.iter().map(|part| part.len()).sum();
        if plain == 0 {
            return 1.0;
        }
        let stored: usize = self.parts.iter().map(|part| compressed_len(part)).sum();
        stored as f64 / plain as f64
    }
}

fn compressed_len(part: &[u8]) -> usize {
    thread_local! {
        /// Reusable compressor and output buffer: creating them costs more than a trial.
        static TRIAL: RefCell<Option<(Compressor<'static>, Vec<u8>)>> = const { RefCell::new(None) };
    }
    TRIAL.with_borrow_mut(|slot| {
        if slot.is_none() {
            let buffer = vec![0; zstd::zstd_safe::compress_bound(MAX_SAMPLE_BYTES)];
            *slot = Compressor::new(1).ok().map(|it| (it, buffer));
        }
        // Fails only if memory is exhausted; assume that nothing compresses.
        let done = slot.as_mut().and_then(|(compressor, buffer)| {
            compressor
                .compress_to_buffer(part, buffer.as_mut_slice())
                .ok()
        });
        done.unwrap_or(part.len())
    })
}

/// Shannon entropy of the byte values in `parts`, in bits per byte: 0 for a single
/// repeated value, 8 if all are equally frequent, 0 for empty input.
///
/// No coder with a separate code for each byte stores fewer bits, and one such as
/// Huffman's stores hardly more. The entropy thus bounds the stored size from above, and
/// repetition can only reduce it.
fn entropy(parts: &[&[u8]]) -> f64 {
    // Four tables, so that equal neighbours do not depend on each other.
    let mut counts = [[0u32; 256]; 4];
    for part in parts {
        let mut fours = part.chunks_exact(4);
        for four in fours.by_ref() {
            for (table, byte) in counts.iter_mut().zip(four) {
                table[usize::from(*byte)] += 1;
            }
        }
        for byte in fours.remainder() {
            counts[0][usize::from(*byte)] += 1;
        }
    }
    let total: usize = parts.iter().map(|part| part.len()).sum();
    if total == 0 {
        return 0.0;
    }
    let total = total as f64;
    let of_one = (0..256).map(|value| {
        let count: u32 = counts.iter().map(|table| table[value]).sum();
        let count = f64::from(count);
        if count > 0.0 {
            count * count.log2()
        } else {
            0.0
        }
    });
    (total.log2() - of_one.sum::<f64>() / total).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_the_whole_file_or_its_start_middle_and_end() {
        let entire: Vec<_> = Sample::ranges(MAX_SAMPLE_BYTES as u64).collect();
        assert_eq!(entire, [(0, MAX_SAMPLE_BYTES)]);
        for len in [MAX_SAMPLE_BYTES as u64 + 1, 1_000_003, 5 << 30] {
            let ranges: Vec<_> = Sample::ranges(len).collect();
            let [start, middle, end] = ranges[..] else {
                panic!("{ranges:?}");
            };
            assert_eq!(start, (0, PART_BYTES));
            assert_eq!(end, (len - PART_BYTES as u64, PART_BYTES));
            assert!(
                middle.0 >= PART_BYTES as u64 && middle.0 + PART_BYTES as u64 <= end.0,
                "{ranges:?}"
            );
        }
    }

    #[test]
    fn entropy_is_zero_for_one_value_and_eight_bits_for_all() {
        let all: Vec<u8> = (0..=255).cycle().take(4096).collect();
        assert_eq!(entropy(&[&all]), 8.0);
        assert_eq!(entropy(&[&[7; 999]]), 0.0);
        assert_eq!(entropy(&[]), 0.0);
        let two: Vec<u8> = [1, 2].into_iter().cycle().take(1000).collect();
        assert!((entropy(&[&two]) - 1.0).abs() < 1e-9);
        assert!((entropy(&[&two[..333], &two[333..]]) - 1.0).abs() < 1e-9);
    }
}
