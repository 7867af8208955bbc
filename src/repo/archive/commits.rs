//! Index of the commits in an archive by ID.

use std::collections::HashMap;

use bytes::Bytes;

use super::reader::Archive;
use crate::offload::offload;
use crate::repo::RepoError;
use walgit_format::MalformedNode;
use walgit_format::commits::decode_commits;
use walgit_format::git::{RawCommit, tag_target};
use walgit_format::head::GitId;

/// Location of each commit.
#[derive(Debug)]
pub(in crate::repo) struct CommitIndex {
    /// Sorted by ID, without duplicates.
    commits: Vec<Indexed>,
    /// Indexes into `commits`, newest first.
    newest: Vec<u32>,
}

/// A commit with its location and time.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    id: [u8; 32],
    /// Length of the ID in bytes.
    len: u8,
    /// Index of its chunk of commits.
    chunk: u32,
    /// Its index within the chunk.
    at: u32,
    /// Seconds since 1970.
    made: i64,
}

impl Indexed {
    fn new(commit: &RawCommit, chunk: usize, at: usize) -> Self {
        let mut id = [0; 32];
        let len = commit.id.0.len().min(id.len());
        id[..len].copy_from_slice(&commit.id.0[..len]);
        Indexed {
            id,
            len: len as u8,
            chunk: chunk as u32,
            at: at as u32,
            made: commit.committed(),
        }
    }

    fn id(&self) -> &[u8] {
        &self.id[..usize::from(self.len)]
    }

    fn git(&self) -> GitId {
        GitId(self.id().to_vec())
    }
}

impl CommitIndex {
    fn of(mut commits: Vec<Indexed>) -> Self {
        commits.sort_unstable_by(|a, b| a.id().cmp(b.id()));
        commits.dedup_by(|a, b| a.id() == b.id());
        let mut newest: Vec<u32> = (0..commits.len() as u32).collect();
        newest.sort_by_key(|&at| std::cmp::Reverse(commits[at as usize].made));
        CommitIndex { commits, newest }
    }

    /// Bytes of memory that it occupies.
    pub(super) fn weight(&self) -> u64 {
        (self.commits.len() * (size_of::<Indexed>() + size_of::<u32>())) as u64
    }

    fn find(&self, id: &GitId) -> Option<&Indexed> {
        let at = (self.commits.binary_search_by(|known| known.id().cmp(&id.0))).ok()?;
        Some(&self.commits[at])
    }

    /// The only commit whose ID starts with these digits; `None` if ambiguous.
    fn starting(&self, digits: &str) -> Option<GitId> {
        let digits = digits.to_ascii_lowercase();
        let before = |known: &Indexed| *GitId::to_string(&known.git()) < *digits;
        let first = self.commits.partition_point(before);
        let mut found = (self.commits[first..].iter())
            .map(Indexed::git)
            .take_while(|id| id.to_string().starts_with(&digits));
        let only = found.next()?;
        found.next().is_none().then_some(only)
    }
}

impl Archive {
    async fn index(&self) -> Result<&CommitIndex, RepoError> {
        self.index.get_or_try_init(|| self.read_index()).await
    }

    async fn read_index(&self) -> Result<CommitIndex, RepoError> {
        // Sorting needs a second copy.
        let each = 2 * (size_of::<Indexed>() + size_of::<u32>()) as u64;
        let most = self.memory_left / each;
        let mut commits: Vec<Indexed> = Vec::new();
        for chunk in 0..self.commits.len() {
            let found = self.commits_in(chunk).await?;
            if (commits.len() + found.len()) as u64 > most {
                let what = format!("a history of more than {most} commits");
                return Err(RepoError::TooLarge(what));
            }
            let found = found.iter().enumerate();
            commits.extend(found.map(|(at, commit)| Indexed::new(commit, chunk, at)));
        }
        Ok(CommitIndex::of(commits))
    }

    async fn commits_in(&self, chunk: usize) -> Result<Vec<RawCommit>, RepoError> {
        let raw = self.chunk(&self.commits, chunk).await?;
        let sample = self.sample.clone();
        let commits = offload(raw.len(), move || decode_commits(&raw, &sample)).await?;
        commits.map_err(|why| RepoError::Malformed {
            what: "list of commits",
            hash: self.commits[chunk].hash,
            why,
        })
    }

    /// Every commit and its time, in seconds since 1970; newest first.
    ///
    /// # Errors
    /// [`RepoError::Malformed`], or a read error.
    pub async fn commits(&self) -> Result<impl Iterator<Item = (GitId, i64)>, RepoError> {
        let index = self.index().await?;
        let commits = index.newest.iter().map(|&at| &index.commits[at as usize]);
        Ok(commits.map(|commit| (commit.git(), commit.made)))
    }

    /// Time of a commit, in seconds since 1970; `None` if it is not in the archive.
    ///
    /// # Errors
    /// As [`commits`](Self::commits).
    pub async fn committed(&self, id: &GitId) -> Result<Option<i64>, RepoError> {
        Ok(self.index().await?.find(id).map(|commit| commit.made))
    }

    /// Resolves a commit ID or an ID prefix.
    ///
    /// # Errors
    /// As [`commits`](Self::commits).
    pub async fn named(&self, name: &str) -> Result<Option<GitId>, RepoError> {
        let hex = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || name.len() < MIN_PREFIX {
            return Ok(None);
        }
        Ok(self.index().await?.starting(name))
    }

    /// The tags of the repository: name and target commit.
    ///
    /// # Errors
    /// [`RepoError::Malformed`], or an error reading a tag object.
    pub async fn tags(&self) -> Result<Vec<(Bytes, GitId)>, RepoError> {
        let targets = self.tag_targets().await?;
        let tags = self.refs().iter().filter_map(|reference| {
            let name = reference.name.strip_prefix(b"refs/tags/")?;
            let mut at = &reference.id;
            // Longer chains of tags do not occur in practice.
            for _ in 0..MAX_CHAIN {
                let Some(target) = targets.get(at) else { break };
                at = target;
            }
            // Tags of trees and blobs are exported, but cannot be shown.
            self.root_of(&at.0)?;
            Some((reference.name.slice_ref(name), at.clone()))
        });
        Ok(tags.collect())
    }

    /// The target of each annotated tag, by the ID of the tag.
    ///
    /// # Errors
    /// As [`tags`](Self::tags).
    pub async fn tag_targets(&self) -> Result<&HashMap<GitId, GitId>, RepoError> {
        self.targets.get_or_try_init(|| self.read_targets()).await
    }

    async fn read_targets(&self) -> Result<HashMap<GitId, GitId>, RepoError> {
        let mut targets: HashMap<GitId, GitId> = HashMap::new();
        let most = (self.memory_left / TARGET) as usize;
        for segment in self.segments() {
            for chunk in &segment.tags {
                let group = self.group(segment, *chunk).await?;
                if targets.len() + group.len() > most {
                    let what = format!("a history of more than {most} annotated tags");
                    return Err(RepoError::TooLarge(what));
                }
                let sample = self.sample.clone();
                let read = move || -> Option<Vec<(GitId, GitId)>> {
                    let tags = group.iter().filter_map(|raw| {
                        let target = tag_target(&raw)?;
                        let id = hash(&sample, gix::objs::Kind::Tag, &raw);
                        Some(id.map(|id| (id, target)))
                    });
                    tags.collect()
                };
                let len = segment.chunks[*chunk].raw_len as usize;
                let read = offload(len, read).await?;
                targets.extend(read.ok_or_else(|| self.malformed(MalformedNode::Sum("a tag")))?);
            }
        }
        Ok(targets)
    }

    /// The commit that a tag resolves to.
    ///
    /// # Errors
    /// As [`tags`](Self::tags).
    pub async fn tagged(&self, name: &[u8]) -> Result<Option<GitId>, RepoError> {
        let full = [b"refs/tags/", name].concat();
        if !self.refs().iter().any(|it| it.name == full) {
            return Ok(None);
        }
        let tags = self.tags().await?;
        let found = tags.into_iter().find(|(tag, _)| tag == name);
        Ok(found.map(|(_, commit)| commit))
    }

    /// Returns a commit; `None` if it is not in the archive.
    ///
    /// # Errors
    /// As [`commits`](Self::commits).
    pub async fn commit(&self, id: &GitId) -> Result<Option<RawCommit>, RepoError> {
        let Some(&Indexed { chunk, at, .. }) = self.index().await?.find(id) else {
            return Ok(None);
        };
        let commits = self.commits_in(chunk as usize).await?;
        Ok(commits.into_iter().nth(at as usize))
    }
}

/// The ID of a git object, with the hash function of `sample`.
fn hash(sample: &GitId, kind: gix::objs::Kind, raw: &[u8]) -> Option<GitId> {
    let hash = match sample.0.len() {
        32 => gix::hash::Kind::Sha256,
        _ => gix::hash::Kind::Sha1,
    };
    let id = gix::objs::compute_hash(hash, kind, raw).ok()?;
    Some(GitId(id.as_slice().to_vec()))
}

/// Bytes of memory per tag target.
const TARGET: u64 = 256;
/// Maximum length of a chain of tags.
const MAX_CHAIN: usize = 16;
/// Minimum length of an ID prefix.
const MIN_PREFIX: usize = 7;
