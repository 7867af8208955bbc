//! Checks the history of a repository as git objects.
//!
//! Commits, trees and tags are decoded, and everything that they refer to must exist:
//! `.walgit` and `log` depend on that. Objects refer to each other by number, so this
//! does not read any contents.
//!
//! To verify hashes, the history is built object by object as in
//! [`export`](crate::lifecycle::export()), but without writing a pack. An ID covers
//! everything below it, so a commit that names the tree built for it proves all of that
//! tree. If the build stops at an unreadable object, the history is decoded, and the walk
//! reads its content piece by piece, so that every fault is reported.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::checker::Checker;
use super::fault::FaultKind;
use super::options::HistoryCheck;
use super::report::HistorySummary;
use super::shown::{self, ExpectedTrees};
use crate::lifecycle::export::{
    ExportError, RebuiltHistory, check_ref_names, check_trees, hash_of,
};
use crate::lifecycle::walk::ChunkRole;
use crate::offload::Interrupted;
use crate::repo::archive::Archive;
use crate::repo::{RepoError, Repository};
use walgit_format::MalformedNode;
use walgit_format::chunk::ChunkRef;
use walgit_format::git::{RawCommit, tag_kind, tag_target};
use walgit_format::head::{AttachmentKind, CommitId, GitId};

/// The objects that commits and refs are checked against.
struct HistoryIndex<'a> {
    archive: &'a Archive,
    /// The history, if it was built.
    rebuilt: Option<&'a RebuiltHistory>,
    /// Commits whose parents are omitted.
    shallow: HashSet<&'a GitId>,
    /// Whether every commit can be found by its ID.
    is_indexed: bool,
}

impl Checker<'_> {
    /// Checks the history to the requested depth.
    pub(super) async fn history(&mut self) -> Result<(), RepoError> {
        if self.options.history == HistoryCheck::Stored {
            return Ok(());
        }
        let archive = match self.repository.archive().await {
            Ok(Some(archive)) => archive,
            Ok(None) => return self.tips().await,
            // Reported by the walk.
            Err(why) => return FaultKind::from_error(&why).map(drop),
        };
        let hash = match hash_of(self.repository) {
            Ok(hash) => hash,
            Err(why) => return self.failed("its history", why),
        };
        let mut rebuilt = None;
        if self.options.history == HistoryCheck::Hashed {
            rebuilt = self.rebuild(&archive, hash).await?;
        } else {
            self.trees(&archive, hash).await?;
        }
        let segments = archive.segments().iter();
        self.report.objects = Some(HistorySummary {
            commits: 0,
            trees: segments.clone().map(|it| it.tree_count()).sum(),
            contents: segments.map(|it| it.count() - it.tree_count()).sum(),
            tags: self.tags(&archive).await?,
            hashed: rebuilt.is_some(),
        });
        let known = HistoryIndex {
            archive: &archive,
            rebuilt: rebuilt.as_ref(),
            shallow: archive.shallow().iter().collect(),
            is_indexed: self.index(&archive).await?,
        };
        self.commits(Some(&known)).await?;
        self.refs(&known).await?;
        // The trees of an implied head are derived from the history.
        let Some(rebuilt) = rebuilt.as_ref().filter(|_| !self.repository.is_derived()) else {
            return Ok(());
        };
        let expected = ExpectedTrees::Archived(&archive, rebuilt);
        self.shown(&expected, &HashMap::new()).await
    }

    /// Checks the commits of the shown trees if there is no history.
    async fn tips(&mut self) -> Result<(), RepoError> {
        let repository = self.repository;
        if commit_chunks(repository).next().is_none() {
            return Ok(());
        }
        let mut objects = HistorySummary::default();
        let before = self.faults.count();
        self.report.objects = Some(objects);
        let trees = self.commits(None).await?;
        objects.commits = trees.len() as u64;
        if self.options.history == HistoryCheck::Hashed && self.faults.count() == before {
            match shown::listed(repository).await {
                Ok(None) => {}
                Ok(Some(listed)) => {
                    self.shown(&listed, &trees).await?;
                    objects.hashed = true;
                }
                Err(why) => self.failed("its list of git IDs", why.into())?,
            }
        }
        self.report.objects = Some(objects);
        Ok(())
    }

    /// Builds and hashes the whole history; `None` if that is impossible and the reason
    /// was reported.
    async fn rebuild(
        &mut self,
        archive: &Arc<Archive>,
        hash: gix::hash::Kind,
    ) -> Result<Option<RebuiltHistory>, RepoError> {
        self.progress.wanted(RebuiltHistory::cost(archive));
        let (progress, reported) = (self.progress, AtomicU64::new(0));
        let report = |done: u64, _| {
            let before = reported.swap(done, Ordering::Relaxed);
            progress.read(done.saturating_sub(before));
        };
        match RebuiltHistory::of(archive, hash, &report).await {
            Ok(rebuilt) => {
                self.content_read = true;
                Ok(Some(rebuilt))
            }
            Err(why) => {
                let before = self.faults.count();
                self.trees(archive, hash).await?;
                // The walk also reports unreadable data, with its location.
                if self.faults.count() == before {
                    self.failed("its history", why)?;
                }
                Ok(None)
            }
        }
    }

    /// Decodes the trees of a history.
    async fn trees(
        &mut self,
        archive: &Arc<Archive>,
        hash: gix::hash::Kind,
    ) -> Result<(), RepoError> {
        for segment in archive.segments() {
            let len = |chunk: usize| u64::from(segment.chunks[chunk].raw_len);
            let all = segment.trees.iter().map(|group| len(group.chunk)).sum();
            self.progress.wanted(all);
            let (progress, mut failed) = (self.progress, Vec::new());
            check_trees(archive, segment, hash, |group, checked| {
                progress.read(len(group.chunk));
                failed.extend(checked.err().map(|why| (group.chunk, why)));
            })
            .await;
            for (chunk, why) in failed {
                match why {
                    ExportError::Repo(why) => self.undecoded(&segment.chunks[chunk], why)?,
                    why => self.failed("its history", why)?,
                }
            }
        }
        Ok(())
    }

    /// Decodes the annotated tags of a history; returns their number.
    async fn tags(&mut self, archive: &Archive) -> Result<u64, RepoError> {
        let mut count = 0;
        for segment in archive.segments() {
            for &chunk in &segment.tags {
                let reference = &segment.chunks[chunk];
                let group = match archive.group(segment, chunk).await {
                    Ok(group) => group,
                    Err(why) => {
                        self.undecoded(reference, why)?;
                        continue;
                    }
                };
                if group.iter().any(|raw| tag_target(&raw).is_none()) {
                    let malformed = RepoError::Malformed {
                        what: "history",
                        hash: reference.hash,
                        why: MalformedNode::Sum("parts of a git tag"),
                    };
                    self.undecoded(reference, malformed)?;
                }
                count += group.len() as u64;
            }
        }
        Ok(count)
    }

    /// Whether the commits of a history can be found by their IDs.
    async fn index(&mut self, archive: &Archive) -> Result<bool, RepoError> {
        let Err(why) = archive.commits().await else {
            return Ok(true);
        };
        let before = self.faults.count();
        self.decode_commits().await?;
        if self.faults.count() == before {
            self.failed("its history", why.into())?;
        }
        Ok(false)
    }

    /// Decodes every chunk of commits, and reports undecodable ones.
    async fn decode_commits(&mut self) -> Result<(), RepoError> {
        let repository = self.repository;
        for (table, at) in commit_chunks(repository) {
            if let Err(why) = repository.commits_in(table, at).await {
                self.undecoded(&table[at], why)?;
            }
        }
        Ok(())
    }

    /// Checks all commits, one chunk at a time; returns the trees of those that are
    /// shown.
    async fn commits(
        &mut self,
        known: Option<&HistoryIndex<'_>>,
    ) -> Result<HashMap<GitId, GitId>, RepoError> {
        if known.is_none() {
            self.decode_commits().await?;
        }
        let repository = self.repository;
        let mut tips: HashSet<&GitId> = (repository.head().commits.iter())
            .filter_map(|commit| match &commit.id {
                CommitId::Git(id) => Some(id),
                _ => None,
            })
            .collect();
        let mut complete = true;
        let mut trees = HashMap::new();
        for (table, at) in commit_chunks(repository) {
            // The error has been reported already.
            let Ok(commits) = repository.commits_in(table, at).await else {
                complete = false;
                continue;
            };
            if let Some(objects) = &mut self.report.objects {
                objects.commits += commits.len() as u64;
            }
            for commit in commits {
                if tips.remove(&commit.id) {
                    trees.insert(commit.id.clone(), commit.tree().clone());
                }
                if let Some(known) = known {
                    self.commit(known, &commit).await?;
                }
            }
        }
        if complete {
            for tip in tips {
                self.missing("the head", tip);
            }
        }
        Ok(trees)
    }

    /// Verifies that the tree and the parents of a commit exist, and that the tree has
    /// the ID that the commit names.
    async fn commit(
        &mut self,
        known: &HistoryIndex<'_>,
        commit: &RawCommit,
    ) -> Result<(), RepoError> {
        let commit_name = || format!("commit {}", commit.id);
        let checked = match known.rebuilt {
            Some(rebuilt) => rebuilt.check(commit),
            None => {
                let root = known.archive.root_of(&commit.id.0);
                let is_stored = root.is_some_and(|root| known.archive.holds_tree(root));
                is_stored.then_some(()).ok_or_else(|| ExportError::Missing {
                    from: commit_name(),
                    to: format!("tree {}", commit.tree()),
                })
            }
        };
        if let Err(why) = checked {
            self.failed(&commit_name(), why)?;
        }
        if !known.is_indexed || known.shallow.contains(&commit.id) {
            return Ok(());
        }
        for parent in commit.parents() {
            if known.archive.committed(parent).await?.is_none() {
                self.missing(commit_name(), parent);
            }
        }
        Ok(())
    }

    /// Verifies that git allows the names of the refs of a history, and that their
    /// targets exist.
    async fn refs(&mut self, known: &HistoryIndex<'_>) -> Result<(), RepoError> {
        if let Err(why) = check_ref_names(known.archive) {
            self.failed("its history", why)?;
        }
        let targets = match known.archive.tag_targets().await {
            Ok(targets) if known.is_indexed => targets,
            Ok(_) => return Ok(()),
            Err(why) => {
                // An unreadable group of tags has been reported already.
                return match self.faults.count() {
                    0 => self.failed("its history", why.into()),
                    _ => FaultKind::from_error(&why).map(drop),
                };
            }
        };
        let mut uncommitted: Option<HashSet<GitId>> = None;
        for reference in known.archive.refs() {
            let name = String::from_utf8_lossy(&reference.name);
            let (mut from, mut at) = (name.to_string(), &reference.id);
            while let Some(to) = targets.get(at) {
                from = format!("tag {at}");
                at = to;
            }
            if known.archive.committed(at).await?.is_some() {
                continue;
            }
            let is_there = match (known.rebuilt, &uncommitted) {
                (Some(rebuilt), _) => rebuilt.holds(at),
                // The IDs of trees and contents are unknown unless the history was built.
                (None, _) if *at == reference.id => name.starts_with("refs/tags/"),
                (None, Some(uncommitted)) => uncommitted.contains(at),
                (None, None) => {
                    let found = uncommitted.insert(uncommitted_of(known.archive).await?);
                    found.contains(at)
                }
            };
            if !is_there {
                self.missing(from, at);
            }
        }
        Ok(())
    }

    fn missing(&mut self, from: impl std::fmt::Display, to: &GitId) {
        self.faults.object(from, FaultKind::Incomplete, missing(to));
    }

    /// Records a group of objects that cannot be decoded.
    fn undecoded(&mut self, chunk: &ChunkRef, why: RepoError) -> Result<(), RepoError> {
        let kind = FaultKind::from_error(&why)?;
        (self.faults).chunk(chunk, ChunkRole::Objects, kind, why.to_string());
        Ok(())
    }

    /// Records a fault of an object; other errors end the check.
    pub(super) fn failed(&mut self, what: &str, why: ExportError) -> Result<(), RepoError> {
        let (kind, why) = match why {
            ExportError::Repo(why) => (FaultKind::from_error(&why)?, why.to_string()),
            ExportError::Altered {
                expected, found, ..
            } => {
                let why =
                    format!("it names the tree {expected}, but the stored tree hashes to {found}");
                (FaultKind::Altered, why)
            }
            ExportError::Missing { to, .. } => (FaultKind::Incomplete, missing(&to)),
            ExportError::Interrupted => return Err(Interrupted.into()),
            why => (FaultKind::Malformed, why.to_string()),
        };
        self.faults.object(what, kind, why);
        Ok(())
    }
}

/// Describes a reference to an object that is not stored.
fn missing(to: &dyn std::fmt::Display) -> String {
    format!("it refers to {to}, which is not in the history")
}

/// Returns the chunks of commits of a head: their tables and their positions.
fn commit_chunks(repository: &Repository) -> impl Iterator<Item = (&[ChunkRef], usize)> {
    let attached = repository.head().attachments.iter();
    let attached = attached.filter(|it| it.kind == AttachmentKind::GitCommits);
    attached.flat_map(|it| (0..it.chunks.len()).map(move |at| (&it.chunks[..], at)))
}

/// Returns the targets of annotated tags that are trees or contents. Their number
/// is limited by [`Archive::tag_targets`].
async fn uncommitted_of(archive: &Archive) -> Result<HashSet<GitId>, RepoError> {
    let mut found = HashSet::new();
    for segment in archive.segments() {
        for &chunk in &segment.tags {
            let group = archive.group(segment, chunk).await?;
            let others =
                (group.iter()).filter(|raw| !matches!(tag_kind(raw), Some(b"commit" | b"tag")));
            found.extend(others.filter_map(|raw| tag_target(&raw)));
        }
    }
    Ok(found)
}
