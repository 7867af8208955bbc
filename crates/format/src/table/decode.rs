//! Decoding of chunk tables.

use crate::chunk::{
    Bases, BlobId, ByteRange, Chunk, ChunkError, ChunkHash, ChunkRef, Codec, Location,
    MAX_BASE_BYTES, MAX_BASES, MAX_CHUNK,
};
use crate::malformed::MalformedNode;
use crate::wire::Reader;

/// Minimum encoded size of a table entry, in bytes: codec, blob, offset, length, hash.
const MIN_ENTRY_LEN: usize = 4 + 32;
/// Most references to bases in one table, excluding the first of each chunk: one byte of
/// input must not take a hundred in memory without limit.
const MAX_FURTHER_BASES: usize = 1 << 18;

/// Location of a node, which its relative locations refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeOrigin {
    pub(super) blob: BlobId,
    pub(super) end: u64,
}

impl NodeOrigin {
    /// Returns the origin of the node at `reference`.
    pub(crate) fn of(reference: &ChunkRef) -> Self {
        NodeOrigin {
            blob: reference.location.blob,
            end: reference.range().end(),
        }
    }
}

/// Decoded chunks, and the indices of their bases.
#[derive(Default)]
struct DecodedChunks {
    chunks: Vec<ChunkRef>,
    /// Index of each chunk with bases, and the end of its indices in `numbers`.
    based: Vec<(usize, usize)>,
    numbers: Vec<usize>,
}

impl DecodedChunks {
    /// Iterates over the chunks with bases, with the indices of the bases.
    fn based(&self) -> impl DoubleEndedIterator<Item = (usize, &[usize])> {
        (self.based.iter().enumerate()).map(|(at, (chunk, end))| {
            let start = at.checked_sub(1).map_or(0, |before| self.based[before].1);
            (*chunk, &self.numbers[start..*end])
        })
    }
}

/// Reads consecutive lists of chunks.
struct ChunkListReader<'r, 'b> {
    reader: &'r mut Reader<'b>,
    origin: NodeOrigin,
    blobs: Vec<BlobId>,
    follows: ByteRange,
    /// Remaining bases, excluding the first of each chunk.
    further: usize,
}

impl ChunkListReader<'_, '_> {
    fn list(&mut self) -> Result<DecodedChunks, MalformedNode> {
        let count = self.reader.count::<ChunkRef>(MIN_ENTRY_LEN)?;
        let mut listed = DecodedChunks {
            chunks: Vec::with_capacity(count),
            ..DecodedChunks::default()
        };
        for _ in 0..count {
            let chunk = self.entry(&mut listed)?;
            listed.chunks.push(chunk);
        }
        Ok(listed)
    }

    fn entry(&mut self, listed: &mut DecodedChunks) -> Result<ChunkRef, MalformedNode> {
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
            return Err(ChunkError::TooLarge(raw_len.max(stored_len)).into());
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
    fn bases(&mut self, codec: Codec, listed: &mut DecodedChunks) -> Result<(), MalformedNode> {
        let count = match codec {
            Codec::Raw | Codec::Zstd => 0,
            Codec::Dictionary => 1,
            Codec::Patch => self.reader.count::<usize>(1)?,
        };
        if codec.has_bases() && !(1..=MAX_BASES).contains(&count) {
            return Err(MalformedNode::Base("an invalid number of bases"));
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
pub(crate) struct UsedChunks(u64);

impl UsedChunks {
    /// Returns a run of chunks, which starts at or after the end of the previous one.
    /// `what` names the elements.
    pub(crate) fn take<'c>(
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
pub(crate) fn read(
    reader: &mut Reader<'_>,
    origin: NodeOrigin,
) -> Result<Vec<ChunkRef>, MalformedNode> {
    let blobs = reader.list(32, |reader| reader.array().map(BlobId::from_bytes))?;
    let mut entries = ChunkListReader {
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
    reader.charge::<(DecodedBase, ChunkRef)>(bases.chunks.len())?;
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
struct DecodedBase {
    chunk: ChunkRef,
    alone: Bases,
}

/// Resolves the bases of bases. They come later in the list, which rules out cycles.
fn resolve_bases(mut listed: DecodedChunks) -> Result<Vec<DecodedBase>, MalformedNode> {
    let chunks = std::mem::take(&mut listed.chunks);
    let count = chunks.len();
    // Starts with the last one.
    let mut done: Vec<DecodedBase> = Vec::with_capacity(count);
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
                    return Err(MalformedNode::Base(
                        "a dictionary that requires another chunk",
                    ));
                }
                base.alone.clone()
            }
        };
        let alone = Bases::one(chunk.clone());
        done.push(DecodedBase { chunk, alone });
    }
    done.reverse();
    Ok(done)
}

fn resolve(
    chunk: &ChunkRef,
    numbers: &[usize],
    bases: &[DecodedBase],
) -> Result<Bases, MalformedNode> {
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
        return Err(MalformedNode::Base("bases over the size limit"));
    }
    let needs_another = |base: &ChunkRef| base.codec.has_bases();
    if chunk.codec == Codec::Dictionary && found.iter().any(needs_another) {
        return Err(MalformedNode::Base(
            "a dictionary that requires another chunk",
        ));
    }
    Ok(found)
}
