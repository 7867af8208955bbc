//! Resolves names of branches, tags and commits to the trees of a repository.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::access::Target;
use super::archive::Archive;
use super::error::RepoError;
use super::repository::Repository;
use super::snapshot::Snapshot;
use walgit_format::head::{AttachmentKind, CommitId, GitId, join_names};
use walgit_format::{Commit, RefKind};

/// Number of ancestors to search for a commit that only its descendants reference.
pub const MAX_ANCESTORS: usize = 1000;

impl Repository {
    /// The tree of commit number `commit` of the head.
    ///
    /// # Errors
    /// [`RepoError::NoRef`] if the head has fewer commits.
    pub fn snapshot(&self, commit: usize) -> Result<Snapshot, RepoError> {
        if commit >= self.head().commits.len() {
            return Err(self.no_ref(&commit.to_string()));
        }
        Ok(Snapshot::new(self.clone(), commit))
    }

    /// The tree of a branch, a tag or a commit; of the default branch for `None`.
    ///
    /// If the head does not contain it, searches the other branches and tags, then
    /// the archive, then the ancestors of this commit one by one.
    ///
    /// # Errors
    /// [`RepoError::NoRef`], which lists the known refs; or the error that prevented
    /// reading a commit.
    pub async fn snapshot_of(&self, name: Option<&str>) -> Result<Snapshot, RepoError> {
        let Some(name) = name else {
            return self.snapshot(0);
        };
        if let Some(commit) = self.head().resolve(name) {
            return self.snapshot(commit);
        }
        let mut siblings = self.sibling_refs().iter();
        if let Some(sibling) = siblings.find(|it| it.name == name.as_bytes()) {
            return self.open_sibling(&sibling.target).await?.snapshot(0);
        }
        if let Some(commit) = self.archived_as(name).await? {
            return self.open_sibling(&commit).await?.snapshot(0);
        }
        let mut at = self.clone();
        for _ in 0..MAX_ANCESTORS {
            let Some(parent) = at.parents().into_iter().next() else {
                break;
            };
            at = self.open_sibling(&parent).await?;
            if let Some(commit) = at.head().resolve(name) {
                return at.snapshot(commit);
            }
        }
        Err(self.no_ref(name))
    }

    /// Returns the archive, which the loader caches; `None` if the repository has none.
    pub async fn archive(&self) -> Result<Option<Arc<Archive>>, RepoError> {
        if !self.has_archive() {
            return Ok(None);
        }
        let (loader, blob) = (self.loader(), self.blob());
        if let Some(known) = blob.and_then(|blob| loader.archives.get(&blob)) {
            return Ok(Some(known));
        }
        let archive = self.load_archive().await?.map(Arc::new);
        if let (Some(archive), Some(blob)) = (&archive, blob) {
            let weight = |archive: &Arc<Archive>| archive.weight();
            loader.archives.keep(blob, archive.clone(), weight);
        }
        Ok(archive)
    }

    /// Like [`archive`](Self::archive), without the cache of the loader.
    pub async fn load_archive(&self) -> Result<Option<Archive>, RepoError> {
        Archive::load(self.loader().cache(), self.store(), self.head()).await
    }

    /// Whether the repository has an archive.
    pub fn has_archive(&self) -> bool {
        self.head().has_attachment(AttachmentKind::Archive)
    }

    /// The target of a commit in the archive.
    pub fn archived_target(&self, commit: GitId) -> Option<Target> {
        let (blob, root) = (self.blob()?, self.root());
        Some(Target::Archived { blob, root, commit })
    }

    /// Resolves a tag, a commit ID or an ID prefix to a commit in the archive.
    async fn archived_as(&self, name: &str) -> Result<Option<Target>, RepoError> {
        let Some(archive) = self.archive().await? else {
            return Ok(None);
        };
        let mut commit = archive.tagged(name.as_bytes()).await?;
        if commit.is_none() {
            commit = archive.named(name).await?;
        }
        Ok(commit.and_then(|commit| self.archived_target(commit)))
    }

    /// Opens a commit in the archive.
    pub(super) async fn archived(&self, id: &GitId) -> Result<Repository, RepoError> {
        let none = || self.no_ref(&id.to_string());
        let archive = self.archive().await?.ok_or_else(none)?;
        let commit = archive.commit(id).await?.ok_or_else(none)?;
        let root = archive.root_of(&id.0).ok_or_else(none)?;
        let target = self.archived_target(id.clone()).ok_or_else(none)?;
        let blob = self.blob().ok_or_else(none)?;
        let tree = archive.tree_of(&self.access().account, root, blob).await?;
        let commit = Commit {
            id: id.clone().into(),
            root: tree.root.clone(),
            nodes: tree.nodes,
            bytes: tree.bytes,
            author: commit.author(),
            committer: commit.committer(),
            message: Bytes::copy_from_slice(commit.message()),
            parents: (commit.parents().iter().cloned())
                .map(CommitId::from)
                .collect(),
        };
        self.of_archived(target, commit, tree)
    }

    /// Opens another target of the same repository, with the same access.
    pub async fn open_sibling(&self, target: &Target) -> Result<Repository, RepoError> {
        let access = self.access();
        self.loader().open_target(access, target).await
    }

    /// Every branch and tag: kind, name and commit ID.
    pub fn refs(&self) -> Vec<(RefKind, Bytes, CommitId)> {
        let head = self.head();
        let mut all: Vec<_> = (head.refs.iter())
            .map(|r| (r.kind, r.name.clone(), head.commits[r.commit].id.clone()))
            .collect();
        let mut known: HashSet<(RefKind, Bytes)> = names_of(&all);
        for sibling in self.sibling_refs() {
            if known.insert((sibling.kind, sibling.name.clone())) {
                all.push((sibling.kind, sibling.name.clone(), sibling.target.id()));
            }
        }
        all.sort();
        all
    }

    /// Every branch and tag, including the tags in the archive.
    pub async fn all_refs(&self) -> Result<Vec<(RefKind, Bytes, CommitId)>, RepoError> {
        let mut all = self.refs();
        if let Some(archive) = self.archive().await? {
            let known = names_of(&all);
            for (name, commit) in archive.tags().await? {
                if !known.contains(&(RefKind::Tag, name.clone())) {
                    all.push((RefKind::Tag, name, commit.into()));
                }
            }
            all.sort();
        }
        Ok(all)
    }

    fn no_ref(&self, name: &str) -> RepoError {
        let siblings = self.sibling_refs();
        let known = if siblings.is_empty() {
            self.head().ref_names()
        } else {
            join_names(siblings.iter().map(|it| &it.name))
        };
        let name = name.into();
        RepoError::NoRef { name, known }
    }
}

/// Kinds and names of refs.
fn names_of(refs: &[(RefKind, Bytes, CommitId)]) -> HashSet<(RefKind, Bytes)> {
    let names = refs.iter().map(|(kind, name, _)| (*kind, name.clone()));
    names.collect()
}
