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
//! Chunks that require other chunks ([`Codec::has_bases`]) refer to them by index in a
//! second list, which is present only if needed. A base is never a patch, and a
//! dictionary has no bases: so a chunk takes at most three steps to decode, and there are
//! no cycles.

use std::collections::HashMap;

use super::encode::EncodeError;
use super::malformed::MalformedNode;
use super::wire::{Reader, Write};
use crate::chunk::{
    Bases, BlobId, ByteRange, Chunk, ChunkHash, ChunkRef, Codec, Location, MAX_BASE_BYTES,
    MAX_BASES, MAX_CHUNK, PlannedChunk, PlannedLocation,
};

/// Minimum encoded size of a table entry, in bytes: codec, blob, offset, length, hash.
const LEAST_ENTRY: usize = 4 + 32;
/// Most references to bases in one table, excluding the first of each chunk: one byte of
/// input must not take a hundred in memory without limit.
const MAX_FURTHER_BASES: usize = 1 << 18;

/// Location of a node, which its relative locations refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    blob: BlobId,
    end: u64,
}

impl Origin {
    /// Returns the origin of the node at `reference`.
    pub(super) fn of(reference: &ChunkRef) -> Self {
        Origin {
            blob: reference.location.blob,
            end: reference.range().end(),
        }
    }
}

/// Decoded chunks, and the indices of their bases.
#[derive(Default)]
struct Listed {
    chunks: Vec<ChunkRef>,
    /// Index of each chunk with bases, and the end of its indices in `numbers`.
    based: Vec<(usize, usize)>,
    numbers: Vec<usize>,
}

impl Listed {
    /// Iterates over the chunks with bases, with the indices of the bases.
    fn based(&self) -> impl DoubleEndedIterator<Item = (usize, &[usize])> {
        (self.based.iter().enumerate()).map(|(at, (chunk, end))| {
            let start = at.checked_sub(1).map_or(0, |before| self.based[before].1);
            (*chunk, &self.numbers[start..*end])
        })
    }
}

/// Reads consecutive lists of chunks.
struct Entries<'r, 'b> {
    reader: &'r mut Reader<'b>,
    origin: Origin,
    blobs: Vec<BlobId>,
    follows: ByteRange,
    /// Remaining bases, excluding the first of each chunk.
    further: usize,
}

impl Entries<'_, '_> {
    fn list(&mut self) -> Result<Listed, MalformedNode> {
        let count = self.reader.count::<ChunkRef>(LEAST_ENTRY)?;
        let mut listed = Listed {
            chunks: Vec::with_capacity(count),
            ..Listed::default()
        };
        for _ in 0..count {
            let chunk = self.entry(&mut listed)?;
            listed.chunks.push(chunk);
        }
        Ok(listed)
    }

    fn entry(&mut self, listed: &mut Listed) -> Result<ChunkRef, MalformedNode> {
        let codec = Codec::try_from(self.reader.byte()?)?;
        let blob = self.reader.uint()?;
        let step = self.reader.sint()?;
        let offset = (self.follows.end())
            .checked_add_signed(step)
            .ok_or(MalformedNode::Location)?;
        let stored_len = self.reader.uint32()?;
        let raw_len = match codec {
            Codec::Raw => stored_len,
            _ => self.reader.uint32()?,
        };
        if raw_len > MAX_CHUNK || stored_len > MAX_CHUNK {
            return Err(crate::chunk::ChunkError::TooLarge(raw_len.max(stored_len)).into());
        }
        let hash = ChunkHash::from_bytes(self.reader.array()?);
        self.bases(codec, listed)?;
        self.follows = ByteRange::new(offset, u64::from(stored_len));
        let (blob, offset) = match usize::try_from(blob).ok() {
            Some(0) => (
                self.origin.blob,
                (offset.checked_add(self.origin.end)).ok_or(MalformedNode::Location)?,
            ),
            Some(index) if index <= self.blobs.len() => (self.blobs[index - 1], offset),
            _ => return Err(MalformedNode::Index(blob)),
        };
        if offset.checked_add(u64::from(stored_len)).is_none() {
            return Err(MalformedNode::Location);
        }
        Ok(Chunk {
            hash,
            raw_len,
            stored_len,
            codec,
            location: Location { blob, offset },
            bases: Bases::NONE,
        })
    }

    /// Reads the indices of a chunk's bases.
    fn bases(&mut self, codec: Codec, listed: &mut Listed) -> Result<(), MalformedNode> {
        let count = match codec {
            Codec::Raw | Codec::Zstd => 0,
            Codec::Dictionary => 1,
            Codec::Patch => self.reader.count::<usize>(1)?,
        };
        if codec.has_bases() && !(1..=MAX_BASES).contains(&count) {
            return Err(MalformedNode::Base("as many bases as no chunk may have"));
        }
        self.further = (self.further.checked_sub(count.saturating_sub(1)))
            .ok_or(MalformedNode::Base("too many bases in all"))?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            let number = self.reader.uint()?;
            let number = usize::try_from(number).map_err(|_| MalformedNode::Index(number))?;
            listed.numbers.push(number);
        }
        // Twice, because growing vectors double their capacity.
        self.reader.charge::<[(usize, usize); 2]>(1)?;
        let end = listed.numbers.len();
        listed.based.push((listed.chunks.len(), end));
        Ok(())
    }
}

/// The end of the part of a table that a decoder has used. Elements use the table in
/// order and each chunk once, so their references never exceed the table.
#[derive(Default)]
pub(super) struct UsedChunks(u64);

impl UsedChunks {
    /// Returns a run of chunks, which starts at or after the end of the previous one.
    /// `what` names the elements.
    pub(super) fn take<'c>(
        &mut self,
        chunks: &'c [ChunkRef],
        first: u64,
        count: u64,
        what: &'static str,
    ) -> Result<&'c [ChunkRef], MalformedNode> {
        let end = first.checked_add(count);
        let end = end.filter(|&end| end <= chunks.len() as u64);
        let end = end.ok_or(MalformedNode::Index(first))?;
        if count > 0 && first < self.0 {
            return Err(MalformedNode::Runs(what));
        }
        self.0 = end.max(self.0);
        Ok(&chunks[first as usize..end as usize])
    }
}

/// Decodes the table of a node at `origin`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    origin: Origin,
) -> Result<Vec<ChunkRef>, MalformedNode> {
    let blobs = reader.list(32, |reader| reader.array().map(BlobId::from_bytes))?;
    let mut entries = Entries {
        reader,
        origin,
        blobs,
        follows: ByteRange::new(0, 0),
        further: MAX_FURTHER_BASES,
    };
    let mut listed = entries.list()?;
    if listed.based.is_empty() {
        return Ok(listed.chunks);
    }
    let bases = entries.list()?;
    reader.charge::<(Base, ChunkRef)>(bases.chunks.len())?;
    let bases = resolve_bases(bases)?;
    let mut chunks = std::mem::take(&mut listed.chunks);
    for (at, numbers) in listed.based() {
        if numbers.len() > 1 {
            reader.charge::<ChunkRef>(numbers.len())?;
        }
        chunks[at].bases = resolve(&chunks[at], numbers, &bases)?;
    }
    Ok(chunks)
}

/// A base, and the shared list that contains only this base.
struct Base {
    chunk: ChunkRef,
    alone: Bases,
}

/// Resolves the bases of bases. They come later in the list, which rules out cycles.
fn resolve_bases(mut listed: Listed) -> Result<Vec<Base>, MalformedNode> {
    let chunks = std::mem::take(&mut listed.chunks);
    let count = chunks.len();
    // Starts with the last one.
    let mut done: Vec<Base> = Vec::with_capacity(count);
    let mut based = listed.based().rev().peekable();
    for (at, mut chunk) in chunks.into_iter().enumerate().rev() {
        let numbers = based.next_if(|(chunk, _)| *chunk == at);
        let numbers = numbers.map_or(&[][..], |(_, numbers)| numbers);
        chunk.bases = match (chunk.codec, numbers) {
            (Codec::Raw | Codec::Zstd, _) => Bases::NONE,
            (Codec::Patch, _) => return Err(MalformedNode::Base("a base that is a patch")),
            (Codec::Dictionary, numbers) => {
                let number = numbers.first().copied().unwrap_or(count);
                let base = (number > at && number < count).then(|| &done[count - 1 - number]);
                let base = base.ok_or(MalformedNode::Index(number as u64))?;
                if base.chunk.codec.has_bases() {
                    return Err(MalformedNode::Base("a dictionary that needs another"));
                }
                base.alone.clone()
            }
        };
        let alone = Bases::one(chunk.clone());
        done.push(Base { chunk, alone });
    }
    done.reverse();
    Ok(done)
}

fn resolve(chunk: &ChunkRef, numbers: &[usize], bases: &[Base]) -> Result<Bases, MalformedNode> {
    let base = |number: &usize| {
        let base = bases.get(*number);
        base.ok_or(MalformedNode::Index(*number as u64))
    };
    let found: Bases = match numbers {
        [] => return Ok(Bases::NONE),
        [one] => base(one)?.alone.clone(),
        many => {
            let many = many.iter().map(|number| Ok(base(number)?.chunk.clone()));
            many.collect::<Result<Vec<_>, MalformedNode>>()?.into()
        }
    };
    let bytes: u64 = found.iter().map(|base| u64::from(base.raw_len)).sum();
    if bytes > MAX_BASE_BYTES {
        return Err(MalformedNode::Base("bases over their bound"));
    }
    let needs_another = |base: &ChunkRef| base.codec.has_bases();
    if chunk.codec == Codec::Dictionary && found.iter().any(needs_another) {
        return Err(MalformedNode::Base("a dictionary that needs another"));
    }
    Ok(found)
}

/// The bases in a table, each before its own bases.
struct Numbered<'c> {
    bases: Vec<&'c PlannedChunk>,
    numbers: HashMap<&'c PlannedChunk, u64>,
}

impl<'c> Numbered<'c> {
    fn of(chunks: &'c [PlannedChunk]) -> Self {
        let mut numbered = Numbered {
            bases: Vec::new(),
            numbers: HashMap::new(),
        };
        let direct = || chunks.iter().flat_map(|chunk| chunk.bases.iter());
        // Bases with dictionaries come before all dictionaries.
        let (based, alone): (Vec<_>, Vec<_>) = direct().partition(|base| base.codec.has_bases());
        let below = based.iter().flat_map(|base| base.bases.iter());
        let below: Vec<_> = below.collect();
        for base in based.into_iter().chain(alone).chain(below) {
            numbered.add(base);
        }
        numbered
    }

    fn add(&mut self, base: &'c PlannedChunk) {
        let next = self.bases.len() as u64;
        self.numbers.entry(base).or_insert_with(|| {
            self.bases.push(base);
            next
        });
    }
}

/// Writes consecutive lists of chunks.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    end: i64,
    /// Blobs by ID, numbered from 1.
    blobs: &'o HashMap<BlobId, u64>,
    numbers: &'o HashMap<&'o PlannedChunk, u64>,
    follows: u64,
}

impl Writer<'_> {
    fn list<'c>(
        &mut self,
        mut chunks: impl ExactSizeIterator<Item = &'c PlannedChunk>,
    ) -> Result<(), EncodeError> {
        self.out.uint(chunks.len() as u64);
        chunks.try_for_each(|chunk| self.entry(chunk))
    }

    fn entry(&mut self, chunk: &PlannedChunk) -> Result<(), EncodeError> {
        check_chunk(chunk)?;
        let (blob, offset) = match chunk.location {
            // Blobs are built from the end, so references point forward.
            PlannedLocation::Local(at) => {
                let distance = at.checked_sub(self.end).ok_or(EncodeError::Offset)?;
                let distance = u64::try_from(distance).map_err(|_| EncodeError::Backwards)?;
                (0, distance)
            }
            PlannedLocation::External(location) => {
                let number = self.blobs.get(&location.blob);
                (
                    *number.ok_or(EncodeError::NotInTable("a blob"))?,
                    location.offset,
                )
            }
        };
        let step = i128::from(offset) - i128::from(self.follows);
        let end = offset.checked_add(u64::from(chunk.stored_len));
        self.out.push(chunk.codec as u8);
        self.out.uint(blob);
        (self.out).sint(i64::try_from(step).map_err(|_| EncodeError::Offset)?);
        self.out.uint(u64::from(chunk.stored_len));
        if chunk.codec != Codec::Raw {
            self.out.uint(u64::from(chunk.raw_len));
        }
        self.out.extend_from_slice(chunk.hash.as_bytes());
        if chunk.codec == Codec::Patch {
            self.out.uint(chunk.bases.len() as u64);
        }
        for base in chunk.bases.iter() {
            let number = self.numbers.get(base);
            (self.out).uint(*number.ok_or(EncodeError::NotInTable("a base"))?);
        }
        self.follows = end.ok_or(EncodeError::Offset)?;
        Ok(())
    }
}

/// Rejects a chunk with contradictory fields, some of which are not encoded.
fn check_chunk(chunk: &PlannedChunk) -> Result<(), EncodeError> {
    if chunk.codec == Codec::Raw && chunk.raw_len != chunk.stored_len {
        return Err(EncodeError::Chunk("two lengths though it is stored as is"));
    }
    let bases = match chunk.codec {
        Codec::Raw | Codec::Zstd => 0..=0,
        Codec::Dictionary => 1..=1,
        Codec::Patch => 1..=MAX_BASES,
    };
    if !bases.contains(&chunk.bases.len()) {
        return Err(EncodeError::Chunk(
            "as many bases as its codec does not allow",
        ));
    }
    Ok(())
}

/// Encodes the table of a node whose stored bytes will end at `end` (as in
/// [`PlannedLocation::Local`]).
///
/// # Errors
/// When the format cannot express the table. Decoding the node finds everything else that
/// a reader would reject.
pub(super) fn write(
    out: &mut Vec<u8>,
    chunks: &[PlannedChunk],
    end: i64,
) -> Result<(), EncodeError> {
    let numbered = Numbered::of(chunks);
    let mut blobs: HashMap<BlobId, u64> = HashMap::new();
    let mut listed: Vec<BlobId> = Vec::new();
    for chunk in chunks.iter().chain(numbered.bases.iter().copied()) {
        if let PlannedLocation::External(Location { blob, .. }) = chunk.location {
            blobs.entry(blob).or_insert_with(|| {
                listed.push(blob);
                listed.len() as u64
            });
        }
    }
    out.uint(listed.len() as u64);
    for blob in &listed {
        out.extend_from_slice(blob.as_bytes());
    }
    let mut writer = Writer {
        out,
        end,
        blobs: &blobs,
        numbers: &numbered.numbers,
        follows: 0,
    };
    writer.list(chunks.iter())?;
    if !numbered.bases.is_empty() {
        writer.list(numbered.bases.iter().copied())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn origin() -> Origin {
        Origin {
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
        fn whatever_the_chunks_a_table_reads_as_written_or_is_refused(
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
        let said = read_all(&written(&[outer]));
        assert_eq!(said, Err(MalformedNode::Base("a base that is a patch")));
    }

    #[test]
    fn a_dictionary_stands_alone() {
        let inner = chunk(1, Codec::Dictionary, vec![chunk(2, Codec::Raw, vec![])]);
        let outer = chunk(3, Codec::Dictionary, vec![inner]);
        let said = read_all(&written(&[outer]));
        assert_eq!(
            said,
            Err(MalformedNode::Base("a dictionary that needs another"))
        );
    }

    #[test]
    fn bases_have_bounds() {
        let many: Vec<_> = (0..=MAX_BASES as u16)
            .map(|n| chunk(n, Codec::Raw, vec![]))
            .collect();
        let said = write(&mut Vec::new(), &[chunk(500, Codec::Patch, many)], END);
        assert!(matches!(said, Err(EncodeError::Chunk(_))));
        let mut large = chunk(1, Codec::Zstd, vec![]);
        large.raw_len = MAX_BASE_BYTES as u32 + 1;
        let said = read_all(&written(&[chunk(2, Codec::Patch, vec![large])]));
        assert_eq!(said, Err(MalformedNode::Base("bases over their bound")));
    }
}
