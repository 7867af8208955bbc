//! A solid group: several objects in one chunk.

use bytes::Bytes;

use crate::chunk::MAX_CHUNK;
use crate::encode::{EncodeError, check_len};
use crate::malformed::MalformedNode;
use crate::wire::{Reader, Write};

const MAGIC: u8 = b'G';
const VERSION: u8 = 1;

/// Encodes a group: the number of objects, their lengths, and their bytes.
///
/// # Errors
/// [`EncodeError::TooLong`] for an object that is longer than a chunk.
pub fn encode_group<T: AsRef<[u8]>>(objects: &[T]) -> Result<Vec<u8>, EncodeError> {
    let bytes: usize = objects.iter().map(|object| object.as_ref().len()).sum();
    let mut out = Vec::with_capacity(bytes + objects.len() * 3 + 8);
    out.extend_from_slice(&[MAGIC, VERSION]);
    out.uint(objects.len() as u64);
    for object in objects {
        check_len("a git object", object.as_ref().len(), MAX_CHUNK as usize)?;
        out.uint(object.as_ref().len() as u64);
    }
    for object in objects {
        out.extend_from_slice(object.as_ref());
    }
    check_len("a group of git objects", out.len(), MAX_CHUNK as usize)?;
    Ok(out)
}

/// The objects of a group, as slices of its plain bytes.
#[derive(Clone, Debug)]
pub struct Objects {
    raw: Bytes,
    /// End of each object, in bytes from the start of the first.
    ends: Vec<u32>,
}

impl Objects {
    /// Returns the number of objects.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the group is empty.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns object number `at`.
    pub fn get(&self, at: usize) -> Option<Bytes> {
        let end = *self.ends.get(at)? as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]) as usize;
        Some(self.raw.slice(start..end))
    }

    /// Iterates over all objects, in order.
    pub fn iter(&self) -> impl Iterator<Item = Bytes> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Returns their size in memory, in bytes.
    pub fn weight(&self) -> u64 {
        (self.raw.len() + self.ends.len() * size_of::<u32>()) as u64
    }
}

/// Decodes a group; its objects are slices of `raw`.
pub fn decode_group(raw: &Bytes) -> Result<Objects, MalformedNode> {
    let mut reader = Reader::new(raw);
    reader.header(MAGIC, VERSION, "group of git objects")?;
    let count = reader.count::<u32>(1)?;
    let mut ends = Vec::with_capacity(count);
    let (mut end, mut empty) = (0u32, 0);
    for _ in 0..count {
        reader.charge::<()>(1)?;
        let len = reader.uint32()?;
        empty += u32::from(len == 0);
        // Objects are distinct, so at most one of a group is empty.
        if empty > 1 {
            return Err(MalformedNode::Sum("objects of a group (two are empty)"));
        }
        end = end.checked_add(len).ok_or(MalformedNode::Truncated)?;
        ends.push(end);
    }
    let objects = raw.slice_ref(reader.take(end as usize)?);
    reader.finish()?;
    Ok(Objects { raw: objects, ends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_group_is_read_as_it_was_written(objects in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..50)) {
            let raw = Bytes::from(encode_group(&objects).unwrap());
            let read = decode_group(&raw);
            if objects.iter().filter(|it| it.is_empty()).count() > 1 {
                prop_assert!(read.is_err());
            } else {
                prop_assert!(read.unwrap().iter().eq(objects));
            }
        }

        #[test]
        fn a_damaged_group_is_an_error_or_a_group(objects in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..10), at in any::<proptest::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
            let mut raw = encode_group(&objects).unwrap();
            let at = at.index(raw.len());
            if cut { raw.truncate(at) } else { raw[at] = to }
            let raw = Bytes::from(raw);
            if let Ok(read) = decode_group(&raw) {
                prop_assert!(read.iter().map(|it| it.len()).sum::<usize>() <= raw.len());
            }
        }
    }
}
