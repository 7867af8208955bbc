//! The primitive types of nodes: integers, byte strings, hashes.
//!
//! Integers are LEB128 in their shortest form only, so that a node has exactly one
//! encoding and therefore one hash. Reads never exceed the input, and a count is only
//! accepted if the remaining input can hold that many elements of minimum size.

use bytes::Bytes;

use super::id::GitId;
use super::malformed::MalformedNode;
use crate::chunk::{Budget, budget};

/// Overhead of the allocation of a short string, in bytes.
const ALLOCATION_OVERHEAD: usize = 16;

/// Reads primitives from a node's bytes and charges the memory of the decoded values.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    budget: Budget,
}

impl<'a> Reader<'a> {
    /// Creates a reader of a node that stays in memory.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader {
            bytes,
            at: 0,
            budget: Budget::keeping(bytes.len(), budget::NODE_BYTES),
        }
    }

    /// Creates a reader of a node whose parts are copied, into at most `ceiling` bytes of
    /// memory.
    pub(super) fn within(bytes: &'a [u8], ceiling: u64) -> Self {
        Reader {
            bytes,
            at: 0,
            budget: Budget::of(bytes.len(), ceiling),
        }
    }

    /// Returns the bytes of memory charged so far.
    pub(super) fn used(&self) -> u64 {
        self.budget.used()
    }

    /// Charges `count` elements of type `T`.
    pub(super) fn charge<T>(&mut self, count: usize) -> Result<(), MalformedNode> {
        Ok(self.budget.charge_elements::<T>(count)?)
    }

    /// Returns the offset of the next byte.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], MalformedNode> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or(MalformedNode::Truncated)?;
        self.at += len;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedNode> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn byte(&mut self) -> Result<u8, MalformedNode> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn uint(&mut self) -> Result<u64, MalformedNode> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(MalformedNode::Integer)
    }

    pub(super) fn sint(&mut self) -> Result<i64, MalformedNode> {
        let zigzag = self.uint()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    pub(super) fn uint32(&mut self) -> Result<u32, MalformedNode> {
        u32::try_from(self.uint()?).map_err(|_| MalformedNode::Integer)
    }

    /// Reads the first two bytes of a node.
    pub(super) fn header(
        &mut self,
        magic: u8,
        version: u8,
        expected: &'static str,
    ) -> Result<(), MalformedNode> {
        let found = self.byte()?;
        if found != magic {
            return Err(MalformedNode::Kind { expected, found });
        }
        match self.byte()? {
            found if found == version => Ok(()),
            found => Err(MalformedNode::Version(found)),
        }
    }

    /// Reads an index of a list of `len` elements.
    pub(super) fn index(&mut self, len: usize) -> Result<usize, MalformedNode> {
        let number = self.uint()?;
        let index = usize::try_from(number).ok().filter(|index| *index < len);
        index.ok_or(MalformedNode::Index(number))
    }

    /// Reads a list of elements of at least `least` bytes each, and charges their memory.
    pub(super) fn list<T>(
        &mut self,
        least: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, MalformedNode>,
    ) -> Result<Vec<T>, MalformedNode> {
        let count = self.count::<T>(least)?;
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    /// Reads a count of elements that decode to `T`, at least `least` bytes each, and
    /// charges their memory.
    pub(super) fn count<T>(&mut self, least: usize) -> Result<usize, MalformedNode> {
        let count = self.bounded(least)?;
        self.charge::<T>(count)?;
        Ok(count)
    }

    /// Reads a count of elements of at least `least` bytes each, without charging memory.
    pub(super) fn bounded(&mut self, least: usize) -> Result<usize, MalformedNode> {
        let count = self.uint()?;
        let max_count = (self.bytes.len() - self.at) / least.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= max_count => Ok(count),
            _ => Err(MalformedNode::Truncated),
        }
    }

    /// Reads a byte string of at most `limit` bytes and copies it.
    pub(super) fn copied(&mut self, limit: usize) -> Result<Bytes, MalformedNode> {
        let bytes = self.bytes(limit)?;
        if !bytes.is_empty() {
            self.charge::<u8>(bytes.len() + ALLOCATION_OVERHEAD)?;
        }
        Ok(Bytes::copy_from_slice(bytes))
    }

    /// Reads the ID of a commit or of another git object; may be empty.
    pub(super) fn id(&mut self) -> Result<GitId, MalformedNode> {
        let bytes = self.bytes(32)?;
        self.charge::<u8>(bytes.len() + ALLOCATION_OVERHEAD)?;
        Ok(GitId(bytes.to_vec()))
    }

    /// Reads a byte string of at most `limit` bytes.
    pub(super) fn bytes(&mut self, limit: usize) -> Result<&'a [u8], MalformedNode> {
        let len = self.bounded(1)?;
        if len > limit {
            return Err(MalformedNode::TooLong { len, limit });
        }
        self.take(len)
    }

    /// Reads a byte string of at most `limit` bytes as a slice of `raw`, the input.
    pub(super) fn slice(&mut self, raw: &Bytes, limit: usize) -> Result<Bytes, MalformedNode> {
        Ok(raw.slice_ref(self.bytes(limit)?))
    }

    /// Checks that no bytes follow.
    pub(super) fn finish(self) -> Result<(), MalformedNode> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            extra => Err(MalformedNode::Trailing(extra)),
        }
    }
}

/// Appends primitives to a buffer.
pub(super) trait Write {
    fn uint(&mut self, value: u64);
    fn sint(&mut self, value: i64);
    fn string(&mut self, bytes: &[u8]);
}

impl Write for Vec<u8> {
    fn uint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn sint(&mut self, value: i64) {
        self.uint(((value << 1) ^ (value >> 63)) as u64);
    }

    fn string(&mut self, bytes: &[u8]) {
        self.uint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_read_as_written(unsigned in any::<u64>(), signed in any::<i64>()) {
            let mut buffer = Vec::new();
            buffer.uint(unsigned);
            buffer.sint(signed);
            let mut reader = Reader::new(&buffer);
            prop_assert_eq!(reader.uint().unwrap(), unsigned);
            prop_assert_eq!(reader.sint().unwrap(), signed);
            reader.finish().unwrap();
        }

        #[test]
        fn every_integer_has_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.uint() {
                let mut again = Vec::new();
                again.uint(value);
                prop_assert_eq!(&again[..], &bytes[..reader.position()]);
            }
        }
    }

    #[test]
    fn a_count_without_the_bytes_for_it_is_refused() {
        let mut buffer = Vec::new();
        buffer.uint(1 << 40);
        assert!(Reader::new(&buffer).count::<[u8; 32]>(32).is_err());
    }

    #[test]
    fn elements_that_take_far_more_memory_than_bytes_are_refused() {
        let mut buffer = Vec::new();
        buffer.uint(1 << 20);
        buffer.resize(buffer.len() + (1 << 20), 0);
        let count = |least| Reader::new(&buffer).count::<[u64; 8]>(least);
        assert!(matches!(count(1), Err(MalformedNode::OverBudget { .. })));
        assert_eq!(Reader::new(&buffer).count::<u64>(1), Ok(1 << 20));
    }
}
