//! Identity of the content to publish, for checking moves of its name.

use std::path::Path;

use bytes::Bytes;
use gix::ObjectId;

use super::error::PublishError;
use super::folder;
use super::git::{self, BranchTip, GitSource};
use super::git_objects::{self, git_id};
use super::history::commits::{self, HistoryDepth};
use crate::repo::{Lineage, Tag};

/// Branch positions of the content that would be published from a path, with the given
/// depth of history.
///
/// # Errors
/// If anything cannot be read.
pub fn lineage(
    path: &Path,
    branches: &[String],
    depth: HistoryDepth,
) -> Result<Lineage, PublishError> {
    if !git::is_repository(path) {
        return Ok(folder::lineage(path));
    }
    let source = GitSource::open(path)?;
    let tips = source.tips(branches)?;
    let heads: Vec<ObjectId> = tips.iter().map(|tip| tip.commit).collect();
    let depth = commits::boundary_depth(&source.repo, &heads, depth)?;
    let tags = all_tags(&source)?;
    let named = |tip: &BranchTip| Bytes::from(tip.branch.clone().unwrap_or_default());
    let repo = source.repo;
    Ok(Lineage {
        default_branch: named(&tips[0]),
        branches: (tips.iter())
            .map(|tip| (named(tip), git_id(tip.commit).into()))
            .collect(),
        tags,
        depth,
        parents: Box::new(move |id| {
            let id = git_objects::object_id(&repo, &id.git()).ok()?;
            let commit = git_objects::commit(&repo, id).ok()?;
            Some(commit.parents().iter().cloned().map(Into::into).collect())
        }),
        folder: None,
    })
}

/// All tags and their targets.
fn all_tags(source: &GitSource) -> Result<Vec<Tag>, PublishError> {
    let tags = source.tag_refs()?.into_iter().map(|(name, id)| {
        let target = source.peel_tag(id).ok().flatten();
        let target = target.filter(|target| target.kind == gix::objs::Kind::Commit);
        Tag {
            name: name.slice(b"refs/tags/".len()..),
            object: Some(git_id(id)),
            commit: target.map(|target| git_id(target.id)),
        }
    });
    Ok(tags.collect())
}
