//! A range of bytes of a blob or a file.

use std::fmt;

/// `len` bytes starting at `start`. May be empty; never exceeds `u64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    len: u64,
}

impl ByteRange {
    /// Creates a range, truncated at `u64::MAX`.
    pub const fn new(start: u64, len: u64) -> Self {
        let max_len = u64::MAX - start;
        let len = if len < max_len { len } else { max_len };
        ByteRange { start, len }
    }

    /// Returns the offset of the first byte.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Returns the number of bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the range is empty.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the offset just past the last byte.
    pub const fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Returns the intersection of both ranges, which may be empty.
    pub fn intersect(&self, other: ByteRange) -> ByteRange {
        let start = self.start.max(other.start);
        ByteRange::new(start, self.end().min(other.end()).saturating_sub(start))
    }

    /// Whether this range contains all of `other`.
    pub const fn contains(&self, other: ByteRange) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.len)
    }
}
