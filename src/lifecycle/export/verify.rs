//! Builds the objects of a history only for their IDs, to check the history.

use std::sync::Arc;

use super::error::ExportError;
use super::objects::{Unpacked, plain_bytes, unpack};
use super::pack::PackWriter;
use super::{commits, layout};
use crate::repo::Repository;
use crate::repo::archive::Archive;
use walgit_format::CommitId;
use walgit_format::git::RawCommit;
use walgit_format::head::GitId;

/// All contents and trees of a history, built and hashed; only the IDs are kept.
pub(crate) struct RebuiltHistory {
    archive: Arc<Archive>,
    /// The objects that exist.
    pack: PackWriter,
    unpacked: Unpacked,
}

impl RebuiltHistory {
    /// Builds and hashes all objects. Reports to `progress` the bytes that are done, and
    /// the total.
    ///
    /// Must be called within a multi-threaded runtime.
    pub(crate) async fn of(
        archive: &Arc<Archive>,
        hash: gix::hash::Kind,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Self, ExportError> {
        let mut pack = PackWriter::of_ids(hash);
        Ok(RebuiltHistory {
            archive: archive.clone(),
            unpacked: unpack(archive, hash, &mut pack, progress).await?,
            pack,
        })
    }

    /// Returns the plain bytes to hash for a history.
    pub(crate) fn cost(archive: &Archive) -> u64 {
        plain_bytes(archive)
    }

    /// Verifies that a commit names the tree that is stored for it.
    pub(crate) fn check(&self, commit: &RawCommit) -> Result<(), ExportError> {
        commits::check(&self.archive, commit, &self.unpacked.objects)
    }

    /// Whether a tree or content with this ID exists.
    pub(crate) fn holds(&self, id: &GitId) -> bool {
        gix::oid::try_from_bytes(&id.0).is_ok_and(|id| self.pack.holds(id))
    }

    /// Returns the ID of the object with this number.
    pub(crate) fn id(&self, number: u64) -> Option<GitId> {
        let id = self.unpacked.objects.id(number)?;
        Some(GitId(id.to_vec()))
    }
}

/// Returns the commit to check out.
pub(super) fn tip(repository: &Repository) -> Result<GitId, ExportError> {
    match repository.head().commits.first().map(|commit| &commit.id) {
        Some(CommitId::Git(id)) if !repository.is_derived() => Ok(id.clone()),
        _ => Err(ExportError::NotGit),
    }
}

/// Returns the hash function of an ID.
pub(crate) fn hash_kind(id: &GitId) -> gix::hash::Kind {
    if id.0.len() == 32 {
        gix::hash::Kind::Sha256
    } else {
        gix::hash::Kind::Sha1
    }
}

/// Returns the hash function of the object IDs of a repository.
pub(crate) fn hash_of(repository: &Repository) -> Result<gix::hash::Kind, ExportError> {
    match repository.head().commits.first().map(|commit| &commit.id) {
        Some(CommitId::Git(id)) => Ok(hash_kind(id)),
        _ => Err(ExportError::NotGit),
    }
}

/// Verifies that git allows the names of all refs.
pub(crate) fn check_ref_names(archive: &Archive) -> Result<(), ExportError> {
    layout::check_refs(archive.refs())?;
    layout::head(archive, &GitId::default()).map(|_| ())
}
