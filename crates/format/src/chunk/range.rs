//! A stretch of bytes of a blob or a file.

use std::fmt;

/// `len` bytes from `start` on. May be empty; never runs past `u64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    len: u64,
}

impl ByteRange {
    /// The range; one that would run past `u64::MAX` is cut there.
    pub const fn new(start: u64, len: u64) -> Self {
        let room = u64::MAX - start;
        let len = if len < room { len } else { room };
        ByteRange { start, len }
    }

    /// Offset of the first byte.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// How many bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no byte.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Offset just past the last byte.
    pub const fn end(&self) -> u64 {
        self.start + self.len
    }

    /// The bytes that both ranges hold; empty where they do not meet.
    pub fn intersect(&self, other: ByteRange) -> ByteRange {
        let start = self.start.max(other.start);
        ByteRange::new(start, self.end().min(other.end()).saturating_sub(start))
    }

    /// Whether every byte of `other` is in this range.
    pub const fn contains(&self, other: ByteRange) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.len)
    }
}
