//! An archive that is read: objects by their numbers.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::OnceCell;

use super::commits::CommitIndex;
use super::group::decode_group;
use super::segment::{ArchivedRef, CommitMark, Segment};
use super::tree::{StoredEntry, decode_tree};
use crate::cache::Cache;
use crate::chunk::{ChunkHash, ChunkRef};
use crate::repo::head::{AttachmentKind, GitId};
use crate::repo::{MalformedNode, RepoError, Repository};
use crate::walrus::BlobStore;

/// Stored bytes of neighbours that a fetched group brings along: groups are
/// read in a row where they are read at all.
const WINDOW: u64 = 1 << 20;

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
        run: super::Run,
    },
}

impl Content {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Part { part, .. } => u64::from(part.end - part.start),
            Content::Chunks { segment, run } => {
                let chunks = &segment.chunks[run.first..run.first + run.count];
                chunks.iter().map(|chunk| u64::from(chunk.raw_len)).sum()
            }
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where an object is.
enum Place {
    /// A tree: its group, and which of it.
    Tree(usize, usize),
    /// A content: its group among those of the segment, and which of it.
    Grouped(usize, usize),
    /// A content that is chunks.
    File(usize),
}

/// The history of a repository.
#[derive(Debug)]
pub struct Archive {
    cache: Arc<Cache>,
    store: Arc<dyn BlobStore>,
    segments: Vec<Arc<Segment>>,
    roots: HashMap<[u8; 8], u64>,
    /// Groups of trees that were read last, by the hash of their chunk.
    groups: quick_cache::sync::Cache<ChunkHash, Arc<Vec<Bytes>>>,
    /// Chunks of raw commits.
    pub(super) commits: Vec<ChunkRef>,
    /// The ID of some commit.
    pub(super) sample: GitId,
    pub(super) index: OnceCell<CommitIndex>,
}

/// Groups of trees that are kept; a tree's parent is seldom in the same one.
const GROUPS: usize = 8;

impl Archive {
    /// Reads the segments of a repository's history, none of what is in them;
    /// `None` where it carries none.
    ///
    /// # Errors
    /// What kept it from being read, or [`RepoError::Malformed`].
    pub async fn open(repository: &Repository) -> Result<Option<Self>, RepoError> {
        let raw = repository.attachment(AttachmentKind::Archive).await?;
        let chunks = |kind| {
            let attached = repository.head().attachments.iter();
            let attached = attached.filter(move |it| it.kind == kind);
            attached.flat_map(|it| &it.chunks)
        };
        let mut segments = Vec::new();
        let mut before = 0u64;
        for (reference, raw) in chunks(AttachmentKind::Archive).zip(&raw) {
            let decoded = Segment::decode(raw, reference).and_then(|segment| {
                match segment.before == before {
                    true => Ok(segment),
                    false => Err(MalformedNode::Sum("objects of a history")),
                }
            });
            let segment = decoded.map_err(|why| malformed(reference.hash, why))?;
            before = before.saturating_add(segment.count());
            segments.push(Arc::new(segment));
        }
        let marks = segments.iter().flat_map(|segment| &segment.commits);
        let roots = marks.map(|mark| (mark.name, mark.tree)).collect();
        let sample = repository.head().commits.first().map(|it| it.id.git());
        Ok((!segments.is_empty()).then(|| Archive {
            cache: repository.loader().cache().clone(),
            store: repository.store().clone(),
            segments,
            roots,
            groups: quick_cache::sync::Cache::new(GROUPS),
            commits: chunks(AttachmentKind::GitCommits).cloned().collect(),
            sample: sample.unwrap_or_default(),
            index: OnceCell::new(),
        }))
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
        self.roots.get(&CommitMark::name(commit)).copied()
    }

    /// Commits by the start of their IDs.
    pub fn marks(&self) -> impl Iterator<Item = &CommitMark> {
        self.segments.iter().flat_map(|segment| &segment.commits)
    }

    fn place(&self, number: u64) -> Option<(&Arc<Segment>, Place)> {
        let segment = self.segments.partition_point(|it| it.before <= number);
        let segment = self.segments.get(segment.checked_sub(1)?)?;
        let mut rest = number - segment.before;
        for group in &segment.trees {
            if rest < group.count {
                return Some((segment, Place::Tree(group.chunk, rest as usize)));
            }
            rest -= group.count;
        }
        for (at, group) in segment.contents.iter().enumerate() {
            if rest < group.ends.len() as u64 {
                return Some((segment, Place::Grouped(at, rest as usize)));
            }
            rest -= group.ends.len() as u64;
        }
        let rest = usize::try_from(rest).ok()?;
        (rest < segment.files.len()).then_some((segment, Place::File(rest)))
    }

    /// The objects of a group of trees or tags.
    ///
    /// # Errors
    /// What kept it from being read, or [`RepoError::Malformed`].
    pub async fn group(
        &self,
        segment: &Segment,
        chunk: usize,
    ) -> Result<Arc<Vec<Bytes>>, RepoError> {
        let hash = segment.chunks[chunk].hash;
        if let Some(group) = self.groups.get(&hash) {
            return Ok(group);
        }
        let raw = self.chunk(&segment.chunks, chunk).await?;
        let group = decode_group(&raw).map_err(|why| malformed(hash, why))?;
        let group = Arc::new(group);
        self.groups.insert(hash, group.clone());
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
        let Some((segment, Place::Tree(chunk, at))) = self.place(number) else {
            return Err(self.missing(number));
        };
        let group = self.group(segment, chunk).await?;
        let raw = group.get(at).ok_or_else(|| self.missing(number))?;
        decode_tree(raw).map_err(|why| malformed(segment.chunks[chunk].hash, why))
    }

    /// Where the content with this number is.
    ///
    /// # Errors
    /// [`RepoError::Malformed`] where there is no such content.
    pub fn content(&self, number: u64) -> Result<Content, RepoError> {
        let found = match self.place(number) {
            Some((segment, Place::Grouped(group, at))) => {
                let group = &segment.contents[group];
                group.part(at).map(|part| Content::Part {
                    segment: segment.clone(),
                    chunk: group.chunk,
                    part,
                })
            }
            Some((segment, Place::File(at))) => Some(Content::Chunks {
                segment: segment.clone(),
                run: segment.files[at],
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
            Content::Chunks { segment, run } => {
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

fn malformed(hash: ChunkHash, why: MalformedNode) -> RepoError {
    RepoError::Malformed {
        what: "history",
        hash,
        why,
    }
}
