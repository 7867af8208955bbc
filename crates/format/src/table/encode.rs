//! Encoding of chunk tables.

use std::collections::HashMap;

use crate::chunk::{BlobId, Codec, Location, MAX_BASES, PlannedChunk, PlannedLocation};
use crate::encode::EncodeError;
use crate::wire::Write;

/// The bases in a table, each before its own bases.
struct NumberedBases<'c> {
    bases: Vec<&'c PlannedChunk>,
    numbers: HashMap<&'c PlannedChunk, u64>,
}

impl<'c> NumberedBases<'c> {
    fn of(chunks: &'c [PlannedChunk]) -> Self {
        let mut numbered = NumberedBases {
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
struct TableWriter<'o> {
    out: &'o mut Vec<u8>,
    end: i64,
    /// Blobs by ID, numbered from 1.
    blobs: &'o HashMap<BlobId, u64>,
    numbers: &'o HashMap<&'o PlannedChunk, u64>,
    follows: u64,
}

impl TableWriter<'_> {
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
        return Err(EncodeError::Chunk(
            "different plain and stored lengths though it is uncompressed",
        ));
    }
    let bases = match chunk.codec {
        Codec::Raw | Codec::Zstd => 0..=0,
        Codec::Dictionary => 1..=1,
        Codec::Patch => 1..=MAX_BASES,
    };
    if !bases.contains(&chunk.bases.len()) {
        return Err(EncodeError::Chunk(
            "a number of bases that its codec does not allow",
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
pub(crate) fn write(
    out: &mut Vec<u8>,
    chunks: &[PlannedChunk],
    end: i64,
) -> Result<(), EncodeError> {
    let numbered = NumberedBases::of(chunks);
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
    let mut writer = TableWriter {
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
