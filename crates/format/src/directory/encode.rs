//! Encoding of directories.

use bytes::Bytes;

use super::types::{Directory, Entry, Kind, MAGIC, PlannedContent, PlannedEntry, VERSION};
use crate::chunk::{ChunkRef, PlannedChunk};
use crate::encode::EncodeError;
use crate::table;
use crate::wire::Write;

/// Encodes a directory node from entries sorted by name. Its stored bytes will end at
/// `end` (as in [`PlannedLocation::Local`](crate::PlannedLocation::Local)).
///
/// # Errors
/// When the format cannot express the entries, or a reader would reject them.
pub fn encode(entries: &[PlannedEntry], end: i64) -> Result<Vec<u8>, EncodeError> {
    let raw = Bytes::from(encode_unchecked(entries, end)?);
    let read = Directory::decode(&raw, &ChunkRef::nominal_node(&raw))?;
    let written = |entry: &PlannedEntry| (entry.name.clone(), entry.kind, entry.size);
    let found = |entry: &Entry| (entry.name.clone(), entry.kind, entry.size);
    if !(entries.iter().map(written)).eq(read.entries().iter().map(found)) {
        return Err(EncodeError::Differs("entries"));
    }
    Ok(raw.into())
}

/// Like [`encode`], but permits nodes that a reader may reject; for tests of readers.
///
/// # Errors
/// When the format cannot express the entries.
#[doc(hidden)]
pub fn encode_unchecked(entries: &[PlannedEntry], end: i64) -> Result<Vec<u8>, EncodeError> {
    let is_directory =
        |entry: &&PlannedEntry| matches!(entry.content, PlannedContent::Directory { .. });
    let (directories, others): (Vec<_>, Vec<_>) = entries.iter().partition(is_directory);
    let mut next_directory = 0;
    let mut next_content = directories.len() as u64;
    let chunks = directories.into_iter().chain(others);
    let chunks: Vec<PlannedChunk> = chunks
        .flat_map(|entry| entry.content.chunks())
        .cloned()
        .collect();
    let mut out = vec![MAGIC, VERSION];
    table::write(&mut out, &chunks, end)?;
    out.uint(entries.len() as u64);
    for entry in entries {
        out.string(&entry.name);
        out.push(entry.kind.number());
        match (entry.kind, &entry.content) {
            (Kind::File { .. }, PlannedContent::Inline(bytes)) => {
                out.uint(entry.size);
                out.uint(0);
                out.string(bytes);
            }
            (Kind::File { .. }, PlannedContent::List(_)) => {
                out.uint(entry.size);
                out.uint(1);
                out.uint(next_content);
            }
            (Kind::File { .. }, PlannedContent::Chunks(run)) => {
                out.uint(entry.size);
                out.uint(run.len() as u64 + 2);
                if !run.is_empty() {
                    out.uint(next_content);
                }
            }
            (Kind::Symlink | Kind::Submodule, PlannedContent::Inline(bytes)) => out.string(bytes),
            (Kind::Directory, PlannedContent::Directory { nodes, .. }) => {
                out.uint(entry.size);
                out.uint(next_directory);
                out.uint(*nodes);
            }
            _ => return Err(EncodeError::Entry),
        }
        let next = if is_directory(&entry) {
            &mut next_directory
        } else {
            &mut next_content
        };
        *next += entry.content.chunks().len() as u64;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlannedLocation;
    use crate::chunk::{BlobId, Chunk, ChunkHash, Location};
    use crate::directory::{Content, MAX_INLINE_BYTES};
    use proptest::prelude::*;

    fn chunk(seed: u8, place: PlannedLocation, len: u32) -> PlannedChunk {
        Chunk::raw(ChunkHash::of(&[seed]), len, place)
    }

    fn any_chunk() -> impl Strategy<Value = PlannedChunk> {
        let place = prop_oneof![
            (-50i64..5000).prop_map(PlannedLocation::Local),
            (0u8..3, 0u64..5000).prop_map(|(fill, offset)| {
                let blob = BlobId::from_bytes([fill; 32]);
                PlannedLocation::External(Location { blob, offset })
            }),
        ];
        (any::<u8>(), place, 0u32..200).prop_map(|(seed, place, len)| chunk(seed, place, len))
    }

    /// Entries that no publisher writes: unsorted, duplicate, with content that does not
    /// match their kind.
    fn any_entry() -> impl Strategy<Value = PlannedEntry> {
        let kind = proptest::sample::select(vec![
            Kind::File { executable: false },
            Kind::File { executable: true },
            Kind::Symlink,
            Kind::Directory,
            Kind::Submodule,
        ]);
        let content = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40)
                .prop_map(|bytes| PlannedContent::Inline(bytes.into())),
            Just(PlannedContent::Inline(
                vec![b'x'; MAX_INLINE_BYTES + 1].into()
            )),
            proptest::collection::vec(any_chunk(), 0..3).prop_map(PlannedContent::Chunks),
            any_chunk().prop_map(PlannedContent::List),
            (any_chunk(), prop_oneof![0u64..5, any::<u64>()])
                .prop_map(|(node, nodes)| PlannedContent::Directory { node, nodes }),
        ];
        let name = prop_oneof!["[a-c]{1,2}", "[./]{0,2}", Just("n".repeat(300))];
        let size = proptest::option::of(any::<u64>());
        (name, kind, size, content).prop_map(|(name, kind, size, content)| {
            let fitting = match (&content, kind) {
                (_, Kind::Submodule) => 0,
                (PlannedContent::Inline(bytes), _) => bytes.len() as u64,
                (PlannedContent::Chunks(run), _) => {
                    run.iter().map(|chunk| u64::from(chunk.raw_len)).sum()
                }
                _ => 7,
            };
            PlannedEntry {
                name: name.into(),
                kind,
                size: size.unwrap_or(fitting),
                content,
            }
        })
    }

    proptest! {
        #[test]
        fn arbitrary_directories_decode_as_encoded_or_are_refused(
            entries in proptest::collection::vec(any_entry(), 0..4),
            end in -20i64..20,
        ) {
            let Ok(raw) = encode(&entries, end) else { return Ok(()) };
            let raw = Bytes::from(raw);
            let read = Directory::decode(&raw, &ChunkRef::nominal_node(&raw)).unwrap();
            prop_assert_eq!(read.entries().len(), entries.len());
            let at = |content: &PlannedChunk, read: &ChunkRef| {
                let distance = match content.location {
                    PlannedLocation::Local(at) => (at - end) as u64,
                    PlannedLocation::External(location) => location.offset,
                };
                content.hash == read.hash && distance == read.location.offset
            };
            for (read_entry, entry) in read.entries().iter().zip(&entries) {
                prop_assert_eq!(&read_entry.name[..], &entry.name[..]);
                prop_assert_eq!(read_entry.size, entry.size);
                match (&read_entry.content, &entry.content) {
                    (Content::Inline(found), PlannedContent::Inline(bytes)) => {
                        prop_assert_eq!(&found[..], &bytes[..]);
                    }
                    (Content::Chunks { first, count }, PlannedContent::Chunks(run)) => {
                        prop_assert_eq!(*count as usize, run.len());
                        let found = &read.chunks()[*first as usize..];
                        prop_assert!(run.iter().zip(found).all(|(chunk, read)| at(chunk, read)));
                    }
                    (Content::List { index }, PlannedContent::List(list)) => {
                        prop_assert!(at(list, &read.chunks()[*index as usize]));
                    }
                    (Content::Directory { index, nodes }, PlannedContent::Directory { node, nodes: planned }) => {
                        prop_assert_eq!(nodes, planned);
                        prop_assert!(at(node, &read.chunks()[*index as usize]));
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }

    #[test]
    fn bytes_before_a_directory_cannot_be_referenced() {
        let entry = PlannedEntry {
            name: "file".into(),
            kind: Kind::File { executable: false },
            size: 10,
            content: PlannedContent::Chunks(vec![chunk(1, PlannedLocation::Local(-10), 10)]),
        };
        assert_eq!(encode(&[entry], 0), Err(EncodeError::Backwards));
    }
}
