//! The chunk table at the start of every node: the chunks it refers to and their
//! locations.
//!
//! A node cannot name its own blob, because a blob's ID is a hash of its content. So a
//! location is either (another blob, offset) or a *distance from the end of the node's
//! own stored bytes* within the same blob. A node's references within its own blob always
//! point forward, so a blob is built from its end without revising offsets. The encoding
//! of a node does not depend on its blob: readers resolve locations relative to the
//! reference of the node.
//!
//! Chunks that require other chunks
//! ([`Codec::has_bases`](crate::chunk::Codec::has_bases)) refer to them by index in a
//! second list, which is present only if needed. A base is never a patch, and a
//! dictionary has no bases: so a chunk takes at most three steps to decode, and there are
//! no cycles.

mod decode;
mod encode;

pub(crate) use decode::{NodeOrigin, UsedChunks, read};
pub(crate) use encode::write;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EncodeError;
    use crate::chunk::{
        BlobId, ChunkHash, ChunkRef, Codec, Location, MAX_BASE_BYTES, MAX_BASES, PlannedChunk,
        PlannedLocation,
    };
    use crate::malformed::MalformedNode;
    use crate::wire::Reader;
    use proptest::prelude::*;

    const END: i64 = -1000;

    fn external(fill: u8, offset: u64) -> PlannedLocation {
        let blob = BlobId::from_bytes([fill; 32]);
        PlannedLocation::External(Location { blob, offset })
    }

    fn chunk(seed: u16, codec: Codec, bases: Vec<PlannedChunk>) -> PlannedChunk {
        PlannedChunk {
            hash: ChunkHash::of(&seed.to_le_bytes()),
            raw_len: match codec {
                Codec::Raw => 100,
                _ => 300,
            },
            stored_len: 100,
            codec,
            location: match seed % 3 {
                0 => PlannedLocation::Local(i64::from(seed) * 100),
                n => external(n as u8, u64::from(seed) * 7),
            },
            bases: bases.into(),
        }
    }

    fn origin() -> NodeOrigin {
        NodeOrigin {
            blob: BlobId::from_bytes([9; 32]),
            end: 5000,
        }
    }

    fn written(chunks: &[PlannedChunk]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, chunks, END).unwrap();
        out
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<ChunkRef>, MalformedNode> {
        let mut reader = Reader::new(bytes);
        let chunks = read(&mut reader, origin())?;
        reader.finish()?;
        Ok(chunks)
    }

    /// The reference that a reader at [`origin`] should decode for a chunk.
    fn seen(chunk: &PlannedChunk) -> ChunkRef {
        chunk.map_location(&|location| match location {
            PlannedLocation::Local(at) => Location {
                blob: origin().blob,
                offset: (at - END) as u64 + origin().end,
            },
            PlannedLocation::External(location) => *location,
        })
    }

    /// Tables of a typical publisher: dictionaries, bases, patches.
    fn tables() -> impl Strategy<Value = Vec<PlannedChunk>> {
        let one = (any::<u16>(), 0u8..5, 0u16..3, 1usize..5);
        proptest::collection::vec(one, 0..40).prop_map(|them| {
            let dictionary = |n: u16| chunk(n, Codec::Zstd, vec![]);
            let chunks = them.into_iter().map(|(seed, kind, n, bases)| {
                let seed = seed.max(100);
                match kind {
                    0 => chunk(seed, Codec::Raw, vec![]),
                    1 => chunk(seed, Codec::Zstd, vec![]),
                    2 => chunk(seed, Codec::Dictionary, vec![dictionary(n)]),
                    _ => {
                        let bases = (0..bases as u16).map(|i| match (i + n) % 2 {
                            0 => chunk(10 + i + n, Codec::Raw, vec![]),
                            _ => {
                                chunk(50 + i + n, Codec::Dictionary, vec![dictionary((i + n) % 2)])
                            }
                        });
                        chunk(seed, Codec::Patch, bases.collect())
                    }
                }
            });
            chunks.collect()
        })
    }

    /// Chunks that no publisher writes: any location, length, codec and bases.
    fn any_chunk(depth: u32) -> BoxedStrategy<PlannedChunk> {
        let codec = proptest::sample::select(vec![
            Codec::Raw,
            Codec::Zstd,
            Codec::Dictionary,
            Codec::Patch,
        ]);
        let location = prop_oneof![
            (-2000i64..5000).prop_map(PlannedLocation::Local),
            any::<i64>().prop_map(PlannedLocation::Local),
            (0u8..4, any::<u64>()).prop_map(|(fill, at)| external(fill, at)),
            (0u8..4, 0u64..5000).prop_map(|(fill, at)| external(fill, at)),
        ];
        let bases = match depth {
            0 => Just(Vec::new()).boxed(),
            _ => proptest::collection::vec(any_chunk(depth - 1), 0..3).boxed(),
        };
        let lens = prop_oneof![Just((100, 100)), any::<(u32, u32)>()];
        (0u8..8, lens, codec, location, bases)
            .prop_map(
                |(seed, (raw_len, stored_len), codec, location, bases)| PlannedChunk {
                    hash: ChunkHash::of(&[seed]),
                    raw_len,
                    stored_len,
                    codec,
                    location,
                    bases: bases.into(),
                },
            )
            .boxed()
    }

    proptest! {
        #[test]
        fn arbitrary_tables_decode_as_encoded_or_are_refused(
            chunks in proptest::collection::vec(any_chunk(2), 0..6),
        ) {
            let mut out = Vec::new();
            if write(&mut out, &chunks, END).is_ok()
                && let Ok(read) = read_all(&out)
            {
                let expected: Vec<ChunkRef> = chunks.iter().map(seen).collect();
                prop_assert_eq!(read, expected);
            }
        }
    }

    proptest! {
        #[test]
        fn a_table_is_read_as_it_was_written(chunks in tables()) {
            let read = read_all(&written(&chunks)).unwrap();
            let expected: Vec<ChunkRef> = chunks.iter().map(seen).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_damaged_table_is_an_error_or_a_table(chunks in tables(), at in any::<proptest::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = written(&chunks);
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = to }
            if let Ok(chunks) = read_all(&bytes) {
                for base in chunks.iter().flat_map(|chunk| chunk.bases.iter()) {
                    prop_assert!(base.codec != Codec::Patch);
                    prop_assert!(base.bases.iter().all(|below| !below.codec.has_bases()));
                }
            }
        }
    }

    #[test]
    fn a_base_is_never_a_patch() {
        let inner = chunk(1, Codec::Patch, vec![chunk(2, Codec::Raw, vec![])]);
        let outer = chunk(3, Codec::Patch, vec![inner]);
        let result = read_all(&written(&[outer]));
        assert_eq!(result, Err(MalformedNode::Base("a base that is a patch")));
    }

    #[test]
    fn a_dictionary_stands_alone() {
        let inner = chunk(1, Codec::Dictionary, vec![chunk(2, Codec::Raw, vec![])]);
        let outer = chunk(3, Codec::Dictionary, vec![inner]);
        let result = read_all(&written(&[outer]));
        assert_eq!(
            result,
            Err(MalformedNode::Base(
                "a dictionary that requires another chunk"
            ))
        );
    }

    #[test]
    fn bases_have_bounds() {
        let many: Vec<_> = (0..=MAX_BASES as u16)
            .map(|n| chunk(n, Codec::Raw, vec![]))
            .collect();
        let result = write(&mut Vec::new(), &[chunk(500, Codec::Patch, many)], END);
        assert!(matches!(result, Err(EncodeError::Chunk(_))));
        let mut large = chunk(1, Codec::Zstd, vec![]);
        large.raw_len = MAX_BASE_BYTES as u32 + 1;
        let result = read_all(&written(&[chunk(2, Codec::Patch, vec![large])]));
        assert_eq!(
            result,
            Err(MalformedNode::Base("bases over the size limit"))
        );
    }
}
