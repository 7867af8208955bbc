//! Sequential read-ahead within one file: pure bookkeeping.

use walgit_format::chunk::ByteRange;

/// Initial window in bytes: the kernel's default read-ahead.
const INITIAL_WINDOW: u64 = 128 << 10;
/// Maximum window in bytes. At 100 Mbit/s it takes two thirds of a second.
const MAX_WINDOW: u64 = 8 << 20;

/// Read-ahead state of one file.
///
/// The window doubles while reads are sequential and collapses on a seek, so that a
/// random reader causes no extra bytes.
#[derive(Clone, Debug)]
pub struct Readahead {
    /// Start of the next read if it is sequential.
    expected: u64,
    /// End of the range that has been requested ahead.
    fetched: u64,
    window: u64,
}

impl Default for Readahead {
    fn default() -> Self {
        Readahead {
            expected: 0,
            fetched: 0,
            window: INITIAL_WINDOW,
        }
    }
}

/// Consequence of a read for the read-ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadaheadAction {
    /// Enough is ahead: do nothing.
    None,
    /// Fetch this range.
    Fetch(ByteRange),
    /// The reader has moved elsewhere: pending fetches are no longer needed.
    Cancel,
}

impl Readahead {
    /// Records a read; returns what to fetch ahead of it, never beyond `size`, the
    /// length of the file.
    pub fn record(&mut self, read: ByteRange, size: u64) -> ReadaheadAction {
        // The kernel reads one file from several threads, so reads that are nearly
        // in order count as sequential.
        let near = read.start().abs_diff(self.expected) <= self.window;
        if !near {
            *self = Readahead {
                expected: read.end(),
                fetched: read.end(),
                window: INITIAL_WINDOW / 2,
            };
            return ReadaheadAction::Cancel;
        }
        self.expected = self.expected.max(read.end());
        self.fetched = self.fetched.max(self.expected);
        // Half a window in reserve suffices.
        if self.fetched - self.expected > self.window / 2 {
            return ReadaheadAction::None;
        }
        self.window = (self.window * 2).min(MAX_WINDOW);
        let end = (self.expected + self.window).min(size);
        let ahead = ByteRange::new(self.fetched, end.saturating_sub(self.fetched));
        self.fetched = self.fetched.max(end);
        if ahead.is_empty() {
            ReadaheadAction::None
        } else {
            ReadaheadAction::Fetch(ahead)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 1 << 30;

    #[test]
    fn sequential_reads_grow_the_window_to_its_maximum() {
        let mut readahead = Readahead::default();
        let mut ahead = 0;
        for read in 0..100 {
            if let ReadaheadAction::Fetch(range) =
                readahead.record(ByteRange::new(read << 17, 1 << 17), SIZE)
            {
                ahead = range.end() - ((read + 1) << 17);
            }
        }
        assert!(ahead > MAX_WINDOW / 2, "{ahead}");
    }

    #[test]
    fn random_reads_prefetch_nothing() {
        let mut readahead = Readahead::default();
        readahead.record(ByteRange::new(0, 4096), SIZE);
        for n in 1..50u64 {
            let at = (n * 7_919_000_017) % SIZE;
            let next = readahead.record(ByteRange::new(at, 4096), SIZE);
            assert_eq!(next, ReadaheadAction::Cancel);
        }
    }

    proptest! {
        #[test]
        fn no_byte_is_prefetched_twice_or_past_the_end(size in 1u64..(64 << 20), len in 1u64..(1 << 20)) {
            let mut readahead = Readahead::default();
            let mut fetched = 0;
            let mut at = 0;
            while at < size {
                let read = ByteRange::new(at, len.min(size - at));
                if let ReadaheadAction::Fetch(ahead) = readahead.record(read, size) {
                    prop_assert!(ahead.start() >= fetched && ahead.end() <= size);
                    prop_assert!(ahead.len() <= MAX_WINDOW + len);
                    fetched = ahead.end();
                }
                at = read.end();
            }
        }
    }
}
