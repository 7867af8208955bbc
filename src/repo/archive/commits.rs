//! Commits and tags of an archive.

use std::collections::HashMap;

use bytes::Bytes;

use super::commit_index::{CommitIndex, Indexed};
use super::reader::Archive;
use crate::offload::offload;
use crate::repo::error::RepoError;
use walgit_format::MalformedNode;
use walgit_format::chunk::ChunkHash;
use walgit_format::commits::decode_commits;
use walgit_format::git::{RawCommit, tag_target};
use walgit_format::head::GitId;

/// Bytes of memory per tag target.
const TAG_TARGET_BYTES: u64 = 256;
/// Maximum length of a chain of tags.
const MAX_TAG_CHAIN: usize = 16;
/// Minimum length of an ID prefix.
const MIN_ID_PREFIX: usize = 7;

impl Archive {
    async fn index(&self) -> Result<&CommitIndex, RepoError> {
        self.index.get_or_try_init(|| self.read_index()).await
    }

    async fn read_index(&self) -> Result<CommitIndex, RepoError> {
        // Sorting needs a second copy.
        let each = 2 * (size_of::<Indexed>() + size_of::<u32>()) as u64;
        let max_count = self.memory_left / each;
        let mut commits: Vec<Indexed> = Vec::new();
        for chunk in 0..self.commits.len() {
            let found = self.commits_in(chunk).await?;
            if (commits.len() + found.len()) as u64 > max_count {
                let what = format!("a history of more than {max_count} commits");
                return Err(RepoError::TooLarge(what));
            }
            let found = found.iter().enumerate();
            commits.extend(found.map(|(at, commit)| Indexed::new(commit, chunk, at)));
        }
        Ok(CommitIndex::of(commits))
    }

    async fn commits_in(&self, chunk: usize) -> Result<Vec<RawCommit>, RepoError> {
        let raw = self.chunk(&self.commits, chunk).await?;
        decode_commits_of(self.commits[chunk].hash, raw, &self.sample).await
    }

    /// Every commit and its time, in seconds since 1970; newest first.
    pub async fn commits(&self) -> Result<impl Iterator<Item = (GitId, i64)>, RepoError> {
        let index = self.index().await?;
        let commits = index.newest.iter().map(|&at| &index.commits[at as usize]);
        Ok(commits.map(|commit| (commit.git(), commit.committed_at)))
    }

    /// Time of a commit, in seconds since 1970; `None` if it is not in the archive.
    pub async fn committed(&self, id: &GitId) -> Result<Option<i64>, RepoError> {
        Ok(self
            .index()
            .await?
            .find(id)
            .map(|commit| commit.committed_at))
    }

    /// Resolves a commit ID or an ID prefix.
    pub async fn named(&self, name: &str) -> Result<Option<GitId>, RepoError> {
        let hex = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || name.len() < MIN_ID_PREFIX {
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
            for _ in 0..MAX_TAG_CHAIN {
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
    pub async fn tag_targets(&self) -> Result<&HashMap<GitId, GitId>, RepoError> {
        self.targets.get_or_try_init(|| self.read_targets()).await
    }

    async fn read_targets(&self) -> Result<HashMap<GitId, GitId>, RepoError> {
        let mut targets: HashMap<GitId, GitId> = HashMap::new();
        let max_count = (self.memory_left / TAG_TARGET_BYTES) as usize;
        for segment in self.segments() {
            for chunk in &segment.tags {
                let group = self.group(segment, *chunk).await?;
                if targets.len() + group.len() > max_count {
                    let what = format!("a history of more than {max_count} annotated tags");
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
    pub async fn commit(&self, id: &GitId) -> Result<Option<RawCommit>, RepoError> {
        let Some(&Indexed { chunk, at, .. }) = self.index().await?.find(id) else {
            return Ok(None);
        };
        let commits = self.commits_in(chunk as usize).await?;
        Ok(commits.into_iter().nth(at as usize))
    }
}

/// Decodes a chunk of commits with IDs of the same hash function as `sample`.
pub(crate) async fn decode_commits_of(
    hash: ChunkHash,
    raw: Bytes,
    sample: &GitId,
) -> Result<Vec<RawCommit>, RepoError> {
    let sample = sample.clone();
    let decoded = offload(raw.len(), move || decode_commits(&raw, &sample)).await?;
    decoded.map_err(|why| RepoError::Malformed {
        what: "list of commits",
        hash,
        why,
    })
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
