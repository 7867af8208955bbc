//! A segment of an archive: the objects added by one publish.

use bytes::Bytes;

use crate::EncodeError;
use crate::chunk::{ChunkRef, PlannedChunk, budget};
use crate::id::GitId;
use crate::malformed::MalformedNode;
use crate::names::check_full_ref_name;
use crate::table::{self, NodeOrigin, UsedChunks};
use crate::wire::{Reader, Write};

const MAGIC: u8 = b'A';
const VERSION: u8 = 1;
/// Longest name of a ref, in bytes.
const MAX_REF_BYTES: usize = 4096;
/// Length of the prefix of a commit ID in a segment, in bytes.
const COMMIT_PREFIX_LEN: usize = 8;

/// A group of trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Index of its chunk in the segment.
    pub chunk: usize,
    /// Number of objects.
    pub count: u64,
}

/// A chunk of concatenated contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentGroup {
    /// Index of its chunk in the segment.
    pub chunk: usize,
    /// End of each content, in bytes from the start of the chunk.
    pub ends: Vec<u32>,
}

impl ContentGroup {
    /// Returns the range of content `at` in the chunk.
    pub fn part(&self, at: usize) -> Option<std::ops::Range<u32>> {
        let end = *self.ends.get(at)?;
        Some(at.checked_sub(1).map_or(0, |before| self.ends[before])..end)
    }
}

/// A content that consists of consecutive chunks of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRun {
    /// Index of the first chunk.
    pub first: usize,
    /// Number of chunks.
    pub count: usize,
}

/// A commit, by a prefix of its ID, and the number of its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommitMark {
    /// Prefix of its ID.
    pub name: [u8; COMMIT_PREFIX_LEN],
    /// Number of its root tree.
    pub tree: u64,
}

impl CommitMark {
    /// Returns the prefix of a commit ID that segments store.
    pub fn name(id: &[u8]) -> [u8; COMMIT_PREFIX_LEN] {
        let mut name = [0; COMMIT_PREFIX_LEN];
        let len = id.len().min(COMMIT_PREFIX_LEN);
        name[..len].copy_from_slice(&id[..len]);
        name
    }
}

/// A ref at the time of the publish.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchivedRef {
    /// Full name, such as `refs/tags/v1`.
    pub name: Bytes,
    /// Its target: a commit, or an annotated tag.
    pub id: GitId,
}

/// The content of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<C = ChunkRef> {
    /// Groups, and chunks of contents.
    pub chunks: Vec<C>,
    /// Number of objects in earlier segments.
    pub before: u64,
    /// Groups of trees, each tree after the objects that it contains.
    pub trees: Vec<Group>,
    /// Contents in groups.
    pub contents: Vec<ContentGroup>,
    /// Contents that are chunks.
    pub files: Vec<ChunkRun>,
    /// Chunks that are groups of annotated tags.
    pub tags: Vec<usize>,
    /// Commits whose trees are in this segment.
    pub commits: Vec<CommitMark>,
    /// All refs, sorted by name. Only those of the last segment are valid.
    pub refs: Vec<ArchivedRef>,
    /// Full name of the branch that is checked out; empty if none is.
    pub head: Bytes,
    /// Commits whose parents are not in the archive, sorted.
    pub shallow: Vec<GitId>,
}

/// A segment to be encoded.
pub type PlannedSegment = Segment<PlannedChunk>;

impl<C> Segment<C> {
    /// Returns a copy with different chunks.
    pub fn with_chunks<D>(&self, chunks: Vec<D>) -> Segment<D> {
        Segment {
            chunks,
            before: self.before,
            trees: self.trees.clone(),
            contents: self.contents.clone(),
            files: self.files.clone(),
            tags: self.tags.clone(),
            commits: self.commits.clone(),
            refs: self.refs.clone(),
            head: self.head.clone(),
            shallow: self.shallow.clone(),
        }
    }

    /// Returns the number of trees.
    pub fn tree_count(&self) -> u64 {
        self.trees.iter().map(|group| group.count).sum()
    }

    /// Returns the number of contents in groups.
    pub fn content_count(&self) -> u64 {
        let groups = self.contents.iter();
        groups.map(|group| group.ends.len() as u64).sum()
    }

    /// Returns the number of numbered objects.
    pub fn count(&self) -> u64 {
        self.tree_count() + self.content_count() + self.files.len() as u64
    }
}

impl PlannedSegment {
    /// Encodes the segment; its stored bytes will end at `end` (as in
    /// [`PlannedLocation::Local`](crate::PlannedLocation::Local)).
    ///
    /// # Errors
    /// When the format cannot express the segment or a reader would reject it.
    pub fn encode(&self, end: i64) -> Result<Vec<u8>, EncodeError> {
        let raw = Bytes::from(self.encode_unchecked(end)?);
        let read = Segment::decode(&raw, &ChunkRef::nominal_node(&raw))?;
        let same_chunks = read.chunks.len() == self.chunks.len();
        if !same_chunks || read.with_chunks::<()>(vec![]) != self.with_chunks::<()>(vec![]) {
            return Err(EncodeError::Differs("objects"));
        }
        Ok(raw.into())
    }

    /// Like [`encode`](Self::encode), but permits segments that a reader may reject; for
    /// tests of readers.
    ///
    /// # Errors
    /// When the format cannot express the segment.
    #[doc(hidden)]
    pub fn encode_unchecked(&self, end: i64) -> Result<Vec<u8>, EncodeError> {
        let mut out = vec![MAGIC, VERSION];
        table::write(&mut out, &self.chunks, end)?;
        out.uint(self.before);
        out.uint(self.trees.len() as u64);
        for group in &self.trees {
            out.uint(group.chunk as u64);
            out.uint(group.count);
        }
        out.uint(self.contents.len() as u64);
        for group in &self.contents {
            out.uint(group.chunk as u64);
            out.uint(group.ends.len() as u64);
            let mut start = 0;
            for end in &group.ends {
                let len = end.checked_sub(start);
                out.uint(u64::from(len.ok_or(EncodeError::Differs("contents"))?));
                start = *end;
            }
        }
        out.uint(self.files.len() as u64);
        let mut follows = 0usize;
        for run in &self.files {
            let step = run.first as i128 - follows as i128;
            out.sint(i64::try_from(step).map_err(|_| EncodeError::Offset)?);
            out.uint(run.count as u64);
            let end = run.first.checked_add(run.count);
            follows = end.ok_or(EncodeError::Offset)?;
        }
        out.uint(self.tags.len() as u64);
        for chunk in &self.tags {
            out.uint(*chunk as u64);
        }
        out.uint(self.commits.len() as u64);
        for commit in &self.commits {
            out.extend_from_slice(&commit.name);
            out.uint(commit.tree);
        }
        out.uint(self.refs.len() as u64);
        for reference in &self.refs {
            out.string(&reference.name);
            out.string(&reference.id.0);
        }
        out.string(&self.head);
        out.uint(self.shallow.len() as u64);
        for id in &self.shallow {
            out.string(&id.0);
        }
        Ok(out)
    }
}

impl Segment {
    /// Decodes the segment at `reference`.
    pub fn decode(raw: &Bytes, reference: &ChunkRef) -> Result<Self, MalformedNode> {
        Self::decode_within(raw, reference, budget::NODE_BYTES)
    }

    /// Like [`decode`](Self::decode), in at most `ceiling` bytes of memory.
    pub fn decode_within(
        raw: &Bytes,
        reference: &ChunkRef,
        ceiling: u64,
    ) -> Result<Self, MalformedNode> {
        let mut reader = Reader::within(raw, ceiling);
        reader.header(MAGIC, VERSION, "segment of a history")?;
        let chunks = table::read(&mut reader, NodeOrigin::of(reference))?;
        let before = reader.uint()?;
        let mut sum = before;
        let mut add = |count: u64| {
            sum = sum.checked_add(count).ok_or(MalformedNode::Integer)?;
            Ok::<_, MalformedNode>(())
        };
        let group = |reader: &mut Reader<'_>, used: &mut UsedChunks| {
            let chunk = reader.uint()?;
            let run = used.take(&chunks, chunk, 1, "groups")?;
            Ok::<_, MalformedNode>((chunk as usize, run[0].raw_len))
        };
        let mut used = UsedChunks::default();
        let trees = reader.list(2, |reader| {
            let (chunk, len) = group(reader, &mut used)?;
            let count = reader.uint()?;
            // A group cannot contain more trees than bytes.
            if count > u64::from(len) {
                return Err(MalformedNode::Sum("trees of a group"));
            }
            add(count)?;
            Ok(Group { chunk, count })
        })?;
        let mut used = UsedChunks::default();
        let contents = reader.list(2, |reader| {
            let (chunk, len) = group(reader, &mut used)?;
            let mut end = 0u32;
            let ends = reader.list(1, |reader| {
                end = (end.checked_add(reader.uint32()?)).ok_or(MalformedNode::Integer)?;
                Ok(end)
            })?;
            if end != len {
                return Err(MalformedNode::Sum("bytes of a group"));
            }
            add(ends.len() as u64)?;
            Ok(ContentGroup { chunk, ends })
        })?;
        let mut follows = 0u64;
        let files = reader.list(2, |reader| {
            let step = reader.sint()?;
            if step < 0 {
                return Err(MalformedNode::Runs("files"));
            }
            let first = (follows.checked_add_signed(step)).ok_or(MalformedNode::Integer)?;
            let count = reader.uint()?;
            let end = first.checked_add(count).ok_or(MalformedNode::Integer)?;
            if end > chunks.len() as u64 {
                return Err(MalformedNode::Index(end));
            }
            follows = end;
            Ok(ChunkRun {
                first: first as usize,
                count: count as usize,
            })
        })?;
        add(files.len() as u64)?;
        let mut used = UsedChunks::default();
        let tags = reader.list(1, |reader| Ok(group(reader, &mut used)?.0))?;
        let commits = reader.list(COMMIT_PREFIX_LEN + 1, |reader| {
            Ok(CommitMark {
                name: reader.array()?,
                tree: reader.uint()?,
            })
        })?;
        let refs = reader.list(2, |reader| {
            let name = reader.copied(MAX_REF_BYTES)?;
            check_full_ref_name(&name)?;
            let id = reader.id()?;
            Ok(ArchivedRef { name, id })
        })?;
        let head = reader.copied(MAX_REF_BYTES)?;
        let shallow = reader.list(1, Reader::id)?;
        reader.finish()?;
        Ok(Segment {
            chunks,
            before,
            trees,
            contents,
            files,
            tags,
            commits,
            refs,
            head,
            shallow,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlannedLocation;
    use crate::chunk::{Chunk, ChunkHash};
    use proptest::prelude::*;

    fn chunk(seed: u8, len: u32) -> PlannedChunk {
        Chunk::raw(
            ChunkHash::of(&[seed]),
            len,
            PlannedLocation::Local(i64::from(seed)),
        )
    }

    prop_compose! {
        /// Segments that no publisher writes: invalid chunk indices, unsorted ends, IDs
        /// of any length.
        fn any_segment()(
            lens in proptest::collection::vec(0u32..9, 0..4),
            before in prop_oneof![0u64..9, any::<u64>()],
            trees in proptest::collection::vec((0usize..4, 0u64..12), 0..3),
            contents in proptest::collection::vec((0usize..4, proptest::collection::vec(0u32..9, 0..3)), 0..3),
            files in proptest::collection::vec((prop_oneof![0usize..5, any::<usize>()], 0usize..4), 0..3),
            tags in proptest::collection::vec(0usize..4, 0..2),
            commits in proptest::collection::vec(any::<([u8; 8], u64)>(), 0..3),
            refs in proptest::collection::vec((prop_oneof![Just(9usize), Just(MAX_REF_BYTES + 1)], 0usize..40), 0..3),
            shallow in proptest::collection::vec(0usize..40, 0..2),
        ) -> PlannedSegment {
            let id = |len| GitId(vec![7; len]);
            Segment {
                chunks: lens.into_iter().enumerate().map(|(at, len)| chunk(at as u8, len)).collect(),
                before,
                trees: trees.into_iter().map(|(chunk, count)| Group { chunk, count }).collect(),
                contents: contents.into_iter().map(|(chunk, ends)| ContentGroup { chunk, ends }).collect(),
                files: files.into_iter().map(|(first, count)| ChunkRun { first, count }).collect(),
                tags,
                commits: commits.into_iter().map(|(name, tree)| CommitMark { name, tree }).collect(),
                refs: refs.into_iter().map(|(name, len)| ArchivedRef { name: vec![b'r'; name].into(), id: id(len) }).collect(),
                head: Bytes::new(),
                shallow: shallow.into_iter().map(id).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_segments_decode_as_encoded_or_are_refused(segment in any_segment(), end in -9i64..9) {
            let Ok(raw) = segment.encode(end) else { return Ok(()) };
            let raw = Bytes::from(raw);
            let read = Segment::decode(&raw, &ChunkRef::nominal_node(&raw)).unwrap();
            prop_assert_eq!(read.with_chunks::<()>(vec![]), segment.with_chunks::<()>(vec![]));
            for (read, chunk) in read.chunks.iter().zip(&segment.chunks) {
                prop_assert_eq!(read.hash, chunk.hash);
                let PlannedLocation::Local(at) = chunk.location else { unreachable!() };
                prop_assert_eq!(read.location.offset as i64, at - end);
            }
        }
    }
}
