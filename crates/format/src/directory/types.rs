//! The values of a directory.

use bytes::Bytes;

use crate::chunk::{ChunkHash, ChunkRef, PlannedChunk, WholeBlob};
use crate::guard::Guard;

/// Longest target of a symlink, in bytes; one less than the kernel's `PATH_MAX`.
pub const MAX_SYMLINK_BYTES: usize = 4095;
/// Most bytes of inline content per file in a directory node.
///
/// A limit for decoders. Publishers inline far less.
pub const MAX_INLINE_BYTES: usize = 4096;
/// Most entries of one directory.
///
/// A limit for decoders: an entry of four bytes takes a hundred in memory, so this limit,
/// not the size of the node, bounds the cost of a hostile directory (100 MB).
pub const MAX_ENTRIES: usize = 1 << 20;
/// Most nodes of a snapshot. Keeps sums of hostile counts far from overflow, and leaves
/// 24 bits of an inode number for other uses.
pub const MAX_NODES: u64 = 1 << 40;
pub(super) const MAGIC: u8 = b'D';
pub(super) const VERSION: u8 = 1;
/// Overhead of an allocation, in bytes.
const ALLOCATION_OVERHEAD: usize = 16;

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

/// Kinds by their number in the format, with the mode that current git writes for them.
const KINDS: [(Kind, &[u8]); 5] = [
    (Kind::File { executable: false }, b"100644"),
    (Kind::File { executable: true }, b"100755"),
    (Kind::Symlink, b"120000"),
    (Kind::Directory, b"40000"),
    (Kind::Submodule, b"160000"),
];

impl Kind {
    pub(super) fn number(self) -> u8 {
        KINDS.iter().take_while(|(kind, _)| *kind != self).count() as u8
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        KINDS.get(usize::from(number)).map(|(kind, _)| *kind)
    }

    /// Interprets the mode of a git tree entry like git; `None` if it is not an octal
    /// number. Git treats unknown modes as submodules.
    pub fn of_git_mode(mode: &[u8]) -> Option<Self> {
        if mode.is_empty() {
            return None;
        }
        let mode = mode.iter().try_fold(0u32, |value, digit| match digit {
            b'0'..=b'7' => Some(value << 3 | u32::from(digit - b'0')),
            _ => None,
        })?;
        Some(match mode & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o100_000 => Kind::File {
                executable: mode & 0o100 != 0,
            },
            0o120_000 => Kind::Symlink,
            _ => Kind::Submodule,
        })
    }

    /// Returns the mode that current git writes, in octal digits.
    pub fn git_mode(self) -> &'static [u8] {
        KINDS[usize::from(self.number())].1
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
    /// A [`ChunkList`](crate::ChunkList), stored as chunk `index` of the directory's table.
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

/// An entry of a directory to be encoded, or to be built in memory.
#[derive(Clone, Debug)]
pub struct PlannedEntry<C = PlannedChunk> {
    /// Name of the entry.
    pub name: Bytes,
    /// Kind of the entry.
    pub kind: Kind,
    /// Bytes of content; for a directory, the sum over its files.
    pub size: u64,
    /// The content.
    pub content: PlannedContent<C>,
}

/// Content of a [`PlannedEntry`].
#[derive(Clone, Debug)]
pub enum PlannedContent<C = PlannedChunk> {
    /// Inline in the directory.
    Inline(Bytes),
    /// The concatenation of these chunks.
    Chunks(Vec<C>),
    /// A chunk list.
    List(C),
    /// A whole blob. Cannot be encoded.
    Whole(WholeBlob),
    /// Part of a chunk. Cannot be encoded.
    Part {
        /// The chunk.
        chunk: C,
        /// Offset of the first byte in the chunk's plain bytes.
        start: u32,
    },
    /// A directory node.
    Directory {
        /// The node.
        node: C,
        /// Number of nodes in its subtree, itself included.
        nodes: u64,
    },
}

impl<C> PlannedContent<C> {
    /// Returns the chunks of the content, in order.
    pub fn chunks(&self) -> &[C] {
        match self {
            PlannedContent::Inline(_) | PlannedContent::Whole(_) => &[],
            PlannedContent::Chunks(run) => run,
            PlannedContent::List(chunk)
            | PlannedContent::Part { chunk, .. }
            | PlannedContent::Directory { node: chunk, .. } => std::slice::from_ref(chunk),
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

impl Directory {
    pub(super) fn new(entries: Vec<Entry>, chunks: Vec<ChunkRef>, nodes: u64, weight: u64) -> Self {
        Directory {
            entries,
            chunks,
            wholes: Vec::new(),
            nodes,
            weight: size_of::<Self>() as u64 + weight,
            guard: Guard::default(),
        }
    }

    /// Builds a directory from entries that are sorted and have valid names, and returns
    /// it with a hash that identifies its content.
    pub fn from_entries(entries: Vec<PlannedEntry<ChunkRef>>) -> (Self, ChunkHash) {
        let mut hasher = blake3::Hasher::new_derive_key("walgit-fs 2026 implied directory");
        let mut directory = Directory::new(Vec::with_capacity(entries.len()), Vec::new(), 1, 0);
        for entry in entries {
            hasher.update(&(entry.name.len() as u64).to_le_bytes());
            hasher.update(&entry.name);
            hasher.update(&[entry.kind.number()]);
            hasher.update(&entry.size.to_le_bytes());
            for chunk in entry.content.chunks() {
                hasher.update(chunk.hash.as_bytes());
            }
            let index = directory.chunks.len() as u32;
            directory.chunks.extend_from_slice(entry.content.chunks());
            let content = match entry.content {
                PlannedContent::Inline(bytes) => {
                    hasher.update(ChunkHash::of(&bytes).as_bytes());
                    Content::Inline(bytes)
                }
                PlannedContent::Whole(whole) => {
                    hasher.update(whole.name().as_bytes());
                    directory.wholes.push(whole);
                    Content::Whole {
                        index: directory.wholes.len() as u32 - 1,
                    }
                }
                PlannedContent::Chunks(chunks) => Content::Chunks {
                    first: index,
                    count: chunks.len() as u32,
                },
                PlannedContent::List(_) => Content::List { index },
                PlannedContent::Part { start, .. } => {
                    hasher.update(&start.to_le_bytes());
                    Content::Part { index, start }
                }
                PlannedContent::Directory { nodes, .. } => Content::Directory { index, nodes },
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

    /// Returns the chunks of an entry's content, in order: those of a file, its chunk list,
    /// or the node of a directory.
    pub fn chunks_of(&self, content: &Content) -> &[ChunkRef] {
        let run = |first: u32, count: u32| &self.chunks[first as usize..(first + count) as usize];
        match *content {
            Content::Inline(_) | Content::Whole { .. } => &[],
            Content::Chunks { first, count } => run(first, count),
            Content::List { index }
            | Content::Part { index, .. }
            | Content::Directory { index, .. } => run(index, 1),
        }
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
            entry.name.len() + inline + ALLOCATION_OVERHEAD
        });
        (text.sum::<usize>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.chunks.capacity() * size_of::<ChunkRef>()
            + self.wholes.capacity() * size_of::<WholeBlob>()
            + size_of::<Self>()) as u64
    }
}
