//! Reads an archive: objects by number.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::OnceCell;

use super::commit_index::CommitIndex;
use super::segment_index::{ObjectLocation, SegmentIndex};
use crate::cache::Cache;
use crate::offload::offload;
use crate::repo::error::RepoError;
use crate::repo::weighted_lru::WeightedLru;
use walgit_format::MalformedNode;
use walgit_format::archive::{
    ArchivedRef, ChunkRun, CommitMark, ContentGroup, Group, Objects, Segment, StoredEntry,
    decode_group, decode_tree,
};
use walgit_format::chunk::{Budget, ChunkHash, ChunkRef, budget};
use walgit_format::head::{AttachmentKind, GitId, Head};
use walrus_client::BlobStore;

/// Stored bytes of neighbours to fetch together with a group: groups are read in
/// sequence.
const GROUP_WINDOW_BYTES: u64 = 1 << 20;

/// Stored bytes of neighbours to fetch together with a segment: all are read.
const SEGMENT_WINDOW_BYTES: u64 = 4 << 20;

/// Most plain bytes of raw commits. A million commits have some 700 MB.
const MAX_COMMIT_BYTES: u64 = 2 << 30;

/// Bytes of groups to keep besides the most recently read one.
const GROUP_CACHE_BYTES: u64 = 32 << 20;

/// Location of a content.
#[derive(Clone, Debug)]
pub enum ContentLocation {
    /// Part of a chunk of the segment.
    Part {
        /// The segment.
        segment: Arc<Segment>,
        /// Index of the chunk.
        chunk: usize,
        /// Byte range within the chunk.
        part: std::ops::Range<u32>,
    },
    /// Consecutive chunks of the segment.
    Chunks {
        /// The segment.
        segment: Arc<Segment>,
        /// Indexes of the chunks.
        run: walgit_format::archive::ChunkRun,
        /// Their plain bytes.
        len: u64,
    },
}

impl ContentLocation {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            ContentLocation::Part { part, .. } => u64::from(part.end - part.start),
            ContentLocation::Chunks { len, .. } => *len,
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The archive of a repository.
#[derive(Debug)]
pub struct Archive {
    cache: Arc<Cache>,
    store: Arc<dyn BlobStore>,
    segments: Vec<Arc<Segment>>,
    /// One per segment.
    places: Vec<SegmentIndex>,
    /// Root trees by ID prefix of the commit, sorted.
    roots: Vec<CommitMark>,
    /// Recently read groups.
    groups: WeightedLru<ChunkHash, Arc<Objects>>,
    /// Chunks of raw commits.
    pub(super) commits: Vec<ChunkRef>,
    /// The ID of any commit; determines the hash function.
    pub(super) sample: GitId,
    /// The rest of [`budget::HISTORY_BYTES`], for the indexes.
    pub(super) memory_left: u64,
    pub(super) index: OnceCell<CommitIndex>,
    pub(super) targets: OnceCell<HashMap<GitId, GitId>>,
}

impl Archive {
    /// Reads the segments of the archive of a head, but not the objects in them; `None` if
    /// it has no archive.
    pub(crate) async fn load(
        cache: &Arc<Cache>,
        store: &Arc<dyn BlobStore>,
        head: &Head,
    ) -> Result<Option<Self>, RepoError> {
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        let mut budget = Budget::fixed(budget::HISTORY_BYTES);
        let table: Vec<ChunkRef> = head.attached(AttachmentKind::Archive).cloned().collect();
        let bytes: u64 = table.iter().map(|it| u64::from(it.raw_len)).sum();
        if bytes > budget::HISTORY_BYTES {
            let max_size = budget::HISTORY_BYTES >> 20;
            let what = format!("a history whose segments have more than {max_size} MiB");
            return Err(RepoError::TooLarge(what));
        }
        let mut before = 0u64;
        for (at, reference) in table.iter().enumerate() {
            let raw = cache.get(store, &table, at, SEGMENT_WINDOW_BYTES).await?;
            let (owned, left) = (reference.clone(), budget.left());
            let decode = move || Segment::decode_within(&raw, &owned, left);
            let decoded = offload(reference.raw_len as usize, decode).await?;
            let decoded = decoded.and_then(|segment| {
                if segment.before != before {
                    return Err(MalformedNode::Sum("objects of a history"));
                }
                budget.charge(weight(&segment))?;
                Ok(segment)
            });
            let segment = decoded.map_err(|why| malformed(reference.hash, why))?;
            before = before.saturating_add(segment.count());
            segments.push(Arc::new(segment));
        }
        let commits = head.attached(AttachmentKind::GitCommits);
        let commits: Vec<ChunkRef> = commits.cloned().collect();
        check_commits(&commits)?;
        let marks = segments.iter().flat_map(|segment| &segment.commits);
        let mut roots: Vec<CommitMark> = marks.copied().collect();
        // For duplicate names the last mark applies; the sort is stable.
        roots.sort_by_key(|mark| mark.name);
        let sample = head.commits.first().map(|it| it.id.git());
        Ok((!segments.is_empty()).then(|| Archive {
            cache: cache.clone(),
            store: store.clone(),
            places: segments.iter().map(|it| SegmentIndex::of(it)).collect(),
            segments,
            roots,
            groups: WeightedLru::new(GROUP_CACHE_BYTES),
            commits,
            sample: sample.unwrap_or_default(),
            memory_left: budget.left(),
            index: OnceCell::new(),
            targets: OnceCell::new(),
        }))
    }

    /// Bytes of memory that it occupies now.
    pub(crate) fn weight(&self) -> u64 {
        let index = self.index.get().map_or(0, CommitIndex::weight);
        budget::HISTORY_BYTES - self.memory_left
            + index
            + self.groups.weight(|group| group.weight())
    }

    /// Its segments, oldest first.
    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// Number of objects in the archive.
    pub fn count(&self) -> u64 {
        let last = self.segments.last();
        last.map_or(0, |last| last.before.saturating_add(last.count()))
    }

    /// The refs at the time of the last publish.
    pub fn refs(&self) -> &[ArchivedRef] {
        self.segments.last().map_or(&[], |last| &last.refs)
    }

    /// The full name of the branch that was checked out; empty if detached.
    pub fn head(&self) -> &[u8] {
        self.segments.last().map_or(&[], |last| &last.head)
    }

    /// Commits whose parents are not in the archive.
    pub fn shallow(&self) -> &[GitId] {
        self.segments.last().map_or(&[], |last| &last.shallow)
    }

    /// The number of a commit's root tree, if the commit is in the archive.
    pub fn root_of(&self, commit: &[u8]) -> Option<u64> {
        let name = CommitMark::name(commit);
        let after = self.roots.partition_point(|mark| mark.name <= name);
        let mark = self.roots.get(after.checked_sub(1)?)?;
        (mark.name == name).then_some(mark.tree)
    }

    /// Commits by ID prefix.
    pub fn marks(&self) -> impl Iterator<Item = &CommitMark> {
        self.segments.iter().flat_map(|segment| &segment.commits)
    }

    fn place(&self, number: u64) -> Option<(&Arc<Segment>, &SegmentIndex, ObjectLocation)> {
        let at = self.segments.partition_point(|it| it.before <= number);
        let at = at.checked_sub(1)?;
        let (segment, places) = (&self.segments[at], &self.places[at]);
        Some((segment, places, places.place(number - segment.before)?))
    }

    /// Whether `number` is a tree.
    pub fn holds_tree(&self, number: u64) -> bool {
        matches!(self.place(number), Some((_, _, ObjectLocation::Tree(..))))
    }

    /// Whether `number` is a content.
    pub fn holds_content(&self, number: u64) -> bool {
        let place = self.place(number);
        matches!(
            place,
            Some((_, _, ObjectLocation::Grouped(..) | ObjectLocation::File(_)))
        )
    }

    /// The objects of a group of trees or tags.
    pub async fn group(&self, segment: &Segment, chunk: usize) -> Result<Arc<Objects>, RepoError> {
        let hash = segment.chunks[chunk].hash;
        if let Some(group) = self.groups.get(&hash) {
            return Ok(group);
        }
        let raw = self.chunk(&segment.chunks, chunk).await?;
        let group = offload(raw.len(), move || decode_group(&raw)).await?;
        let group = Arc::new(group.map_err(|why| malformed(hash, why))?);
        self.groups
            .keep(hash, group.clone(), |group| group.weight());
        Ok(group)
    }

    /// The plain bytes of chunk `table[index]`.
    pub async fn chunk(&self, table: &[ChunkRef], index: usize) -> Result<Bytes, RepoError> {
        Ok(self
            .cache
            .get(&self.store, table, index, GROUP_WINDOW_BYTES)
            .await?)
    }

    /// The tree with this number.
    ///
    /// # Errors
    /// [`RepoError::Malformed`], also if there is no such tree; or a read error.
    pub async fn tree(&self, number: u64) -> Result<Vec<StoredEntry>, RepoError> {
        let Some((segment, _, ObjectLocation::Tree(group, at))) = self.place(number) else {
            return Err(self.missing(number));
        };
        let chunk = segment.trees[group].chunk;
        let group = self.group(segment, chunk).await?;
        let raw = group.get(at).ok_or_else(|| self.missing(number))?;
        let tree = offload(raw.len(), move || decode_tree(&raw)).await?;
        tree.map_err(|why| malformed(segment.chunks[chunk].hash, why))
    }

    /// Location of the content with this number.
    ///
    /// # Errors
    /// [`RepoError::Malformed`] if there is no such content.
    pub fn content(&self, number: u64) -> Result<ContentLocation, RepoError> {
        let found = match self.place(number) {
            Some((segment, _, ObjectLocation::Grouped(group, at))) => {
                let group = &segment.contents[group];
                group.part(at).map(|part| ContentLocation::Part {
                    segment: segment.clone(),
                    chunk: group.chunk,
                    part,
                })
            }
            Some((segment, places, ObjectLocation::File(at))) => Some(ContentLocation::Chunks {
                segment: segment.clone(),
                run: segment.files[at],
                len: places.bytes(segment.files[at]),
            }),
            _ => None,
        };
        found.ok_or_else(|| self.missing(number))
    }

    /// The bytes of a content.
    pub async fn bytes(&self, content: &ContentLocation) -> Result<Bytes, RepoError> {
        match content {
            ContentLocation::Part {
                segment,
                chunk,
                part,
            } => {
                let raw = self.chunk(&segment.chunks, *chunk).await?;
                // In range: decoding the segment has checked the lengths of its
                // groups.
                Ok(raw.slice(part.start as usize..part.end as usize))
            }
            ContentLocation::Chunks { segment, run, .. } => {
                let mut whole = BytesMut::new();
                for index in run.first..run.first + run.count {
                    whole.extend_from_slice(&self.chunk(&segment.chunks, index).await?);
                }
                Ok(whole.freeze())
            }
        }
    }

    pub(super) fn missing(&self, number: u64) -> RepoError {
        self.malformed(MalformedNode::Index(number))
    }

    pub(super) fn malformed(&self, why: MalformedNode) -> RepoError {
        let reference = self.segments.last().and_then(|last| last.chunks.first());
        let hash = reference.map_or(ChunkHash::of(&[]), |chunk| chunk.hash);
        malformed(hash, why)
    }
}

/// Bytes of memory that a segment and its sums occupy.
fn weight(segment: &Segment) -> u64 {
    let ends: usize = segment.contents.iter().map(|it| it.ends.len()).sum();
    let names: usize = segment.refs.iter().map(|it| it.name.len()).sum();
    let ids = segment.refs.len() + segment.shallow.len();
    let bytes = segment.chunks.len() * size_of::<ChunkRef>()
        + segment.trees.len() * size_of::<Group>()
        + segment.contents.len() * size_of::<ContentGroup>()
        + ends * size_of::<u32>()
        + segment.files.len() * size_of::<ChunkRun>()
        + segment.tags.len() * size_of::<usize>()
        // Once here and once in the roots of all segments.
        + segment.commits.len() * 2 * size_of::<CommitMark>()
        + segment.refs.len() * size_of::<ArchivedRef>()
        + names
        + ids * (size_of::<GitId>() + 48);
    bytes as u64 + SegmentIndex::weight(segment)
}

/// Rejects histories with too many bytes of raw commits, or with duplicate chunks.
pub(crate) fn check_commits(chunks: &[ChunkRef]) -> Result<(), RepoError> {
    let bytes: u64 = chunks.iter().map(|chunk| u64::from(chunk.raw_len)).sum();
    if bytes > MAX_COMMIT_BYTES {
        let max_size = MAX_COMMIT_BYTES >> 30;
        let what = format!("more than {max_size} GiB of commits in its history");
        return Err(RepoError::TooLarge(what));
    }
    let mut seen = HashSet::with_capacity(chunks.len());
    match chunks.iter().find(|chunk| !seen.insert(chunk.hash)) {
        Some(twice) => Err(malformed(twice.hash, MalformedNode::Runs("commits"))),
        None => Ok(()),
    }
}

fn malformed(hash: ChunkHash, why: MalformedNode) -> RepoError {
    RepoError::Malformed {
        what: "history",
        hash,
        why,
    }
}
