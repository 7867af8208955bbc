//! Maps git IDs to objects that an earlier publish archived.
//!
//! An archive has numbers instead of IDs. The IDs of objects that new commits probably
//! share are found by walking trees of their parents in parallel, in git and in the
//! archive. Missed objects are only archived twice.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gix::ObjectId;
use gix::objs::Kind;
use tokio::runtime::Handle;

use super::commits::HistoryCommit;
use crate::publish::error::PublishError;
use crate::publish::git_objects::{self, failed};
use crate::repo::archive::Archive;
use walgit_format::archive::{Segment, TreeTarget, parse_tree};

/// The tags in these segments.
pub(super) fn tags(
    repo: &gix::Repository,
    archive: &Archive,
    segments: &[Arc<Segment>],
) -> Result<HashSet<ObjectId>, PublishError> {
    let runtime = Handle::current();
    let mut tags = HashSet::new();
    for segment in segments {
        for &chunk in &segment.tags {
            let group = runtime.block_on(archive.group(segment, chunk));
            for tag in group.map_err(PublishError::previous)?.iter() {
                let id = gix::objs::compute_hash(repo.object_hash(), Kind::Tag, &tag);
                tags.insert(id.map_err(|why| failed(repo, why))?);
            }
        }
    }
    Ok(tags)
}

/// Numbers of objects below `end` in the trees of archived parents of these commits.
pub(super) fn numbers(
    repo: &gix::Repository,
    archive: &Archive,
    commits: &[&HistoryCommit],
    end: u64,
) -> Result<HashMap<ObjectId, u64>, PublishError> {
    let mut numbers = HashMap::new();
    let mut seen = HashSet::new();
    let mut pending = Vec::new();
    for parent in commits.iter().flat_map(|commit| &commit.parents) {
        let root = archive.root_of(parent.as_slice());
        let Some(root) = root.filter(|root| *root < end && seen.insert(*root)) else {
            continue;
        };
        if let Ok(parent) = git_objects::commit(repo, *parent) {
            pending.push((git_objects::object_id(repo, parent.tree())?, root));
        }
    }
    let runtime = Handle::current();
    let id_len = repo.object_hash().len_in_bytes();
    while let Some((id, number)) = pending.pop() {
        let stored = runtime.block_on(archive.tree(number));
        let stored = stored.map_err(PublishError::previous)?;
        let raw = git_objects::read_as(repo, id, Kind::Tree)?;
        let entries: Option<Vec<_>> = parse_tree(&raw, id_len).collect();
        // If the tree differs from the archived one for any reason, its content is
        // archived again.
        let entries = entries.filter(|entries| {
            let mut names = entries.iter().zip(&stored);
            entries.len() == stored.len()
                && names.all(|(a, b)| a.name == &b.name[..] && a.mode == &b.mode[..])
        });
        let Some(entries) = entries else {
            numbers.remove(&id);
            continue;
        };
        numbers.insert(id, number);
        for (entry, stored) in entries.iter().zip(&stored) {
            let TreeTarget::Number(number) = stored.target else {
                continue;
            };
            if number >= end || !seen.insert(number) {
                continue;
            }
            let id = ObjectId::from_bytes_or_panic(entry.id);
            if entry.is_tree() {
                pending.push((id, number));
            } else {
                numbers.insert(id, number);
            }
        }
    }
    Ok(numbers)
}
