//! Identity of the content to publish, for checking moves of its name.

use std::path::Path;

use bytes::Bytes;
use gix::ObjectId;

use super::git::{self, Reader, Tip};
use super::history::{self, HistoryDepth};
use super::objects::{self, git_id};
use super::{PublishError, folder};
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
    match git::is_repository(path) {
        true => of_repository(path, branches, depth),
        false => Ok(folder::lineage(path)),
    }
}

fn of_repository(
    path: &Path,
    branches: &[String],
    depth: HistoryDepth,
) -> Result<Lineage, PublishError> {
    let reader = Reader::open(path)?;
    let tips = reader.tips(branches)?;
    let heads: Vec<ObjectId> = tips.iter().map(|tip| tip.commit).collect();
    let depth = history::cut(&reader.repo, &heads, depth)?;
    let tags = all_tags(&reader)?;
    let named = |tip: &Tip| Bytes::from(tip.branch.clone().unwrap_or_default());
    let repo = reader.repo;
    Ok(Lineage {
        default_branch: named(&tips[0]),
        branches: (tips.iter())
            .map(|tip| (named(tip), git_id(tip.commit).into()))
            .collect(),
        tags,
        depth,
        parents: Box::new(move |id| {
            let id = objects::object_id(&repo, &id.git()).ok()?;
            let commit = objects::commit(&repo, id).ok()?;
            Some(commit.parents().iter().cloned().map(Into::into).collect())
        }),
        folder: None,
    })
}

/// All tags and their targets.
fn all_tags(reader: &Reader) -> Result<Vec<Tag>, PublishError> {
    let tags = reader.tag_refs()?.into_iter().map(|(name, id)| {
        let leads = reader.follow(id).ok().flatten();
        let leads = leads.filter(|leads| leads.kind == gix::objs::Kind::Commit);
        Tag {
            name: name.slice(b"refs/tags/".len()..),
            object: Some(git_id(id)),
            commit: leads.map(|leads| git_id(leads.to)),
        }
    });
    Ok(tags.collect())
}
