//! Decoding of directories.

use bytes::Bytes;

use super::types::{
    Content, Directory, Entry, Kind, MAGIC, MAX_ENTRIES, MAX_INLINE_BYTES, MAX_NODES,
    MAX_SYMLINK_BYTES, VERSION,
};
use crate::chunk::ChunkRef;
use crate::malformed::MalformedNode;
use crate::names::{MAX_NAME_BYTES, check_name, lossy};
use crate::table::{self, NodeOrigin, UsedChunks};
use crate::wire::Reader;

/// Minimum encoded size of an entry, in bytes: a name of one byte, a kind, a size.
const MIN_ENTRY_LEN: usize = 4;

impl Directory {
    /// Decodes the node at `reference`.
    ///
    /// # Errors
    /// When the bytes are not the unique encoding of a valid directory, or decoding needs
    /// more memory than [`budget`](crate::chunk::budget) allows.
    pub fn decode(raw: &Bytes, reference: &ChunkRef) -> Result<Self, MalformedNode> {
        let mut reader = Reader::new(raw);
        reader.header(MAGIC, VERSION, "directory")?;
        let chunks = table::read(&mut reader, NodeOrigin::of(reference))?;
        let count = reader.bounded(MIN_ENTRY_LEN)?;
        check_count(count)?;
        reader.charge::<Entry>(count)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        let mut nodes = 1u64;
        let mut used = Used::default();
        for _ in 0..count {
            reader.charge::<()>(1)?;
            let entry = read_entry(&mut reader, raw, &chunks, &mut used, nodes)?;
            if entries.last().is_some_and(|last| last.name >= entry.name) {
                return Err(MalformedNode::Order(lossy(&entry.name)));
            }
            nodes += entry.nodes();
            if nodes > MAX_NODES {
                return Err(MalformedNode::Sum("counts of nodes"));
            }
            entries.push(entry);
        }
        let weight = reader.used();
        reader.finish()?;
        Ok(Directory::new(entries, chunks, nodes, weight))
    }
}

/// Chunks that entries have used.
#[derive(Default)]
struct Used {
    directories: UsedChunks,
    content: UsedChunks,
}

fn read_entry(
    reader: &mut Reader<'_>,
    raw: &Bytes,
    chunks: &[ChunkRef],
    used: &mut Used,
    offset: u64,
) -> Result<Entry, MalformedNode> {
    let name = reader.slice(raw, MAX_NAME_BYTES)?;
    check_name(&name)?;
    let kind = Kind::from_number(reader.byte()?);
    let kind = kind.ok_or(MalformedNode::Sum("kinds of entries"))?;
    let (size, content) = match kind {
        Kind::Directory => {
            let size = reader.uint()?;
            let index = reader.uint()?;
            used.directories.take(chunks, index, 1, "entries")?;
            let nodes = read_node_count(reader)?;
            let index = index as u32;
            (size, Content::Directory { index, nodes })
        }
        Kind::Symlink => {
            let target = reader.slice(raw, MAX_SYMLINK_BYTES)?;
            if target.is_empty() || target.contains(&0) {
                return Err(MalformedNode::Name(lossy(&target)));
            }
            (target.len() as u64, Content::Inline(target))
        }
        Kind::Submodule => (0, Content::Inline(reader.slice(raw, 32)?)),
        Kind::File { .. } => {
            let size = reader.uint()?;
            (size, read_file(reader, raw, chunks, used, size)?)
        }
    };
    Ok(Entry {
        name,
        kind,
        size,
        offset,
        content,
    })
}

fn read_file(
    reader: &mut Reader<'_>,
    raw: &Bytes,
    chunks: &[ChunkRef],
    used: &mut Used,
    size: u64,
) -> Result<Content, MalformedNode> {
    // 0: inline, 1: a list node, n: n-2 chunks of the table.
    match reader.uint()? {
        0 => {
            let content = reader.slice(raw, MAX_INLINE_BYTES)?;
            if content.len() as u64 != size {
                return Err(MalformedNode::Sum("sizes of a file"));
            }
            Ok(Content::Inline(content))
        }
        1 => {
            let index = reader.uint()?;
            used.content.take(chunks, index, 1, "entries")?;
            Ok(Content::List {
                index: index as u32,
            })
        }
        tag => {
            let count = tag - 2;
            let first = if count == 0 { 0 } else { reader.uint()? };
            let run = used.content.take(chunks, first, count, "entries")?;
            let total: u64 = run.iter().map(|chunk| u64::from(chunk.raw_len)).sum();
            if total != size {
                return Err(MalformedNode::Sum("sizes of a file"));
            }
            Ok(Content::Chunks {
                first: first as u32,
                count: count as u32,
            })
        }
    }
}

/// Reads the number of nodes in a subtree.
pub(crate) fn read_node_count(reader: &mut Reader<'_>) -> Result<u64, MalformedNode> {
    match reader.uint()? {
        nodes @ 1..=MAX_NODES => Ok(nodes),
        _ => Err(MalformedNode::Sum("counts of nodes")),
    }
}

/// Rejects more entries than a directory may have.
pub fn check_count(count: usize) -> Result<(), MalformedNode> {
    if count > MAX_ENTRIES {
        let limit = MAX_ENTRIES;
        return Err(MalformedNode::TooMany { count, limit });
    }
    Ok(())
}
