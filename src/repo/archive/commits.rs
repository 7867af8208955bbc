//! The commits of an archive, by their IDs.

use std::collections::HashMap;

use bytes::Bytes;

use super::reader::Archive;
use crate::repo::commits::decode_commits;
use crate::repo::git::{RawCommit, tag_target};
use crate::repo::head::GitId;
use crate::repo::{MalformedNode, RepoError};

/// Where each commit is.
#[derive(Debug)]
pub(in crate::repo) struct CommitIndex {
    places: HashMap<GitId, Place>,
    /// Every commit and when it was made, in seconds since 1970; the newest
    /// first.
    newest: Vec<(GitId, i64)>,
}

/// Where a commit is: its chunk of commits, which one in it, and when it was
/// made.
type Place = (usize, usize, i64);

impl Archive {
    async fn index(&self) -> Result<&CommitIndex, RepoError> {
        self.index.get_or_try_init(|| self.read_index()).await
    }

    async fn read_index(&self) -> Result<CommitIndex, RepoError> {
        let (mut places, mut newest) = (HashMap::new(), Vec::new());
        for chunk in 0..self.commits.len() {
            for (at, commit) in self.commits_in(chunk).await?.into_iter().enumerate() {
                newest.push((commit.id.clone(), commit.committed()));
                let made = commit.committed();
                places.insert(commit.id, (chunk, at, made));
            }
        }
        newest.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
        Ok(CommitIndex { places, newest })
    }

    async fn commits_in(&self, chunk: usize) -> Result<Vec<RawCommit>, RepoError> {
        let raw = self.chunk(&self.commits, chunk).await?;
        decode_commits(&raw, &self.sample).map_err(|why| RepoError::Malformed {
            what: "list of commits",
            hash: self.commits[chunk].hash,
            why,
        })
    }

    /// Every commit and when it was made, in seconds since 1970; the newest
    /// first.
    ///
    /// # Errors
    /// What kept them from being read, or [`RepoError::Malformed`].
    pub async fn commits(&self) -> Result<&[(GitId, i64)], RepoError> {
        Ok(&self.index().await?.newest)
    }

    /// When a commit was made, in seconds since 1970; `None` where it is not in
    /// the archive.
    ///
    /// # Errors
    /// As [`commits`](Self::commits).
    pub async fn committed(&self, id: &GitId) -> Result<Option<i64>, RepoError> {
        Ok(self.index().await?.places.get(id).map(|(_, _, at)| *at))
    }

    /// The commit that an ID, or the start of one, stands for.
    ///
    /// # Errors
    /// As [`commits`](Self::commits).
    pub async fn named(&self, name: &str) -> Result<Option<GitId>, RepoError> {
        let hex = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || name.len() < MIN_PREFIX {
            return Ok(None);
        }
        let index = self.index().await?;
        let name = name.to_ascii_lowercase();
        let mut found = (index.newest.iter()).filter(|(id, _)| id.to_string().starts_with(&name));
        let first = found.next();
        Ok(match found.next() {
            Some(_) => None,
            None => first.map(|(id, _)| id.clone()),
        })
    }

    /// The tags of the repository: name, and the commit that each leads to.
    ///
    /// # Errors
    /// What kept a tag object from being read, or [`RepoError::Malformed`].
    pub async fn tags(&self) -> Result<Vec<(Bytes, GitId)>, RepoError> {
        let mut objects: HashMap<GitId, Bytes> = HashMap::new();
        for segment in self.segments() {
            for chunk in &segment.tags {
                for raw in self.group(segment, *chunk).await?.iter() {
                    let id = hash(&self.sample, gix::objs::Kind::Tag, raw);
                    let id = id.ok_or_else(|| self.malformed(MalformedNode::Sum("a tag")))?;
                    objects.insert(id, raw.clone());
                }
            }
        }
        let tags = self.refs().iter().filter_map(|reference| {
            let name = reference.name.strip_prefix(b"refs/tags/")?;
            let mut at = reference.id.clone();
            // Longer chains of tags are nobody's.
            for _ in 0..MAX_CHAIN {
                let Some(raw) = objects.get(&at) else { break };
                at = tag_target(raw)?;
            }
            // Tags of trees and of contents are exported, and nothing else.
            self.root_of(&at.0)?;
            Some((reference.name.slice_ref(name), at))
        });
        Ok(tags.collect())
    }

    /// The commit that a tag leads to.
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

    /// A commit and when it was made; `None` where it is not in the archive.
    ///
    /// # Errors
    /// As [`commits`](Self::commits).
    pub async fn commit(&self, id: &GitId) -> Result<Option<RawCommit>, RepoError> {
        let Some(&(chunk, at, _)) = self.index().await?.places.get(id) else {
            return Ok(None);
        };
        Ok(self.commits_in(chunk).await?.into_iter().nth(at))
    }
}

/// The ID of a git object, of the kind of `sample`.
fn hash(sample: &GitId, kind: gix::objs::Kind, raw: &[u8]) -> Option<GitId> {
    let hash = match sample.0.len() {
        32 => gix::hash::Kind::Sha256,
        _ => gix::hash::Kind::Sha1,
    };
    let id = gix::objs::compute_hash(hash, kind, raw).ok()?;
    Some(GitId(id.as_slice().to_vec()))
}

/// Most tags that lead to one another.
const MAX_CHAIN: usize = 16;
/// Shortest start of an ID that stands for it.
const MIN_PREFIX: usize = 7;
