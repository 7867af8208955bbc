//! The chunk table at the front of every node: which chunks it refers to and
//! where they lie.
//!
//! A node cannot name the blob it lies in, because a blob's ID is a hash of
//! its content. So a location is written either as (another blob, offset) or
//! as *distance from the end of the node's own stored bytes* within the same
//! blob. Everything a node refers to in its own blob lies after it, so a blob
//! is laid out from its end, once, with no offset ever revised; and the same
//! node bytes mean the same in whichever blob they lie, once the reader knows
//! by which reference it came to them.
//!
//! Chunks that are decoded with others ([`Codec::has_bases`]) name these by
//! their numbers in a second list, which is there only where it is needed. A
//! base is never a patch, and a dictionary stands alone: so what is read is at
//! most three steps from its plain bytes, and never a circle.

use std::collections::HashMap;

use super::malformed::MalformedNode;
use super::wire::{Reader, Write};
use crate::chunk::{
    Bases, BlobId, ByteRange, ChunkHash, ChunkRef, Codec, Location, MAX_BASE_BYTES, MAX_BASES,
    MAX_CHUNK,
};

/// A chunk as the one who writes a node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlacedChunk {
    /// BLAKE3-256 of its plain bytes.
    pub hash: ChunkHash,
    /// Length of its plain bytes.
    pub raw_len: u32,
    /// How many bytes are stored.
    pub stored_len: u32,
    /// How they are encoded.
    pub codec: Codec,
    /// Where they are.
    pub place: Place,
    /// What they are decoded with.
    pub bases: Bases<PlacedChunk>,
}

/// Where a chunk lies, seen from a blob that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the blob being written, at this distance from the end of its
    /// metadata: negative for nodes, zero or more for data.
    Here(i64),
    /// In a finished blob, at this offset.
    There(BlobId, u64),
}

impl From<&ChunkRef> for PlacedChunk {
    fn from(chunk: &ChunkRef) -> Self {
        let bases: Vec<PlacedChunk> = chunk.bases.iter().map(PlacedChunk::from).collect();
        PlacedChunk {
            hash: chunk.hash,
            raw_len: chunk.raw_len,
            stored_len: chunk.at.stored_len,
            codec: chunk.at.codec,
            place: Place::There(chunk.at.blob, chunk.at.offset),
            bases: bases.into(),
        }
    }
}

/// Least bytes a table entry takes: codec, blob, offset, length, hash.
const LEAST_ENTRY: usize = 4 + 32;
/// Most references to bases in one table beyond the first of each chunk: what
/// is written in a byte must not take a hundred in memory without end.
const MAX_FURTHER_BASES: usize = 1 << 18;

/// Where a node lies, which is what its relative locations start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    blob: BlobId,
    end: u64,
}

impl Origin {
    /// The origin of the node that `reference` leads to.
    pub(super) fn of(reference: &ChunkRef) -> Self {
        Origin {
            blob: reference.at.blob,
            end: reference.at.range().end(),
        }
    }
}

/// A chunk as it is read, its bases by number.
struct Entry {
    chunk: ChunkRef,
    bases: Vec<usize>,
}

/// Reads lists of chunks, one after the other.
struct Entries<'r, 'b> {
    reader: &'r mut Reader<'b>,
    origin: Origin,
    blobs: Vec<BlobId>,
    follows: ByteRange,
    /// How many more bases there may be, beyond the first of each chunk.
    further: usize,
}

impl Entries<'_, '_> {
    fn list(&mut self) -> Result<Vec<Entry>, MalformedNode> {
        let count = self.reader.count(LEAST_ENTRY)?;
        (0..count).map(|_| self.entry()).collect()
    }

    fn entry(&mut self) -> Result<Entry, MalformedNode> {
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
        let bases = self.bases(codec)?;
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
        let chunk = ChunkRef {
            hash,
            raw_len,
            at: Location {
                blob,
                offset,
                stored_len,
                codec,
            },
            bases: Bases::NONE,
        };
        Ok(Entry { chunk, bases })
    }

    /// The numbers of a chunk's bases.
    fn bases(&mut self, codec: Codec) -> Result<Vec<usize>, MalformedNode> {
        let count = match codec {
            Codec::Raw | Codec::Zstd => 0,
            Codec::Dictionary => 1,
            Codec::Patch => self.reader.count(1)?,
        };
        if codec.has_bases() && !(1..=MAX_BASES).contains(&count) {
            return Err(MalformedNode::Base("as many bases as no chunk may have"));
        }
        self.further = (self.further.checked_sub(count.saturating_sub(1)))
            .ok_or(MalformedNode::Base("too many bases in all"))?;
        let numbers = (0..count).map(|_| {
            let number = self.reader.uint()?;
            usize::try_from(number).map_err(|_| MalformedNode::Index(number))
        });
        numbers.collect()
    }
}

/// Reads the table of a node that lies at `origin`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    origin: Origin,
) -> Result<Vec<ChunkRef>, MalformedNode> {
    let blob_count = reader.count(32)?;
    let mut blobs = Vec::with_capacity(blob_count);
    for _ in 0..blob_count {
        blobs.push(BlobId::from_bytes(reader.array()?));
    }
    let mut entries = Entries {
        reader,
        origin,
        blobs,
        follows: ByteRange::new(0, 0),
        further: MAX_FURTHER_BASES,
    };
    let chunks = entries.list()?;
    let bases = match chunks.iter().any(|entry| !entry.bases.is_empty()) {
        true => resolve_bases(entries.list()?)?,
        false => Vec::new(),
    };
    (chunks.into_iter())
        .map(
            |Entry {
                 mut chunk,
                 bases: numbers,
             }| {
                chunk.bases = resolve(&chunk, &numbers, &bases)?;
                Ok(chunk)
            },
        )
        .collect()
}

/// A base, and the list that holds nothing but it, which chunks share.
struct Base {
    chunk: ChunkRef,
    alone: Bases,
}

/// Gives bases theirs: those come after them, so that there is no circle.
fn resolve_bases(entries: Vec<Entry>) -> Result<Vec<Base>, MalformedNode> {
    let count = entries.len();
    // The last one first.
    let mut done: Vec<Base> = Vec::with_capacity(count);
    for (at, Entry { mut chunk, bases }) in entries.into_iter().enumerate().rev() {
        chunk.bases = match (chunk.at.codec, &bases[..]) {
            (Codec::Raw | Codec::Zstd, _) => Bases::NONE,
            (Codec::Patch, _) => return Err(MalformedNode::Base("a base that is a patch")),
            (Codec::Dictionary, numbers) => {
                let number = numbers.first().copied().unwrap_or(count);
                let base = (number > at && number < count).then(|| &done[count - 1 - number]);
                let base = base.ok_or(MalformedNode::Index(number as u64))?;
                if base.chunk.at.codec.has_bases() {
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
    let needs_another = |base: &ChunkRef| base.at.codec.has_bases();
    if chunk.at.codec == Codec::Dictionary && found.iter().any(needs_another) {
        return Err(MalformedNode::Base("a dictionary that needs another"));
    }
    Ok(found)
}

/// The chunks of a table that are bases of others, each before its own.
struct Numbered<'c> {
    bases: Vec<&'c PlacedChunk>,
    numbers: HashMap<ChunkHash, usize>,
}

impl<'c> Numbered<'c> {
    fn of(chunks: &'c [PlacedChunk]) -> Self {
        let mut numbered = Numbered {
            bases: Vec::new(),
            numbers: HashMap::new(),
        };
        let direct = || chunks.iter().flat_map(|chunk| chunk.bases.iter());
        // What needs a dictionary comes before all dictionaries.
        let (based, alone): (Vec<_>, Vec<_>) = direct().partition(|base| base.codec.has_bases());
        let below = based.iter().flat_map(|base| base.bases.iter());
        let below: Vec<_> = below.collect();
        for base in based.into_iter().chain(alone).chain(below) {
            numbered.add(base);
        }
        numbered
    }

    fn add(&mut self, base: &'c PlacedChunk) {
        let next = self.bases.len();
        self.numbers.entry(base.hash).or_insert_with(|| {
            self.bases.push(base);
            next
        });
    }
}

/// Writes lists of chunks, one after the other.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    end: i64,
    blobs: &'o [BlobId],
    follows: u64,
}

impl Writer<'_> {
    fn list<'c>(
        &mut self,
        chunks: impl ExactSizeIterator<Item = &'c PlacedChunk>,
        numbers: &HashMap<ChunkHash, usize>,
    ) {
        self.out.uint(chunks.len() as u64);
        for chunk in chunks {
            self.entry(chunk, numbers);
        }
    }

    fn entry(&mut self, chunk: &PlacedChunk, numbers: &HashMap<ChunkHash, usize>) {
        let (blob, offset) = match chunk.place {
            // Laid out from the end, what is referred to lies after the node.
            Place::Here(at) => (0, at.saturating_sub(self.end).max(0) as u64),
            Place::There(blob, offset) => {
                let known = self.blobs.iter().rposition(|&b| b == blob);
                (known.map_or(0, |index| index as u64 + 1), offset)
            }
        };
        self.out.push(chunk.codec as u8);
        self.out.uint(blob);
        self.out.sint(offset.wrapping_sub(self.follows) as i64);
        self.out.uint(u64::from(chunk.stored_len));
        if chunk.codec != Codec::Raw {
            self.out.uint(u64::from(chunk.raw_len));
        }
        self.out.extend_from_slice(chunk.hash.as_bytes());
        if chunk.codec == Codec::Patch {
            self.out.uint(chunk.bases.len() as u64);
        }
        if chunk.codec.has_bases() {
            for base in chunk.bases.iter() {
                self.out
                    .uint(numbers.get(&base.hash).map_or(0, |&number| number as u64));
            }
        }
        self.follows = offset + u64::from(chunk.stored_len);
    }
}

/// Writes the table of a node whose stored bytes will end at `end` (as in
/// [`Place::Here`]).
pub(super) fn write(out: &mut Vec<u8>, chunks: &[PlacedChunk], end: i64) {
    let numbered = Numbered::of(chunks);
    let mut blobs: Vec<BlobId> = Vec::new();
    for chunk in chunks.iter().chain(numbered.bases.iter().copied()) {
        if let Place::There(blob, _) = chunk.place
            && !blobs.contains(&blob)
        {
            blobs.push(blob);
        }
    }
    out.uint(blobs.len() as u64);
    for blob in &blobs {
        out.extend_from_slice(blob.as_bytes());
    }
    let mut writer = Writer {
        out,
        end,
        blobs: &blobs,
        follows: 0,
    };
    writer.list(chunks.iter(), &numbered.numbers);
    if !numbered.bases.is_empty() {
        writer.list(numbered.bases.iter().copied(), &numbered.numbers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const END: i64 = -1000;

    fn chunk(seed: u16, codec: Codec, bases: Vec<PlacedChunk>) -> PlacedChunk {
        PlacedChunk {
            hash: ChunkHash::of(&seed.to_le_bytes()),
            raw_len: match codec {
                Codec::Raw => 100,
                _ => 300,
            },
            stored_len: 100,
            codec,
            place: match seed % 3 {
                0 => Place::Here(i64::from(seed) * 100),
                n => Place::There(BlobId::from_bytes([n as u8; 32]), u64::from(seed) * 7),
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

    fn written(chunks: &[PlacedChunk]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, chunks, END);
        out
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<ChunkRef>, MalformedNode> {
        let mut reader = Reader::new(bytes);
        let chunks = read(&mut reader, origin())?;
        reader.finish()?;
        Ok(chunks)
    }

    /// What a reader at [`origin`] should make of a chunk.
    fn seen(chunk: &PlacedChunk) -> ChunkRef {
        let (blob, offset) = match chunk.place {
            Place::Here(at) => (origin().blob, (at - END) as u64 + origin().end),
            Place::There(blob, offset) => (blob, offset),
        };
        ChunkRef {
            hash: chunk.hash,
            raw_len: chunk.raw_len,
            at: Location {
                blob,
                offset,
                stored_len: chunk.stored_len,
                codec: chunk.codec,
            },
            bases: chunk.bases.iter().map(seen).collect::<Vec<_>>().into(),
        }
    }

    /// Tables as a publisher makes them: dictionaries, bases, patches.
    fn tables() -> impl Strategy<Value = Vec<PlacedChunk>> {
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
                    prop_assert!(base.at.codec != Codec::Patch);
                    prop_assert!(base.bases.iter().all(|below| !below.at.codec.has_bases()));
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
        let said = read_all(&written(&[chunk(500, Codec::Patch, many)]));
        assert!(matches!(said, Err(MalformedNode::Base(_))));
        let mut large = chunk(1, Codec::Zstd, vec![]);
        large.raw_len = MAX_BASE_BYTES as u32 + 1;
        let said = read_all(&written(&[chunk(2, Codec::Patch, vec![large])]));
        assert_eq!(said, Err(MalformedNode::Base("bases over their bound")));
    }
}
