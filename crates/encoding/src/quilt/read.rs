//! Decoding of a quilt.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::layout::{
    HAS_TAGS, INDEX_COLUMNS, INDEX_HEADER_LEN, IndexEntry, MAX_INDEX_LEN, MAX_MEMBERS, MAX_TAGS,
    MEMBER_HEADER_LEN, Patch, QuiltError, VERSION, is_identifier, symbol_offset,
};
use crate::blob_id::{COLUMNS, MAX_SYMBOL_LEN, ROWS};

/// Random access to bytes.
pub trait ReadAt {
    /// Fills `out` with the bytes at `offset`.
    fn fill(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn fill(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }
}

impl ReadAt for &[u8] {
    fn fill(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let there = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..out.len()));
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A quilt opened for reading.
#[derive(Debug)]
pub struct Quilt<R> {
    blob: R,
    symbol: usize,
}

impl<R: ReadAt> Quilt<R> {
    /// Opens the quilt in a blob of `len` bytes.
    ///
    /// # Errors
    /// [`QuiltError::Damaged`] if a quilt cannot have that length.
    pub fn open(blob: R, len: u64) -> Result<Self, QuiltError> {
        let cells = (ROWS * COLUMNS) as u64;
        match len / cells {
            symbol @ 1..=MAX_SYMBOL_LEN if len.is_multiple_of(cells) => Ok(Quilt {
                blob,
                symbol: symbol as usize,
            }),
            _ => Err(QuiltError::Damaged("no quilt has this length")),
        }
    }

    /// Returns the locations of the members, in the order of their columns.
    ///
    /// # Errors
    /// [`QuiltError::Damaged`], and when reading fails.
    pub fn index(&self) -> Result<Vec<Patch>, QuiltError> {
        let [version, len @ ..] = self.array::<INDEX_HEADER_LEN>(0, 0)?;
        if version != VERSION {
            return Err(QuiltError::Damaged("the version is not 1"));
        }
        let len = u32::from_le_bytes(len) as usize;
        let column = self.symbol * ROWS;
        if INDEX_HEADER_LEN + len > column * INDEX_COLUMNS as usize || len > MAX_INDEX_LEN {
            return Err(QuiltError::Damaged("the index is too long"));
        }
        let index = self.take(0, INDEX_HEADER_LEN, len)?;
        // Entries take far more memory decoded than encoded.
        if count(&index).is_none_or(|count| count > MAX_MEMBERS) {
            return Err(QuiltError::Damaged("the index has too many entries"));
        }
        let entries: Vec<IndexEntry> = bcs::from_bytes(&index)
            .map_err(|_| QuiltError::Damaged("the index cannot be decoded"))?;
        let mut names = HashSet::new();
        let mut start = (INDEX_HEADER_LEN + len).div_ceil(column) as u16;
        let mut patches = Vec::with_capacity(entries.len());
        for IndexEntry {
            end,
            identifier,
            tags,
        } in entries
        {
            if end <= start || usize::from(end) > COLUMNS {
                return Err(QuiltError::Damaged("the index is not in order"));
            }
            if !is_identifier(&identifier) || tags.len() > MAX_TAGS {
                return Err(QuiltError::Damaged("an entry of its index is not allowed"));
            }
            if !names.insert(identifier.clone()) {
                return Err(QuiltError::Duplicate(identifier));
            }
            patches.push(Patch {
                identifier,
                tags,
                start,
                end,
            });
            start = end;
        }
        Ok(patches)
    }

    /// Returns the content of a member.
    ///
    /// # Errors
    /// [`QuiltError::Damaged`] if its columns contain a different member, and when
    /// reading fails.
    pub fn content(&self, patch: &Patch) -> Result<Vec<u8>, QuiltError> {
        let first = patch.start;
        let [version, len @ .., mask] = self.array::<MEMBER_HEADER_LEN>(first, 0)?;
        if version != VERSION {
            return Err(QuiltError::Damaged("a file's version is not 1"));
        }
        let end = MEMBER_HEADER_LEN + u32::from_le_bytes(len) as usize;
        let mut at = MEMBER_HEADER_LEN;
        for _ in 0..1 + usize::from(mask & HAS_TAGS) {
            at += 2 + usize::from(u16::from_le_bytes(self.array(first, at)?));
        }
        let columns = usize::from(patch.end.saturating_sub(first));
        if at > end || end > columns * self.symbol * ROWS {
            return Err(QuiltError::Damaged("a file is longer than its columns"));
        }
        self.take(first, at, end - at)
    }

    fn array<const N: usize>(&self, column: u16, skip: usize) -> Result<[u8; N], QuiltError> {
        let bytes = self.take(column, skip, N)?;
        bytes
            .try_into()
            .map_err(|_| QuiltError::Damaged("the quilt is truncated"))
    }

    /// Reads `len` bytes down the columns from `column`, after the first `skip`.
    fn take(&self, column: u16, skip: usize, len: usize) -> Result<Vec<u8>, QuiltError> {
        let column = usize::from(column);
        let there = COLUMNS.saturating_sub(column) * ROWS * self.symbol;
        if skip.checked_add(len).is_none_or(|end| end > there) {
            return Err(QuiltError::Damaged("a length in it is past its end"));
        }
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            let (cell, within) = ((skip + done) / self.symbol, (skip + done) % self.symbol);
            let now = (self.symbol - within).min(len - done);
            let offset = symbol_offset(column, cell, self.symbol) + within;
            self.blob
                .fill(&mut bytes[done..done + now], offset as u64)?;
            done += now;
        }
        Ok(bytes)
    }
}

/// Returns the length of an encoded BCS list: seven bits per byte.
fn count(list: &[u8]) -> Option<usize> {
    let mut count = 0;
    for (at, &byte) in list.iter().take(4).enumerate() {
        count |= usize::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some(count);
        }
    }
    None
}
