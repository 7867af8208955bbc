//! An opened repository: from a name of a branch to the tree of its commit.

use std::sync::Arc;

use bytes::Bytes;

use super::git::{self, RawCommit};
use super::head::AttachmentKind;
use super::{Head, Loader, RepoError, Snapshot};
use crate::chunk::{BlobId, ChunkHash, ChunkRef};
use crate::walrus::BlobStore;

/// Stored bytes of an attachment read at once; they are read whole.
const ATTACHMENT_WINDOW: u64 = 4 << 20;

/// An opened repository: its head, and where its blobs are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    loader: Arc<Loader>,
    store: Arc<dyn BlobStore>,
    blob: BlobId,
    reference: ChunkRef,
    head: Head,
}

impl Repository {
    pub(super) fn new(
        loader: Arc<Loader>,
        store: Arc<dyn BlobStore>,
        blob: BlobId,
        reference: ChunkRef,
        head: Head,
    ) -> Self {
        Repository {
            inner: Arc::new(Inner {
                loader,
                store,
                blob,
                reference,
                head,
            }),
        }
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.inner.head
    }

    /// The blob that starts with the head.
    pub fn blob(&self) -> BlobId {
        self.inner.blob
    }

    /// The hash of the head: the `root` of a verifiable address.
    pub fn root(&self) -> ChunkHash {
        self.inner.reference.hash
    }

    /// Where its blobs are stored.
    pub fn store(&self) -> &Arc<dyn BlobStore> {
        &self.inner.store
    }

    /// Who decodes its nodes.
    pub fn loader(&self) -> &Arc<Loader> {
        &self.inner.loader
    }

    /// The tree of commit number `commit` of the head.
    ///
    /// # Errors
    /// [`RepoError::NoRef`] where the head has fewer.
    pub fn snapshot(&self, commit: usize) -> Result<Snapshot, RepoError> {
        match commit < self.head().commits.len() {
            true => Ok(Snapshot::new(self.clone(), commit)),
            false => Err(self.no_ref(&commit.to_string())),
        }
    }

    /// The tree of a branch, a tag or a commit; of the default branch for `None`.
    ///
    /// # Errors
    /// [`RepoError::NoRef`], naming what there is.
    pub fn snapshot_of(&self, name: Option<&str>) -> Result<Snapshot, RepoError> {
        let commit = match name {
            None => 0,
            Some(name) => (self.head().resolve(name)).ok_or_else(|| self.no_ref(name))?,
        };
        self.snapshot(commit)
    }

    /// The plain chunks of the attachments of one kind, in order.
    ///
    /// # Errors
    /// What kept one from being read.
    pub async fn attachment(&self, kind: AttachmentKind) -> Result<Vec<Bytes>, RepoError> {
        let mut chunks = Vec::new();
        let wanted = (self.head().attachments.iter()).filter(|attached| attached.kind == kind);
        for attached in wanted {
            for index in 0..attached.chunks.len() {
                let cache = self.loader().cache();
                let window = ATTACHMENT_WINDOW;
                chunks.push(
                    cache
                        .get(self.store(), &attached.chunks, index, window)
                        .await?,
                );
            }
        }
        Ok(chunks)
    }

    /// Every commit object that was published, oldest first.
    ///
    /// # Errors
    /// What kept them from being read, or [`RepoError::Malformed`].
    pub async fn git_commits(&self) -> Result<Vec<RawCommit>, RepoError> {
        let sample = &self.head().commits[0].id;
        let mut commits = Vec::new();
        for raw in self.attachment(AttachmentKind::GitCommits).await? {
            let parsed = git::decode_commits(&raw).and_then(|list| {
                list.into_iter()
                    .map(|bytes| RawCommit::parse(bytes, sample))
                    .collect::<Result<Vec<_>, _>>()
            });
            commits.extend(parsed.map_err(|why| RepoError::Malformed {
                what: "list of commits",
                hash: ChunkHash::of(&raw),
                why,
            })?);
        }
        Ok(commits)
    }

    fn no_ref(&self, name: &str) -> RepoError {
        RepoError::NoRef {
            name: name.into(),
            known: self.head().ref_names(),
        }
    }
}
