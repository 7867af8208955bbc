//! Which of two commits came first.

use std::collections::HashSet;

use super::access::Target;
use super::{MAX_ANCESTORS, RepoError, Repository};
use walgit_format::head::CommitId;

/// Commits before one, the newest first; of several parents the first.
struct Line<'a> {
    repository: &'a Repository,
    next: Option<Target>,
    seen: HashSet<String>,
}

impl Repository {
    /// Whether this repository is at a commit that came before the one that `other`
    /// is at. Only commits that lead to the ones before are compared: those of
    /// WalGit, on the chain or in manifests.
    ///
    /// # Errors
    /// What kept a commit from being read.
    pub async fn precedes(&self, other: &Repository) -> Result<bool, RepoError> {
        let (older, newer) = (self.target().id(), other.target().id());
        let [mut forward, mut backward] = [self, other].map(Line::before);
        // Step by step on both sides: what is asked for depends on how far they
        // are apart, not on how long the history is.
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

impl<'a> Line<'a> {
    fn before(repository: &'a Repository) -> Self {
        Line {
            repository,
            next: repository.parents().into_iter().next(),
            seen: HashSet::new(),
        }
    }

    /// The next one before; `None` at the beginning, or where it runs in circles.
    async fn step(&mut self) -> Result<Option<CommitId>, RepoError> {
        let Some(target) = self.next.take() else {
            return Ok(None);
        };
        let id = target.id();
        if !self.seen.insert(id.to_string()) {
            return Ok(None);
        }
        self.next = match &target {
            // Its tree is not needed.
            Target::Commit(object) => {
                let chain = self.repository.access().chain()?;
                let parent = chain.object(*object).await?.commit()?.parent;
                parent.map(Target::Commit)
            }
            target => {
                let opened = self.repository.open_relative(target).await?;
                opened.parents().into_iter().next()
            }
        };
        Ok(Some(id))
    }
}
