//! The chunk list of a large file.
//!
//! A file of more than a few dozen chunks keeps its references in separate nodes, so that
//! listing its directory does not fetch them. A list of level 0 holds chunks, one of
//! level 1 holds lists of level 0, and so on: a terabyte needs two levels.

use super::encode::EncodeError;
use super::guard::Guard;
use super::malformed::MalformedNode;
use super::table::{self, NodeOrigin};
use super::wire::{Reader, Write};
use crate::chunk::{ChunkRef, PlannedChunk};

const MAGIC: u8 = b'L';
const VERSION: u8 = 1;

/// Highest level of a list. Three levels of [`LIST_FANOUT`] exceed a file's 64-bit size.
pub const MAX_LEVEL: u8 = 4;

/// Entries that a publisher puts into one list: about 650 KB of node, 4 GiB of file.
pub const LIST_FANOUT: usize = 1 << 14;

/// A verified list: parts in file order, each with the length of file it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkList {
    level: u8,
    parts: Vec<ChunkRef>,
    /// End of each part, relative to the start of the list.
    ends: Vec<u64>,
    weight: u64,
    guard: Guard,
}

impl ChunkList {
    /// Returns the level: 0 if its parts are chunks of the file, otherwise they are
    /// lists.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Returns the parts in file order.
    pub fn parts(&self) -> &[ChunkRef] {
        &self.parts
    }

    /// Returns the bytes of file it covers.
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether it covers no bytes.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the index of the part that contains byte `at`, and the start of that part.
    pub fn holding(&self, at: u64) -> Option<(usize, u64)> {
        let part = self.ends.partition_point(|&end| end <= at);
        (part < self.parts.len()).then(|| (part, self.start(part)))
    }

    /// Returns the start of a part.
    pub fn start(&self, part: usize) -> u64 {
        part.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Returns its approximate size in memory, in bytes.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Attaches a value that is dropped with the last clone of the list.
    pub fn with_guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Returns the attached value.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Builds the list of a file's pieces.
    pub fn of_pieces(pieces: &[ChunkRef]) -> Self {
        let ends = pieces.iter().scan(0u64, |end, piece| {
            *end += u64::from(piece.raw_len);
            Some(*end)
        });
        ChunkList {
            level: 0,
            parts: pieces.to_vec(),
            ends: ends.collect(),
            weight: (pieces.len() * (size_of::<ChunkRef>() + size_of::<u64>())) as u64,
            guard: Guard::default(),
        }
    }

    /// Decodes the list at `reference`.
    pub fn decode(raw: &[u8], reference: &ChunkRef) -> Result<Self, MalformedNode> {
        let mut reader = Reader::new(raw);
        reader.header(MAGIC, VERSION, "chunk list")?;
        let level = reader.byte()?;
        if level > MAX_LEVEL {
            return Err(MalformedNode::Sum("levels of a chunk list"));
        }
        let parts = table::read(&mut reader, NodeOrigin::of(reference))?;
        reader.charge::<u64>(parts.len())?;
        let mut ends = Vec::with_capacity(parts.len());
        let mut total = 0u64;
        for part in &parts {
            let covers = match level {
                0 => u64::from(part.raw_len),
                _ => reader.uint()?,
            };
            total = match total.checked_add(covers) {
                Some(total) if covers > 0 && total <= i64::MAX as u64 => total,
                _ => return Err(MalformedNode::Sum("sizes of a chunk list")),
            };
            ends.push(total);
        }
        let weight = reader.used();
        reader.finish()?;
        Ok(ChunkList {
            level,
            parts,
            ends,
            weight,
            guard: Guard::default(),
        })
    }
}

/// Encodes a list whose stored bytes will end at `end`. The second field of each part is
/// the bytes of file that it covers.
///
/// # Errors
/// When the format cannot express the list or a reader would reject it.
pub fn encode(level: u8, parts: &[(PlannedChunk, u64)], end: i64) -> Result<Vec<u8>, EncodeError> {
    let chunks: Vec<PlannedChunk> = parts.iter().map(|(chunk, _)| chunk.clone()).collect();
    let mut out = vec![MAGIC, VERSION, level];
    table::write(&mut out, &chunks, end)?;
    if level > 0 {
        for (_, covers) in parts {
            out.uint(*covers);
        }
    }
    let read = ChunkList::decode(&out, &ChunkRef::nominal_node(&out))?;
    let starts = (0..parts.len()).map(|part| read.start(part));
    let covered = starts.zip(&read.ends).map(|(start, end)| end - start);
    if read.level != level || !covered.eq(parts.iter().map(|(_, covers)| *covers)) {
        return Err(EncodeError::Differs("sizes"));
    }
    Ok(out)
}
