//! Compares two commits by ancestry.

use std::collections::HashSet;

use super::access::Target;
use super::error::RepoError;
use super::repository::Repository;
use super::resolve::MAX_ANCESTORS;
use walgit_format::head::CommitId;

/// Ancestors of a commit, newest first; follows only the first parent.
struct FirstParents<'a> {
    repository: &'a Repository,
    next: Option<Target>,
    seen: HashSet<String>,
}

impl Repository {
    /// Whether the commit of this repository is an ancestor of the commit of `other`.
    /// Follows only commits whose parents can be opened: those of WalGit, on the
    /// chain or in manifests.
    pub async fn precedes(&self, other: &Repository) -> Result<bool, RepoError> {
        let (older, newer) = (self.target().id(), other.target().id());
        let [mut forward, mut backward] = [self, other].map(FirstParents::before);
        // Alternates between both sides, so that the number of requests depends on
        // the distance, not on the length of the history.
        for _ in 0..MAX_ANCESTORS {
            match backward.step().await? {
                Some(id) if id == older => return Ok(true),
                Some(_) => {}
                None => return Ok(false),
            }
            if forward.step().await? == Some(newer.clone()) {
                return Ok(false);
            }
        }
        Ok(false)
    }
}

impl<'a> FirstParents<'a> {
    fn before(repository: &'a Repository) -> Self {
        FirstParents {
            repository,
            next: repository.parents().into_iter().next(),
            seen: HashSet::new(),
        }
    }

    /// The next ancestor; `None` at the root commit or in a cycle.
    async fn step(&mut self) -> Result<Option<CommitId>, RepoError> {
        let Some(target) = self.next.take() else {
            return Ok(None);
        };
        let id = target.id();
        if !self.seen.insert(id.to_string()) {
            return Ok(None);
        }
        self.next = match &target {
            // Does not need the tree.
            Target::Commit(object) => {
                let chain = self.repository.access().chain()?;
                let parent = chain.object(*object).await?.commit()?.parent;
                parent.map(Target::Commit)
            }
            target => {
                let opened = self.repository.open_sibling(target).await?;
                opened.parents().into_iter().next()
            }
        };
        Ok(Some(id))
    }
}
