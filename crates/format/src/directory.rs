//! A directory node: names, kinds, sizes, and content references.
//!
//! Entries are sorted by name, and each records the number of nodes in its subtree. This
//! numbers every file of a snapshot without a table: a file's number is its position in a
//! preorder walk (a directory, then its entries in order). [`Entry::offset`] is that
//! position relative to the directory.

use bytes::Bytes;

use super::encode::EncodeError;
use super::guard::Guard;
use super::malformed::MalformedNode;
use super::table::{self, Origin};
use super::wire::{Reader, Write};
use crate::chunk::{ChunkHash, ChunkRef, PlannedChunk, WholeBlob};

/// Longest name of an entry, in bytes; the kernel's own limit.
pub const MAX_NAME: usize = 255;
/// Longest target of a symlink, in bytes; one less than the kernel's `PATH_MAX`.
pub const MAX_TARGET: usize = 4095;
/// Most bytes of inline content per file in a directory node.
///
/// A limit for decoders. Publishers inline far less.
pub const MAX_INLINE: usize = 4096;
/// Most entries of one directory.
///
/// A limit for decoders: an entry of four bytes takes a hundred in memory, so this limit,
/// not the size of the node, bounds the cost of a hostile directory (100 MB).
pub const MAX_ENTRIES: usize = 1 << 20;
/// Most nodes of a snapshot. Keeps sums of hostile counts far from overflow, and leaves
/// 24 bits of an inode number for other uses.
pub const MAX_NODES: u64 = 1 << 40;

const MAGIC: u8 = b'D';
const VERSION: u8 = 1;
/// Minimum encoded size of an entry, in bytes: a name of one byte, a kind, a size.
const LEAST_ENTRY: usize = 4;
/// Overhead of an allocation, in bytes.
const ALLOCATION: usize = 16;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File {
        /// Whether the file is executable.
        executable: bool,
    },
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A commit of another repository; shown as an empty directory.
    Submodule,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Kind::File { executable: false } => 0,
            Kind::File { executable: true } => 1,
            Kind::Symlink => 2,
            Kind::Directory => 3,
            Kind::Submodule => 4,
        }
    }
}

/// Location of an entry's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Inline in the directory: a small file, a symlink's target, a submodule's commit
    /// ID.
    Inline(Bytes),
    /// The concatenation of `count` chunks of the directory's table.
    Chunks {
        /// Index of the first chunk.
        first: u32,
        /// Number of chunks; zero for an empty file.
        count: u32,
    },
    /// A [`super::ChunkList`], stored as chunk `index` of the directory's table.
    List {
        /// Index of the list.
        index: u32,
    },
    /// A whole blob, number `index` of [`Directory::wholes`]. Only in directories that
    /// are implied by paths.
    Whole {
        /// Index of the blob.
        index: u32,
    },
    /// Part of chunk `index` of the table, starting at byte `start`. Only in directories
    /// of archived commits.
    Part {
        /// Index of the chunk.
        index: u32,
        /// Offset of the content in the chunk.
        start: u32,
    },
    /// A directory node, chunk `index` of the table.
    Directory {
        /// Index of the node.
        index: u32,
        /// Number of nodes in its subtree, itself included.
        nodes: u64,
    },
}

/// One entry of a [`Directory`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name: 1 to 255 bytes, no `/`, no NUL, not `.`, `..` or `.git`.
    pub name: Bytes,
    /// Kind of the entry.
    pub kind: Kind,
    /// Bytes of content; for a directory, the sum over its files.
    pub size: u64,
    /// Number of the entry minus that of its directory.
    pub offset: u64,
    /// Location of the content.
    pub content: Content,
}

impl Entry {
    /// Returns the number of nodes in its subtree, itself included.
    pub fn nodes(&self) -> u64 {
        match self.content {
            Content::Directory { nodes, .. } => nodes,
            _ => 1,
        }
    }
}

/// A verified, well-formed directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    entries: Vec<Entry>,
    chunks: Vec<ChunkRef>,
    wholes: Vec<WholeBlob>,
    nodes: u64,
    weight: u64,
    guard: Guard,
}

/// An entry of a directory that is implied by paths.
#[derive(Clone, Debug)]
pub struct ImpliedEntry {
    /// Its name.
    pub name: Bytes,
    /// Its kind.
    pub kind: Kind,
    /// Size in bytes; for a directory, of everything below it.
    pub size: u64,
    /// Its content.
    pub content: ImpliedContent,
}

/// Content of an [`ImpliedEntry`].
#[derive(Clone, Debug)]
pub enum ImpliedContent {
    /// Inline bytes.
    Inline(Bytes),
    /// A whole blob.
    Whole(WholeBlob),
    /// Chunks, in order.
    Chunks(Vec<ChunkRef>),
    /// Part of a chunk.
    Part {
        /// The chunk.
        chunk: ChunkRef,
        /// Offset of the first byte in the chunk's plain bytes.
        start: u32,
    },
    /// A directory.
    Directory {
        /// Its node.
        node: ChunkRef,
        /// Number of nodes in its tree, itself included.
        nodes: u64,
    },
}

impl Directory {
    /// Returns the entries, sorted by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the chunks that the entries refer to: subdirectories first, then content
    /// in the order of the entries, so that neighbours in the table are neighbours in a
    /// blob.
    pub fn chunks(&self) -> &[ChunkRef] {
        &self.chunks
    }

    /// Returns the blobs that each hold one file of the directory.
    pub fn wholes(&self) -> &[WholeBlob] {
        &self.wholes
    }

    /// Returns the number of nodes in its subtree, itself included.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// Builds a directory from entries that are sorted and have valid names, and returns
    /// it with a hash that identifies its content.
    pub fn implied(entries: Vec<ImpliedEntry>) -> (Self, ChunkHash) {
        let mut hasher = blake3::Hasher::new_derive_key("walgit-fs 2026 implied directory");
        let mut directory = Directory {
            entries: Vec::with_capacity(entries.len()),
            chunks: Vec::new(),
            wholes: Vec::new(),
            nodes: 1,
            weight: 0,
            guard: Guard::default(),
        };
        for entry in entries {
            hasher.update(&(entry.name.len() as u64).to_le_bytes());
            hasher.update(&entry.name);
            hasher.update(&[entry.kind.number()]);
            hasher.update(&entry.size.to_le_bytes());
            let content = match entry.content {
                ImpliedContent::Inline(bytes) => {
                    hasher.update(ChunkHash::of(&bytes).as_bytes());
                    Content::Inline(bytes)
                }
                ImpliedContent::Whole(whole) => {
                    hasher.update(whole.name().as_bytes());
                    directory.wholes.push(whole);
                    Content::Whole {
                        index: directory.wholes.len() as u32 - 1,
                    }
                }
                ImpliedContent::Chunks(chunks) => {
                    let first = directory.chunks.len() as u32;
                    let count = chunks.len() as u32;
                    for chunk in &chunks {
                        hasher.update(chunk.hash.as_bytes());
                    }
                    directory.chunks.extend(chunks);
                    Content::Chunks { first, count }
                }
                ImpliedContent::Part { chunk, start } => {
                    hasher.update(chunk.hash.as_bytes());
                    hasher.update(&start.to_le_bytes());
                    directory.chunks.push(chunk);
                    Content::Part {
                        index: directory.chunks.len() as u32 - 1,
                        start,
                    }
                }
                ImpliedContent::Directory { node, nodes } => {
                    hasher.update(node.hash.as_bytes());
                    directory.chunks.push(node);
                    Content::Directory {
                        index: directory.chunks.len() as u32 - 1,
                        nodes,
                    }
                }
            };
            let entry = Entry {
                name: entry.name,
                kind: entry.kind,
                size: entry.size,
                offset: directory.nodes,
                content,
            };
            directory.nodes += entry.nodes();
            directory.entries.push(entry);
        }
        directory.weight = directory.measured();
        let hash = ChunkHash::from_bytes(*hasher.finalize().as_bytes());
        (directory, hash)
    }

    /// Returns the index of the entry called `name`, by binary search.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        self.entries
            .binary_search_by(|entry| entry.name[..].cmp(name))
            .ok()
    }

    /// Returns the index of the entry whose subtree contains the node at `offset` from
    /// this directory.
    pub fn holding(&self, offset: u64) -> Option<usize> {
        if offset == 0 || offset >= self.nodes {
            return None;
        }
        self.entries
            .partition_point(|entry| entry.offset <= offset)
            .checked_sub(1)
    }

    /// Returns its size in memory in bytes, including the node that its names and inline
    /// contents are slices of.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Attaches a value that is dropped with the last clone of the directory.
    pub fn with_guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Returns the attached value.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Size in memory when names and inline contents are separate allocations.
    fn measured(&self) -> u64 {
        let text = self.entries.iter().map(|entry| {
            let inline = match &entry.content {
                Content::Inline(bytes) => bytes.len(),
                _ => 0,
            };
            entry.name.len() + inline + ALLOCATION
        });
        (text.sum::<usize>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.chunks.capacity() * size_of::<ChunkRef>()
            + self.wholes.capacity() * size_of::<WholeBlob>()
            + size_of::<Self>()) as u64
    }

    /// Decodes the node at `reference`.
    ///
    /// # Errors
    /// When the bytes are not the unique encoding of a valid directory, or decoding needs
    /// more memory than [`budget`](crate::chunk::budget) allows.
    pub fn decode(raw: &Bytes, reference: &ChunkRef) -> Result<Self, MalformedNode> {
        let mut reader = Reader::new(raw);
        kind_and_version(&mut reader, MAGIC, VERSION, "directory")?;
        let chunks = table::read(&mut reader, Origin::of(reference))?;
        let count = reader.bounded(LEAST_ENTRY)?;
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
        let weight = size_of::<Self>() as u64 + reader.used();
        reader.finish()?;
        Ok(Directory {
            entries,
            chunks,
            wholes: Vec::new(),
            nodes,
            weight,
            guard: Guard::default(),
        })
    }
}

/// Position in the chunk table up to which entries have used it. Entries use the table in
/// order and each chunk once, so their references never exceed the table.
#[derive(Default)]
struct Used {
    directories: u64,
    content: u64,
}

impl Used {
    /// Uses the node of a subdirectory.
    fn directory(&mut self, index: u64, chunks: &[ChunkRef]) -> Result<u32, MalformedNode> {
        take(&mut self.directories, index, 1, chunks)?;
        Ok(index as u32)
    }

    /// Uses `count` chunks of content, starting at `first`.
    fn content<'c>(
        &mut self,
        first: u64,
        count: u64,
        chunks: &'c [ChunkRef],
    ) -> Result<&'c [ChunkRef], MalformedNode> {
        take(&mut self.content, first, count, chunks)
    }
}

/// Uses a run of chunks that starts at or after the end of the previous run.
fn take<'c>(
    used: &mut u64,
    first: u64,
    count: u64,
    chunks: &'c [ChunkRef],
) -> Result<&'c [ChunkRef], MalformedNode> {
    let end = first
        .checked_add(count)
        .filter(|&end| end <= chunks.len() as u64);
    let end = end.ok_or(MalformedNode::Index(first))?;
    if first < *used {
        return Err(MalformedNode::Runs("entries"));
    }
    *used = end;
    Ok(&chunks[first as usize..end as usize])
}

fn read_entry(
    reader: &mut Reader<'_>,
    raw: &Bytes,
    chunks: &[ChunkRef],
    used: &mut Used,
    offset: u64,
) -> Result<Entry, MalformedNode> {
    let name = slice(reader, raw, MAX_NAME)?;
    check_name(&name)?;
    let kind = match reader.byte()? {
        0 => Kind::File { executable: false },
        1 => Kind::File { executable: true },
        2 => Kind::Symlink,
        3 => Kind::Directory,
        4 => Kind::Submodule,
        _ => return Err(MalformedNode::Sum("kinds of entries")),
    };
    let (size, content) = match kind {
        Kind::Directory => {
            let size = reader.uint()?;
            let index = used.directory(reader.uint()?, chunks)?;
            let nodes = reader.uint()?;
            if nodes == 0 || nodes > MAX_NODES {
                return Err(MalformedNode::Sum("counts of nodes"));
            }
            (size, Content::Directory { index, nodes })
        }
        Kind::Symlink => {
            let target = slice(reader, raw, MAX_TARGET)?;
            if target.is_empty() || target.contains(&0) {
                return Err(MalformedNode::Name(lossy(&target)));
            }
            (target.len() as u64, Content::Inline(target))
        }
        Kind::Submodule => (0, Content::Inline(slice(reader, raw, 32)?)),
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
            let content = slice(reader, raw, MAX_INLINE)?;
            if content.len() as u64 != size {
                return Err(MalformedNode::Sum("sizes of a file"));
            }
            Ok(Content::Inline(content))
        }
        1 => {
            let index = reader.uint()?;
            used.content(index, 1, chunks)?;
            Ok(Content::List {
                index: index as u32,
            })
        }
        tag => {
            let count = tag - 2;
            let first = if count == 0 { 0 } else { reader.uint()? };
            let run = match count {
                0 => &[],
                _ => used.content(first, count, chunks)?,
            };
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

pub(crate) fn kind_and_version(
    reader: &mut Reader<'_>,
    magic: u8,
    version: u8,
    expected: &'static str,
) -> Result<(), MalformedNode> {
    let found = reader.byte()?;
    if found != magic {
        return Err(MalformedNode::Kind { expected, found });
    }
    match reader.byte()? {
        found if found == version => Ok(()),
        found => Err(MalformedNode::Version(found)),
    }
}

fn slice(reader: &mut Reader<'_>, raw: &Bytes, most: usize) -> Result<Bytes, MalformedNode> {
    let taken = reader.bytes(most)?;
    Ok(raw.slice_ref(taken))
}

/// Rejects more entries than a directory may have.
pub fn check_count(count: usize) -> Result<(), MalformedNode> {
    match count <= MAX_ENTRIES {
        true => Ok(()),
        false => Err(MalformedNode::TooMany {
            count,
            most: MAX_ENTRIES,
        }),
    }
}

/// Rejects names that could escape the mount or make tools run hostile content: git
/// executes commands that a `.git/config` in a folder specifies.
pub fn check_name(name: &[u8]) -> Result<(), MalformedNode> {
    let bad = name.is_empty()
        || name.len() > MAX_NAME
        || name == b"."
        || name == b".."
        || name.eq_ignore_ascii_case(b".git")
        || name.iter().any(|&byte| byte == b'/' || byte == 0);
    if bad {
        return Err(MalformedNode::Name(lossy(name)));
    }
    Ok(())
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(MAX_NAME)])
        .escape_debug()
        .collect()
}

/// An entry of a directory to be encoded.
#[derive(Clone, Debug)]
pub struct PlannedEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// Kind of the entry.
    pub kind: Kind,
    /// Bytes of content.
    pub size: u64,
    /// Location of the content.
    pub content: PlannedContent,
}

/// Content of a [`PlannedEntry`].
#[derive(Clone, Debug)]
pub enum PlannedContent {
    /// Inline in the directory.
    Inline(Vec<u8>),
    /// The concatenation of these chunks.
    Chunks(Vec<PlannedChunk>),
    /// A chunk list.
    List(PlannedChunk),
    /// A directory node.
    Directory {
        /// The node.
        node: PlannedChunk,
        /// Number of nodes in its subtree, itself included.
        nodes: u64,
    },
}

/// Encodes a directory node from entries sorted by name. Its stored bytes will end at
/// `end` (as in [`super::PlannedLocation::Local`]).
///
/// # Errors
/// When the format cannot express the entries, or a reader would reject them.
pub fn encode(entries: &[PlannedEntry], end: i64) -> Result<Vec<u8>, EncodeError> {
    let raw = Bytes::from(encode_unchecked(entries, end)?);
    let read = Directory::decode(&raw, &ChunkRef::nominal_node(&raw))?;
    let written = |entry: &PlannedEntry| (entry.name.clone(), entry.kind, entry.size);
    let found = |entry: &Entry| (entry.name.to_vec(), entry.kind, entry.size);
    if !(entries.iter().map(written)).eq(read.entries.iter().map(found)) {
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
    let mut chunks: Vec<PlannedChunk> = Vec::new();
    for entry in entries {
        if let PlannedContent::Directory { node, .. } = &entry.content {
            chunks.push(node.clone());
        }
    }
    let mut next_directory = 0u64;
    let mut next_content = chunks.len() as u64;
    for entry in entries {
        match &entry.content {
            PlannedContent::Chunks(run) => chunks.extend_from_slice(run),
            PlannedContent::List(list) => chunks.push(list.clone()),
            PlannedContent::Inline(_) | PlannedContent::Directory { .. } => {}
        }
    }
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
                next_content += 1;
            }
            (Kind::File { .. }, PlannedContent::Chunks(run)) => {
                out.uint(entry.size);
                out.uint(run.len() as u64 + 2);
                if !run.is_empty() {
                    out.uint(next_content);
                }
                next_content += run.len() as u64;
            }
            (Kind::Symlink | Kind::Submodule, PlannedContent::Inline(bytes)) => out.string(bytes),
            (Kind::Directory, PlannedContent::Directory { nodes, .. }) => {
                out.uint(entry.size);
                out.uint(next_directory);
                next_directory += 1;
                out.uint(*nodes);
            }
            _ => return Err(EncodeError::Entry),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlannedLocation;
    use crate::chunk::{BlobId, Chunk, Location};
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
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(PlannedContent::Inline),
            Just(PlannedContent::Inline(vec![b'x'; MAX_INLINE + 1])),
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
                name: name.into_bytes(),
                kind,
                size: size.unwrap_or(fitting),
                content,
            }
        })
    }

    proptest! {
        #[test]
        fn whatever_the_entries_a_directory_reads_as_written_or_is_refused(
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
    fn what_lies_before_a_directory_cannot_be_referred_to() {
        let entry = PlannedEntry {
            name: b"file".to_vec(),
            kind: Kind::File { executable: false },
            size: 10,
            content: PlannedContent::Chunks(vec![chunk(1, PlannedLocation::Local(-10), 10)]),
        };
        assert_eq!(encode(&[entry], 0), Err(EncodeError::Backwards));
    }
}
