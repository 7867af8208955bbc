//! A solid group: many objects in one chunk.

use bytes::Bytes;

use crate::chunk::MAX_CHUNK;
use crate::repo::directory::kind_and_version;
use crate::repo::encode::{EncodeError, check_len};
use crate::repo::malformed::MalformedNode;
use crate::repo::wire::{Reader, Write};

const MAGIC: u8 = b'G';
const VERSION: u8 = 1;

/// Writes a group: how many, their lengths, and then what they are.
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

/// Reads a group: its objects, as parts of `raw`.
///
/// # Errors
/// When the bytes are not a group.
pub fn decode_group(raw: &Bytes) -> Result<Vec<Bytes>, MalformedNode> {
    let mut reader = Reader::new(raw);
    kind_and_version(&mut reader, MAGIC, VERSION, "group of git objects")?;
    let count = reader.count(1)?;
    let mut lens = Vec::with_capacity(count);
    for _ in 0..count {
        lens.push(reader.uint32()?.min(MAX_CHUNK) as usize);
    }
    let mut objects = Vec::with_capacity(count);
    for len in lens {
        objects.push(raw.slice_ref(reader.take(len)?));
    }
    reader.finish()?;
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_group_is_read_as_it_was_written(objects in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..50)) {
            let raw = Bytes::from(encode_group(&objects).unwrap());
            let read = decode_group(&raw).unwrap();
            prop_assert!(read.iter().map(|b| &b[..]).eq(objects.iter().map(|b| &b[..])));
        }

        #[test]
        fn a_damaged_group_is_an_error_or_a_group(objects in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..10), at in any::<proptest::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
            let mut raw = encode_group(&objects).unwrap();
            let at = at.index(raw.len());
            if cut { raw.truncate(at) } else { raw[at] = to }
            let raw = Bytes::from(raw);
            if let Ok(read) = decode_group(&raw) {
                prop_assert!(read.iter().map(Bytes::len).sum::<usize>() <= raw.len());
            }
        }
    }
}
