//! Selects the commits of a git repository to publish, and chunks them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;

use bytes::Bytes;
use gix::ObjectId;
use gix::objs::Kind;

use super::super::PublishError;
use super::super::objects::{self, failed, git_id};
use walgit_format::commits::{decode_commits, encode_commits};
use walgit_format::head::GitId;

/// Raw bytes of commits that are compressed together in a chunk.
const CHUNK: usize = 4 << 20;

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
            (_, Err(_)) => Err("say all, none, or how many commits".into()),
        }
    }
}

/// A commit to publish.
#[derive(Clone, Debug)]
pub(in super::super) struct CommitFound {
    pub(in super::super) id: ObjectId,
    pub(in super::super) tree: ObjectId,
    pub(in super::super) parents: Vec<ObjectId>,
    /// Size of the raw commit, in bytes.
    len: usize,
}

/// Selects the commits to publish, parents before children, in an order that only depends
/// on the history.
pub(in super::super) fn select(
    repo: &gix::Repository,
    tips: &[ObjectId],
    depth: HistoryDepth,
) -> Result<Vec<CommitFound>, PublishError> {
    let (mut found, _) = reach(repo, tips, &ends(repo)?, depth.commits())?;
    let mut done: HashSet<ObjectId> = HashSet::new();
    let mut order = Vec::with_capacity(found.len());
    for tip in tips {
        let mut stack = vec![(*tip, false)];
        while let Some((id, below_done)) = stack.pop() {
            if below_done {
                order.push(id);
                continue;
            }
            let Some(commit) = found.get(&id).filter(|_| done.insert(id)) else {
                continue;
            };
            stack.push((id, true));
            stack.extend(commit.parents.iter().rev().map(|parent| (*parent, false)));
        }
    }
    Ok(order.iter().filter_map(|id| found.remove(id)).collect())
}

/// Number of commits from a tip to the first one whose parents are not published; `None`
/// if the entire history is published.
pub(in super::super) fn cut(
    repo: &gix::Repository,
    tips: &[ObjectId],
    depth: HistoryDepth,
) -> Result<Option<u32>, PublishError> {
    let ends = ends(repo)?;
    if depth == HistoryDepth::All && ends.is_empty() {
        return Ok(None);
    }
    let (found, last) = reach(repo, tips, &ends, depth.commits())?;
    let is_cut = |(id, _): &&(ObjectId, u32)| {
        let mut parents = found.get(id).into_iter().flat_map(|it| &it.parents);
        parents.any(|parent| !found.contains_key(parent))
    };
    Ok(last.iter().find(is_cut).map(|(_, depth)| *depth))
}

/// Boundary commits of a shallow clone: its history ends there even if parents exist.
fn ends(repo: &gix::Repository) -> Result<HashSet<ObjectId>, PublishError> {
    let ends = repo.shallow_commits().map_err(|why| failed(repo, why))?;
    Ok(ends.iter().flat_map(|ends| ends.iter()).copied().collect())
}

/// Found commits; also the commits whose parents were not visited, with their distances
/// from a tip, nearest first.
type Reached = (HashMap<ObjectId, CommitFound>, Vec<(ObjectId, u32)>);

/// Returns all commits at most `most - 1` steps from a tip.
fn reach(
    repo: &gix::Repository,
    tips: &[ObjectId],
    ends: &HashSet<ObjectId>,
    most: u32,
) -> Result<Reached, PublishError> {
    let mut found = HashMap::new();
    let mut last = Vec::new();
    let mut queue: VecDeque<(ObjectId, u32)> = tips.iter().map(|tip| (*tip, 1)).collect();
    while let Some((id, depth)) = queue.pop_front() {
        if found.contains_key(&id) {
            continue;
        }
        let commit = objects::commit(repo, id)?;
        let parents = commit.parents().iter();
        let parents = parents.map(|parent| objects::object_id(repo, parent));
        let parents: Vec<ObjectId> = parents.collect::<Result<_, _>>()?;
        if depth < most && !ends.contains(&id) {
            queue.extend(parents.iter().map(|parent| (*parent, depth + 1)));
        } else {
            last.push((id, depth));
        }
        let tree = objects::object_id(repo, commit.tree())?;
        let len = commit.raw().len();
        found.insert(
            id,
            CommitFound {
                id,
                tree,
                parents,
                len,
            },
        );
    }
    Ok((found, last))
}

/// The commits that have parents outside of this set, sorted.
pub(in super::super) fn shallow(commits: &[CommitFound]) -> Vec<GitId> {
    let here: HashSet<ObjectId> = commits.iter().map(|commit| commit.id).collect();
    let ends = commits.iter().filter(|commit| {
        let mut parents = commit.parents.iter();
        parents.any(|parent| !here.contains(parent))
    });
    let mut ends: Vec<GitId> = ends.map(|commit| git_id(commit.id)).collect();
    ends.sort();
    ends
}

/// Commits that are stored in one chunk.
#[derive(Debug)]
pub(in super::super) struct KnownCommits {
    pub(in super::super) raw: Bytes,
    ids: Vec<GitId>,
}

impl KnownCommits {
    /// Decodes a chunk; `None` if it is damaged and has to be recreated.
    pub(in super::super) fn read(raw: &Bytes, sample: &GitId) -> Option<Self> {
        let commits = decode_commits(raw, sample).ok()?;
        Some(KnownCommits {
            raw: raw.clone(),
            ids: commits.into_iter().map(|commit| commit.id).collect(),
        })
    }
}

/// Encodes the commits in chunks. Reuses stored chunks if all their commits are
/// published. Trailing chunks that are no larger than the new content are merged with it,
/// so that many small publishes do not leave many small chunks.
pub(in super::super) fn in_chunks(
    repo: &gix::Repository,
    commits: &[CommitFound],
    known: &[KnownCommits],
) -> Result<Vec<Vec<u8>>, PublishError> {
    let lens: HashMap<GitId, usize> = (commits.iter())
        .map(|commit| (git_id(commit.id), commit.len))
        .collect();
    let usable = |chunk: &&KnownCommits| chunk.ids.iter().all(|id| lens.contains_key(id));
    let mut kept: Vec<&KnownCommits> = known.iter().take_while(usable).collect();
    let stored = |kept: &[&KnownCommits]| -> HashSet<GitId> {
        kept.iter().flat_map(|chunk| &chunk.ids).cloned().collect()
    };
    let before = stored(&kept);
    let fresh = lens.iter().filter(|(id, _)| !before.contains(id));
    let mut bytes: usize = fresh.map(|(_, len)| len).sum();
    while let Some(last) = kept.pop_if(|last| last.raw.len() <= bytes) {
        bytes += last.raw.len();
    }
    let before = stored(&kept);
    let mut chunks: Vec<Vec<u8>> = kept.iter().map(|chunk| chunk.raw.to_vec()).collect();
    let mut pending: Vec<(GitId, Vec<u8>)> = Vec::new();
    let mut len = 0;
    let chunk = |pending: &[(GitId, Vec<u8>)]| {
        encode_commits(pending.iter().map(|(id, raw)| (id, &raw[..])))
            .map_err(PublishError::encode("a chunk of commits"))
    };
    for commit in commits {
        let id = git_id(commit.id);
        if before.contains(&id) {
            continue;
        }
        if len > 0 && len + commit.len > CHUNK {
            chunks.push(chunk(&pending)?);
            pending.clear();
            len = 0;
        }
        pending.push((id, objects::read_as(repo, commit.id, Kind::Commit)?));
        len += commit.len;
    }
    if !pending.is_empty() {
        chunks.push(chunk(&pending)?);
    }
    Ok(chunks)
}
