//! Selects the commits of a git repository to publish, and chunks them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;

use bytes::Bytes;
use gix::ObjectId;
use gix::objs::Kind;
use serde::Serialize;

use crate::publish::batch::split_by_size;
use crate::publish::error::PublishError;
use crate::publish::git_objects::{self, failed, git_id};
use crate::publish::pending_chunk::PendingChunk;
use crate::repo::archive::Archive;
use walgit_format::archive::{ArchivedRef, Segment};
use walgit_format::commits::{decode_commits, encode_commits};
use walgit_format::head::GitId;

/// Raw bytes of commits that are compressed together in a chunk.
const MAX_CHUNK_BYTES: usize = 4 << 20;

/// Depth of a git repository's history to publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryDepth {
    /// Every commit that leads to a published branch.
    #[default]
    All,
    /// The last N commits of each branch.
    Last(NonZeroU32),
    /// No history: only the trees of the branches.
    None,
}

impl HistoryDepth {
    /// Number of generations to publish, including the tip.
    fn commits(self) -> u32 {
        match self {
            HistoryDepth::All => u32::MAX,
            HistoryDepth::Last(count) => count.get(),
            HistoryDepth::None => 1,
        }
    }
}

impl std::str::FromStr for HistoryDepth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(HistoryDepth::All),
            ("none", _) | ("0", _) => Ok(HistoryDepth::None),
            (_, Ok(count)) => Ok(HistoryDepth::Last(count)),
            (_, Err(_)) => Err("expected all, none, or a number of commits".into()),
        }
    }
}

/// The history to archive.
#[derive(Debug)]
pub(crate) struct History {
    /// Parents before children.
    pub(crate) commits: Vec<HistoryCommit>,
    /// Sorted by name.
    pub(crate) refs: Vec<ArchivedRef>,
    /// Tag objects that the refs lead to, each after its target.
    pub(crate) tags: Vec<ObjectId>,
    /// Trees and contents that tags lead to.
    pub(crate) roots: Vec<TaggedObject>,
    /// The full name of the checked-out branch; empty if none.
    pub(crate) head: Bytes,
    pub(crate) shallow: Vec<GitId>,
}

/// A tree or content that is the target of a tag.
#[derive(Debug)]
pub(crate) struct TaggedObject {
    /// The object of the tag: an annotated tag, or `id` itself.
    pub(crate) reference: ObjectId,
    pub(crate) id: ObjectId,
    pub(crate) is_tree: bool,
    /// The full name of the tag.
    pub(crate) name: Bytes,
}

impl History {
    /// Whether `archive` already contains exactly this history.
    pub(crate) fn is_archived(&self, archive: &Archive) -> bool {
        let known = |commit: &HistoryCommit| archive.root_of(commit.id.as_slice()).is_some();
        archive.refs() == self.refs
            && archive.head() == &self.head[..]
            && archive.shallow() == self.shallow
            && archive.marks().count() == self.commits.len()
            && self.commits.iter().all(known)
    }
}

/// Report on archiving a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HistoryReport {
    /// Commits of the history.
    pub commits: u64,
    /// Commits archived by this publish.
    pub new_commits: u64,
    /// Trees, contents and tags archived by this publish.
    pub new_objects: u64,
    /// Their stored bytes, excluding commits and lists.
    pub new_bytes: u64,
}

/// An archive whose objects are in packs.
pub(crate) struct Archived {
    /// Number of earlier segments that stay.
    pub(crate) reused: usize,
    /// The new segments.
    pub(crate) segments: Vec<Segment<PendingChunk>>,
    pub(crate) report: HistoryReport,
}

/// A commit to publish.
#[derive(Clone, Debug)]
pub(crate) struct HistoryCommit {
    pub(crate) id: ObjectId,
    pub(crate) tree: ObjectId,
    pub(crate) parents: Vec<ObjectId>,
    /// Commit time, in seconds since 1970.
    pub(crate) committed: i64,
    /// Size of the raw commit, in bytes.
    len: usize,
}

/// Selects the commits to publish, parents before children, in an order that only depends
/// on the history.
pub(crate) fn select(
    repo: &gix::Repository,
    tips: &[ObjectId],
    depth: HistoryDepth,
) -> Result<Vec<HistoryCommit>, PublishError> {
    let (mut found, _) = reach(repo, tips, &shallow_boundary(repo)?, depth.commits())?;
    let mut done: HashSet<ObjectId> = HashSet::new();
    let mut order = Vec::with_capacity(found.len());
    for tip in tips {
        let mut stack = vec![(*tip, false)];
        while let Some((id, parents_done)) = stack.pop() {
            if parents_done {
                order.push(id);
            } else if let Some(commit) = found.get(&id).filter(|_| done.insert(id)) {
                stack.push((id, true));
                stack.extend(commit.parents.iter().rev().map(|parent| (*parent, false)));
            }
        }
    }
    Ok(order.iter().filter_map(|id| found.remove(id)).collect())
}

/// Number of commits from a tip to the first one whose parents are not published; `None`
/// if the entire history is published.
pub(crate) fn boundary_depth(
    repo: &gix::Repository,
    tips: &[ObjectId],
    depth: HistoryDepth,
) -> Result<Option<u32>, PublishError> {
    let boundary = shallow_boundary(repo)?;
    if depth == HistoryDepth::All && boundary.is_empty() {
        return Ok(None);
    }
    let (found, last) = reach(repo, tips, &boundary, depth.commits())?;
    let is_boundary = |(id, _): &&(ObjectId, u32)| {
        let mut parents = found.get(id).into_iter().flat_map(|it| &it.parents);
        parents.any(|parent| !found.contains_key(parent))
    };
    Ok(last.iter().find(is_boundary).map(|(_, depth)| *depth))
}

/// Boundary commits of a shallow clone: its history ends there even if parents exist.
fn shallow_boundary(repo: &gix::Repository) -> Result<HashSet<ObjectId>, PublishError> {
    let commits = repo.shallow_commits().map_err(|why| failed(repo, why))?;
    Ok(commits.iter().flat_map(|it| it.iter()).copied().collect())
}

/// Found commits; also the commits whose parents were not visited, with their distances
/// from a tip, nearest first.
type ReachedCommits = (HashMap<ObjectId, HistoryCommit>, Vec<(ObjectId, u32)>);

/// Returns all commits at most `max_depth - 1` steps from a tip.
fn reach(
    repo: &gix::Repository,
    tips: &[ObjectId],
    boundary: &HashSet<ObjectId>,
    max_depth: u32,
) -> Result<ReachedCommits, PublishError> {
    let mut found = HashMap::new();
    let mut last = Vec::new();
    let mut queue: VecDeque<(ObjectId, u32)> = tips.iter().map(|tip| (*tip, 1)).collect();
    while let Some((id, depth)) = queue.pop_front() {
        if found.contains_key(&id) {
            continue;
        }
        let commit = HistoryCommit::read(repo, id)?;
        if depth < max_depth && !boundary.contains(&id) {
            queue.extend(commit.parents.iter().map(|parent| (*parent, depth + 1)));
        } else {
            last.push((id, depth));
        }
        found.insert(id, commit);
    }
    Ok((found, last))
}

impl HistoryCommit {
    pub(crate) fn read(repo: &gix::Repository, id: ObjectId) -> Result<Self, PublishError> {
        let commit = git_objects::commit(repo, id)?;
        let parents = commit.parents().iter();
        let parents = parents.map(|parent| git_objects::object_id(repo, parent));
        Ok(HistoryCommit {
            id,
            tree: git_objects::object_id(repo, commit.tree())?,
            parents: parents.collect::<Result<_, _>>()?,
            committed: commit.committed(),
            len: commit.raw().len(),
        })
    }
}

/// The commits that have parents outside of this set, sorted.
pub(crate) fn shallow(commits: &[HistoryCommit]) -> Vec<GitId> {
    let selected: HashSet<ObjectId> = commits.iter().map(|commit| commit.id).collect();
    let ends = commits.iter().filter(|commit| {
        let mut parents = commit.parents.iter();
        parents.any(|parent| !selected.contains(parent))
    });
    let mut ends: Vec<GitId> = ends.map(|commit| git_id(commit.id)).collect();
    ends.sort();
    ends
}

/// Commits that are stored in one chunk.
#[derive(Debug)]
pub(crate) struct StoredCommits {
    pub(crate) raw: Bytes,
    ids: Vec<GitId>,
}

impl StoredCommits {
    /// Decodes a chunk; `None` if it is damaged and has to be recreated.
    pub(crate) fn decode(raw: &Bytes, sample: &GitId) -> Option<Self> {
        let commits = decode_commits(raw, sample).ok()?;
        Some(StoredCommits {
            raw: raw.clone(),
            ids: commits.into_iter().map(|commit| commit.id).collect(),
        })
    }
}

/// Encodes the commits in chunks. Reuses stored chunks if all their commits are
/// published. Trailing chunks that are no larger than the new content are merged with it,
/// so that many small publishes do not leave many small chunks.
pub(crate) fn encode_chunks(
    repo: &gix::Repository,
    commits: &[HistoryCommit],
    stored: &[StoredCommits],
) -> Result<Vec<Vec<u8>>, PublishError> {
    let lens: HashMap<GitId, usize> = (commits.iter())
        .map(|commit| (git_id(commit.id), commit.len))
        .collect();
    let usable = |chunk: &&StoredCommits| chunk.ids.iter().all(|id| lens.contains_key(id));
    let mut reused: Vec<&StoredCommits> = stored.iter().take_while(usable).collect();
    let in_reused = |reused: &[&StoredCommits]| -> HashSet<GitId> {
        reused
            .iter()
            .flat_map(|chunk| &chunk.ids)
            .cloned()
            .collect()
    };
    let done = in_reused(&reused);
    let new = lens.iter().filter(|(id, _)| !done.contains(id));
    let mut bytes: usize = new.map(|(_, len)| len).sum();
    while let Some(last) = reused.pop_if(|last| last.raw.len() <= bytes) {
        bytes += last.raw.len();
    }
    let done = in_reused(&reused);
    let mut chunks: Vec<Vec<u8>> = reused.iter().map(|chunk| chunk.raw.to_vec()).collect();
    let new: Vec<&HistoryCommit> = (commits.iter())
        .filter(|commit| !done.contains(&git_id(commit.id)))
        .collect();
    for group in split_by_size(&new, usize::MAX, MAX_CHUNK_BYTES, |commit| commit.len) {
        let read = |commit: &&HistoryCommit| {
            let raw = git_objects::read_as(repo, commit.id, Kind::Commit)?;
            Ok((git_id(commit.id), raw))
        };
        let raw: Vec<(GitId, Vec<u8>)> =
            (group.iter().map(read)).collect::<Result<_, PublishError>>()?;
        let encoded = encode_commits(raw.iter().map(|(id, raw)| (id, &raw[..])));
        chunks.push(encoded.map_err(PublishError::encode("a chunk of commits"))?);
    }
    Ok(chunks)
}
