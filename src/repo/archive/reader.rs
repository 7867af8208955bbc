//! An archive that is read: objects by their numbers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::OnceCell;

use super::commits::CommitIndex;
use super::places::{Place, Places};
use crate::cache::Cache;
use crate::offload::offload;
use crate::repo::kept::Kept;
use crate::repo::{RepoError, Repository};
use walgit_format::MalformedNode;
use walgit_format::archive::{ArchivedRef, CommitMark, ContentGroup, Group, Run, Segment};
use walgit_format::archive::{Objects, decode_group};
use walgit_format::archive::{StoredEntry, decode_tree};
use walgit_format::chunk::budget;
use walgit_format::chunk::{Budget, ChunkHash, ChunkRef};
use walgit_format::head::{AttachmentKind, GitId};
use walrus_client::BlobStore;

/// Stored bytes of neighbours that a fetched group brings along: groups are
/// read in a row where they are read at all.
const WINDOW: u64 = 1 << 20;

/// Most plain bytes of raw commits. A million commits have some 700 MB.
const MAX_COMMIT_BYTES: u64 = 2 << 30;

/// Where a content is.
#[derive(Clone, Debug)]
pub enum Content {
    /// Part of a chunk of the segment.
    Part {
        /// The segment.
        segment: Arc<Segment>,
        /// Which of its chunks.
        chunk: usize,
        /// Which bytes of it.
        part: std::ops::Range<u32>,
    },
    /// Chunks of the segment, one after the other.
    Chunks {
        /// The segment.
        segment: Arc<Segment>,
        /// Which of its chunks.
        run: walgit_format::archive::Run,
        /// Their plain bytes.
        len: u64,
    },
}

impl Content {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Part { part, .. } => u64::from(part.end - part.start),
            Content::Chunks { len, .. } => *len,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The history of a repository.
#[derive(Debug)]
pub struct Archive {
    cache: Arc<Cache>,
    store: Arc<dyn BlobStore>,
    segments: Vec<Arc<Segment>>,
    /// Of each segment.
    places: Vec<Places>,
    /// Root trees by the start of the commit's ID, sorted.
    roots: Vec<CommitMark>,
    /// Groups that were read last, the latest first.
    groups: Kept<ChunkHash, Arc<Objects>>,
    /// Chunks of raw commits.
    pub(super) commits: Vec<ChunkRef>,
    /// The ID of some commit.
    pub(super) sample: GitId,
    /// What of [`budget::HISTORY`] the segments leave to the indexes.
    pub(super) room: u64,
    pub(super) index: OnceCell<CommitIndex>,
    pub(super) targets: OnceCell<HashMap<GitId, GitId>>,
}

/// Bytes of groups that are kept beside the one that was read last.
const GROUPS: u64 = 32 << 20;

impl Archive {
    /// Reads the segments of a repository's history, none of what is in them;
    /// `None` where it carries none.
    ///
    /// # Errors
    /// What kept it from being read, or [`RepoError::Malformed`].
    pub async fn open(repository: &Repository) -> Result<Option<Self>, RepoError> {
        let chunks = |kind| {
            let attached = repository.head().attachments.iter();
            let attached = attached.filter(move |it| it.kind == kind);
            attached.flat_map(|it| &it.chunks).cloned()
        };
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        let mut budget = Budget::fixed(budget::HISTORY);
        let table: Vec<ChunkRef> = chunks(AttachmentKind::Archive).collect();
        let bytes: u64 = table.iter().map(|it| u64::from(it.raw_len)).sum();
        if bytes > budget::HISTORY {
            let most = budget::HISTORY >> 20;
            let what = format!("a history whose segments have more than {most} MiB");
            return Err(RepoError::TooLarge(what));
        }
        let mut before = 0u64;
        for (at, reference) in table.iter().enumerate() {
            let raw = repository.chunk(&table, at).await?;
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
        let commits: Vec<ChunkRef> = chunks(AttachmentKind::GitCommits).collect();
        check_commits(&commits)?;
        let marks = segments.iter().flat_map(|segment| &segment.commits);
        let mut roots: Vec<CommitMark> = marks.copied().collect();
        // The last one of a name is valid, and the sort is stable.
        roots.sort_by_key(|mark| mark.name);
        let sample = repository.head().commits.first().map(|it| it.id.git());
        Ok((!segments.is_empty()).then(|| Archive {
            cache: repository.loader().cache().clone(),
            store: repository.store().clone(),
            places: segments.iter().map(|it| Places::of(it)).collect(),
            segments,
            roots,
            groups: Kept::new(GROUPS),
            commits,
            sample: sample.unwrap_or_default(),
            room: budget.left(),
            index: OnceCell::new(),
            targets: OnceCell::new(),
        }))
    }

    /// Bytes that it may occupy in memory, what is read later included.
    pub(in crate::repo) fn weight(&self) -> u64 {
        let index = self.index.get().map_or(0, CommitIndex::weight);
        budget::HISTORY - self.room + index + self.groups.weight(|group| group.weight())
    }

    /// Its segments, the oldest first.
    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// How many objects have numbers.
    pub fn count(&self) -> u64 {
        let last = self.segments.last();
        last.map_or(0, |last| last.before.saturating_add(last.count()))
    }

    /// The refs, as they were at the last publish.
    pub fn refs(&self) -> &[ArchivedRef] {
        self.segments.last().map_or(&[], |last| &last.refs)
    }

    /// The full name of the branch that is checked out; empty for none.
    pub fn head(&self) -> &[u8] {
        self.segments.last().map_or(&[], |last| &last.head)
    }

    /// Commits whose parents are not in it.
    pub fn shallow(&self) -> &[GitId] {
        self.segments.last().map_or(&[], |last| &last.shallow)
    }

    /// The number of a commit's root tree, if the commit is in it.
    pub fn root_of(&self, commit: &[u8]) -> Option<u64> {
        let name = CommitMark::name(commit);
        let after = self.roots.partition_point(|mark| mark.name <= name);
        let mark = self.roots.get(after.checked_sub(1)?)?;
        (mark.name == name).then_some(mark.tree)
    }

    /// Commits by the start of their IDs.
    pub fn marks(&self) -> impl Iterator<Item = &CommitMark> {
        self.segments.iter().flat_map(|segment| &segment.commits)
    }

    fn place(&self, number: u64) -> Option<(&Arc<Segment>, &Places, Place)> {
        let at = self.segments.partition_point(|it| it.before <= number);
        let at = at.checked_sub(1)?;
        let (segment, places) = (&self.segments[at], &self.places[at]);
        Some((segment, places, places.place(number - segment.before)?))
    }

    /// Whether this is the number of a tree.
    pub fn holds_tree(&self, number: u64) -> bool {
        matches!(self.place(number), Some((_, _, Place::Tree(..))))
    }

    /// Whether this is the number of a content.
    pub fn holds_content(&self, number: u64) -> bool {
        let place = self.place(number);
        matches!(place, Some((_, _, Place::Grouped(..) | Place::File(_))))
    }

    /// The objects of a group of trees or tags.
    ///
    /// # Errors
    /// What kept it from being read, or [`RepoError::Malformed`].
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

    /// The plain bytes of one of these chunks.
    ///
    /// # Errors
    /// What kept it from being read.
    pub async fn chunk(&self, table: &[ChunkRef], index: usize) -> Result<Bytes, RepoError> {
        Ok(self.cache.get(&self.store, table, index, WINDOW).await?)
    }

    /// The tree with this number.
    ///
    /// # Errors
    /// What kept it from being read, or [`RepoError::Malformed`], also where
    /// there is no such tree.
    pub async fn tree(&self, number: u64) -> Result<Vec<StoredEntry>, RepoError> {
        let Some((segment, _, Place::Tree(group, at))) = self.place(number) else {
            return Err(self.missing(number));
        };
        let chunk = segment.trees[group].chunk;
        let group = self.group(segment, chunk).await?;
        let raw = group.get(at).ok_or_else(|| self.missing(number))?;
        let tree = offload(raw.len(), move || decode_tree(&raw)).await?;
        tree.map_err(|why| malformed(segment.chunks[chunk].hash, why))
    }

    /// Where the content with this number is.
    ///
    /// # Errors
    /// [`RepoError::Malformed`] where there is no such content.
    pub fn content(&self, number: u64) -> Result<Content, RepoError> {
        let found = match self.place(number) {
            Some((segment, _, Place::Grouped(group, at))) => {
                let group = &segment.contents[group];
                group.part(at).map(|part| Content::Part {
                    segment: segment.clone(),
                    chunk: group.chunk,
                    part,
                })
            }
            Some((segment, places, Place::File(at))) => Some(Content::Chunks {
                segment: segment.clone(),
                run: segment.files[at],
                len: places.bytes(segment.files[at]),
            }),
            _ => None,
        };
        found.ok_or_else(|| self.missing(number))
    }

    /// The bytes of a content.
    ///
    /// # Errors
    /// What kept them from being read.
    pub async fn bytes(&self, content: &Content) -> Result<Bytes, RepoError> {
        match content {
            Content::Part {
                segment,
                chunk,
                part,
            } => {
                let raw = self.chunk(&segment.chunks, *chunk).await?;
                // A segment is decoded only when its groups have these lengths.
                Ok(raw.slice(part.start as usize..part.end as usize))
            }
            Content::Chunks { segment, run, .. } => {
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

/// Bytes that a segment and the sums over it occupy in memory.
fn weight(segment: &Segment) -> u64 {
    let ends: usize = segment.contents.iter().map(|it| it.ends.len()).sum();
    let names: usize = segment.refs.iter().map(|it| it.name.len()).sum();
    let ids = segment.refs.len() + segment.shallow.len();
    let bytes = segment.chunks.len() * size_of::<ChunkRef>()
        + segment.trees.len() * size_of::<Group>()
        + segment.contents.len() * size_of::<ContentGroup>()
        + ends * size_of::<u32>()
        + segment.files.len() * size_of::<Run>()
        + segment.tags.len() * size_of::<usize>()
        // Here and among those of all segments.
        + segment.commits.len() * 2 * size_of::<CommitMark>()
        + segment.refs.len() * size_of::<ArchivedRef>()
        + names
        + ids * (size_of::<GitId>() + 48);
    bytes as u64 + Places::weight(segment)
}

/// Refuses more raw commits than anybody should have to decode to find one.
pub(in crate::repo) fn check_commits(chunks: &[ChunkRef]) -> Result<(), RepoError> {
    let bytes: u64 = chunks.iter().map(|chunk| u64::from(chunk.raw_len)).sum();
    if bytes > MAX_COMMIT_BYTES {
        let most = MAX_COMMIT_BYTES >> 30;
        let what = format!("more than {most} GiB of commits in its history");
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
