//! The same objects for their IDs alone: what a check of a history needs.

use std::sync::Arc;

use super::objects::{Unpacked, unpack};
use super::pack::PackWriter;
use super::{ExportError, bytes, commits, hash, layout};
use crate::repo::Repository;
use crate::repo::archive::Archive;
use walgit_format::CommitId;
use walgit_format::git::RawCommit;
use walgit_format::head::GitId;

/// All contents and trees of a history, built and hashed; the IDs stay.
pub(in crate::lifecycle) struct Rebuilt {
    archive: Arc<Archive>,
    /// Which objects there are.
    pack: PackWriter,
    unpacked: Unpacked,
}

impl Rebuilt {
    /// Builds and hashes them. Tells `progress` how many bytes are done, of how
    /// many.
    ///
    /// Must be called within a runtime of several threads.
    ///
    /// # Errors
    /// What kept one from being read or built.
    pub(in crate::lifecycle) async fn of(
        archive: &Arc<Archive>,
        hash: gix::hash::Kind,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Self, ExportError> {
        let mut pack = PackWriter::of_ids(hash);
        Ok(Rebuilt {
            archive: archive.clone(),
            unpacked: unpack(archive, hash, &mut pack, progress).await?,
            pack,
        })
    }

    /// Plain bytes that are hashed to build a history.
    pub(in crate::lifecycle) fn cost(archive: &Archive) -> u64 {
        let segments = archive.segments().iter();
        segments.map(|it| bytes(it)).fold(0, u64::saturating_add)
    }

    /// That a commit names the tree that is stored for it.
    ///
    /// # Errors
    /// [`ExportError::Altered`], or [`ExportError::Missing`].
    pub(in crate::lifecycle) fn check(&self, commit: &RawCommit) -> Result<(), ExportError> {
        commits::check(&self.archive, commit, &self.unpacked.numbers)
    }

    /// Whether a tree or content of this ID is there.
    pub(in crate::lifecycle) fn holds(&self, id: &GitId) -> bool {
        gix::oid::try_from_bytes(&id.0).is_ok_and(|id| self.pack.holds(id))
    }

    /// The ID of the object with this number.
    pub(in crate::lifecycle) fn id(&self, number: u64) -> Option<GitId> {
        let id = self.unpacked.numbers.id(number)?;
        Some(GitId(id.to_vec()))
    }
}

/// By which hash the objects of a repository have their IDs.
///
/// # Errors
/// [`ExportError::NotGit`].
pub(in crate::lifecycle) fn hash_of(
    repository: &Repository,
) -> Result<gix::hash::Kind, ExportError> {
    match repository.head().commits.first().map(|commit| &commit.id) {
        Some(CommitId::Git(id)) => Ok(hash(id)),
        _ => Err(ExportError::NotGit),
    }
}

/// That the refs of a history have names that git allows.
///
/// # Errors
/// [`ExportError::RefName`].
pub(in crate::lifecycle) fn check_names(archive: &Archive) -> Result<(), ExportError> {
    layout::check_refs(archive.refs())?;
    layout::head(archive, &GitId::default()).map(|_| ())
}
