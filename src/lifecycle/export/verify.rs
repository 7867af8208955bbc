//! Builds the objects of a history only for their IDs, to check the history.

use std::sync::Arc;

use super::objects::{Unpacked, unpack};
use super::pack::PackWriter;
use super::{ExportError, bytes, commits, hash, layout};
use crate::repo::Repository;
use crate::repo::archive::Archive;
use walgit_format::CommitId;
use walgit_format::git::RawCommit;
use walgit_format::head::GitId;

/// All contents and trees of a history, built and hashed; only the IDs are kept.
pub(in crate::lifecycle) struct Rebuilt {
    archive: Arc<Archive>,
    /// The objects that exist.
    pack: PackWriter,
    unpacked: Unpacked,
}

impl Rebuilt {
    /// Builds and hashes all objects. Reports to `progress` the bytes that are done, and
    /// the total.
    ///
    /// Must be called within a multi-threaded runtime.
    ///
    /// # Errors
    /// When an object cannot be read or built.
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

    /// Returns the plain bytes to hash for a history.
    pub(in crate::lifecycle) fn cost(archive: &Archive) -> u64 {
        let segments = archive.segments().iter();
        segments.map(|it| bytes(it)).fold(0, u64::saturating_add)
    }

    /// Verifies that a commit names the tree that is stored for it.
    ///
    /// # Errors
    /// [`ExportError::Altered`], or [`ExportError::Missing`].
    pub(in crate::lifecycle) fn check(&self, commit: &RawCommit) -> Result<(), ExportError> {
        commits::check(&self.archive, commit, &self.unpacked.numbers)
    }

    /// Whether a tree or content with this ID exists.
    pub(in crate::lifecycle) fn holds(&self, id: &GitId) -> bool {
        gix::oid::try_from_bytes(&id.0).is_ok_and(|id| self.pack.holds(id))
    }

    /// Returns the ID of the object with this number.
    pub(in crate::lifecycle) fn id(&self, number: u64) -> Option<GitId> {
        let id = self.unpacked.numbers.id(number)?;
        Some(GitId(id.to_vec()))
    }
}

/// Returns the hash function of the object IDs of a repository.
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

/// Verifies that git allows the names of all refs.
///
/// # Errors
/// [`ExportError::RefName`].
pub(in crate::lifecycle) fn check_names(archive: &Archive) -> Result<(), ExportError> {
    layout::check_refs(archive.refs())?;
    layout::head(archive, &GitId::default()).map(|_| ())
}
