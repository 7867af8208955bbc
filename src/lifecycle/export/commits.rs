//! Commits and annotated tags that are reachable from refs, checked against the exported
//! trees.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use gix::ObjectId;
use gix::objs::Kind;
use rayon::prelude::*;

use super::error::ExportError;
use super::object_table::ObjectTable;
use super::pack::{PackWriter, Packer, id};
use crate::repo::archive::Archive;
use walgit_format::git::{RawCommit, tag_target};
use walgit_format::head::GitId;

/// Commits that are compressed in one batch.
const BATCH_SIZE: usize = 4096;

/// Commits and tags that refs may lead to, by ID.
pub(super) struct CommitGraph<'a> {
    commits: HashMap<&'a [u8], &'a RawCommit>,
    tags: HashMap<ObjectId, Bytes>,
    shallow: HashSet<&'a [u8]>,
}

/// Objects that are reachable from the refs.
#[derive(Default)]
pub(super) struct ReachableObjects {
    commits: HashSet<GitId>,
    /// Tags, and the object each peels to.
    tags: HashMap<ObjectId, ObjectId>,
}

impl ReachableObjects {
    /// Returns the object that an annotated tag peels to.
    pub(super) fn peeled(&self, id: &[u8]) -> Option<&ObjectId> {
        self.tags.get(gix::oid::try_from_bytes(id).ok()?)
    }

    /// Whether a commit is in the repository.
    pub(super) fn holds(&self, commit: &GitId) -> bool {
        self.commits.contains(commit)
    }
}

impl<'a> CommitGraph<'a> {
    /// Indexes all stored commits and tags.
    pub(super) fn new(
        archive: &'a Archive,
        hash: gix::hash::Kind,
        commits: &'a [RawCommit],
        tags: Vec<Bytes>,
    ) -> Result<Self, ExportError> {
        let tags = tags
            .into_iter()
            .map(|raw| Ok((id(hash, Kind::Tag, &raw)?, raw)));
        Ok(CommitGraph {
            commits: commits.iter().map(|it| (&it.id.0[..], it)).collect(),
            tags: tags.collect::<Result<_, ExportError>>()?,
            shallow: archive.shallow().iter().map(|id| &id.0[..]).collect(),
        })
    }

    /// Adds a root called `name`, and every commit and tag that is reachable from it.
    pub(super) fn reach(
        &self,
        name: &str,
        root: &GitId,
        pack: &PackWriter,
        reached: &mut ReachableObjects,
    ) -> Result<(), ExportError> {
        let missing = |from: String, to: &dyn std::fmt::Display| ExportError::Missing {
            from,
            to: to.to_string(),
        };
        let mut at =
            ObjectId::try_from(&root.0[..]).map_err(|why| ExportError::object(name, why))?;
        let (mut from, mut tags) = (name.to_owned(), Vec::new());
        while let Some(raw) = self.tags.get(&at) {
            tags.push(at);
            from = format!("tag {at}");
            let to = tag_target(raw).and_then(|to| ObjectId::try_from(&to.0[..]).ok());
            at = to.ok_or_else(|| ExportError::object(&from, "the tag refers to no object"))?;
        }
        reached.tags.extend(tags.into_iter().map(|tag| (tag, at)));
        let Some(tip) = self.commits.get(at.as_slice()) else {
            return pack
                .holds(&at)
                .then_some(())
                .ok_or_else(|| missing(from, &at));
        };
        let mut pending: Vec<&RawCommit> = vec![tip];
        while let Some(commit) = pending.pop() {
            if !reached.commits.insert(commit.id.clone()) {
                continue;
            }
            for parent in commit.parents() {
                match self.commits.get(&parent.0[..]) {
                    Some(parent) => pending.push(parent),
                    None if self.shallow.contains(&commit.id.0[..]) => {}
                    None => return Err(missing(format!("commit {}", commit.id), parent)),
                }
            }
        }
        Ok(())
    }

    /// Writes the reachable objects, with commits in stored order. The stored tree of
    /// each commit must have the ID that the commit names. Returns the numbers of new
    /// commits and tags.
    pub(super) fn write(
        &self,
        archive: &Archive,
        stored: &[RawCommit],
        reached: &ReachableObjects,
        objects: &ObjectTable,
        pack: &mut PackWriter,
    ) -> Result<(u64, u64), ExportError> {
        let wanted: Vec<&RawCommit> = (stored.iter())
            .filter(|commit| reached.holds(&commit.id))
            .collect();
        let packing = pack.packing();
        let (mut commit_count, mut tag_count) = (0, 0);
        for batch in wanted.chunks(BATCH_SIZE) {
            let packed = batch.par_iter().map_init(
                || Packer::new(packing),
                |packer, commit| {
                    check(archive, commit, objects)?;
                    packer.pack(Kind::Commit, commit.raw())
                },
            );
            for commit in packed.collect::<Result<Vec<_>, _>>()? {
                commit_count += u64::from(pack.add(&commit)?);
            }
        }
        let mut tags: Vec<&ObjectId> = reached.tags.keys().collect();
        tags.sort();
        let mut packer = Packer::new(packing);
        for tag in tags {
            let packed = packer.pack_as(*tag, Kind::Tag, &self.tags[tag])?;
            tag_count += u64::from(pack.add(&packed)?);
        }
        Ok((commit_count, tag_count))
    }
}

/// Verifies that the stored tree of a commit has the ID that the commit names. The ID
/// covers every name, mode and content below.
pub(super) fn check(
    archive: &Archive,
    commit: &RawCommit,
    objects: &ObjectTable,
) -> Result<(), ExportError> {
    let expected = commit.tree();
    let root = archive.root_of(&commit.id.0);
    let Some(found) = root.and_then(|root| objects.id(root)) else {
        return Err(ExportError::Missing {
            from: format!("commit {}", commit.id),
            to: format!("tree {expected}"),
        });
    };
    if found == &expected.0[..] {
        return Ok(());
    }
    Err(ExportError::Altered {
        commit: commit.id.to_string(),
        expected: expected.to_string(),
        found: GitId(found.to_vec()).to_string(),
    })
}
