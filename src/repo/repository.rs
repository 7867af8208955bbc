//! An opened repository: its head, and the store of its blobs.

use std::collections::HashMap;
use std::sync::Arc;

use super::access::{Access, SiblingRef, Target};
use super::account::Charge;
use super::derived_tree::{CommitMeta, DerivedTree};
use super::error::RepoError;
use super::loader::{FoundHead, Loader};
use crate::cache::{CacheView, RecordNamespace};
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, PayloadError, SecretKey, WholeBlob};
use walgit_format::{Address, Commit, Directory, Head};
use walrus_client::BlobStore;

/// An opened repository: its head, and the store of its blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    inner: Arc<Inner>,
    /// Branches and tags that are not in the head.
    sibling_refs: Arc<[SiblingRef]>,
}

#[derive(Debug)]
struct Inner {
    loader: Arc<Loader>,
    access: Access,
    /// Store of its nodes and chunks, in plaintext.
    store: Arc<dyn BlobStore>,
    /// Key of the whole repository; `None` if it is not encrypted as a whole.
    key: Option<SecretKey>,
    /// Decrypts encrypted files; `None` without a key.
    sealed: Option<Arc<dyn BlobStore>>,
    target: Target,
    head: Head,
    /// Directories derived from paths, by hash.
    derived: HashMap<ChunkHash, Arc<Directory>>,
    /// Bytes of memory that the head and the derived directories occupy.
    weight: u64,
    /// Memory charge for `weight`.
    charge: Charge,
    notices: Vec<String>,
    /// Whether any of its content is encrypted in the store.
    encrypted: bool,
}

impl Inner {
    /// Adds the memory of `head`, and wraps the result.
    fn finish(mut self) -> Result<Repository, RepoError> {
        let weight = self.head.weight();
        self.weight += weight;
        self.charge.more(weight)?;
        Ok(Repository {
            inner: Arc::new(self),
            sibling_refs: Arc::default(),
        })
    }
}

impl Repository {
    /// Creates a repository from a head in WalGit's format.
    pub(super) fn of_head(
        loader: Arc<Loader>,
        access: &Access,
        blob: BlobId,
        found: FoundHead,
    ) -> Result<Self, RepoError> {
        let root = Some(found.access_of_blob.root(&found.hash));
        let key = found.access_of_blob.key().cloned();
        let inner = Inner {
            loader,
            access: access.clone(),
            encrypted: key.is_some(),
            key,
            store: found.access_of_blob.store,
            sealed: None,
            target: Target::Blob { blob, root },
            head: found.head,
            derived: HashMap::new(),
            weight: 0,
            charge: access.account.nothing(),
            notices: Vec::new(),
        };
        inner.finish()
    }

    /// Creates a repository from a tree derived from paths and the data of its
    /// commit.
    pub(super) fn of_tree(
        loader: Arc<Loader>,
        access: &Access,
        target: Target,
        meta: CommitMeta,
        tree: DerivedTree,
        sealed: Option<Arc<dyn BlobStore>>,
    ) -> Result<Self, RepoError> {
        let inner = Inner {
            loader,
            access: access.clone(),
            store: access.store.clone(),
            key: None,
            sealed,
            head: tree.head(target.id(), meta),
            target,
            encrypted: tree.encrypted,
            weight: tree.weight(),
            charge: tree.charge,
            derived: tree.directories,
            notices: tree.notices,
        };
        inner.finish()
    }

    /// Creates a repository from a commit in the history of this one and its tree.
    pub(super) fn of_archived(
        &self,
        target: Target,
        commit: Commit,
        tree: DerivedTree,
    ) -> Result<Self, RepoError> {
        let this = &self.inner;
        let inner = Inner {
            loader: this.loader.clone(),
            access: this.access.clone(),
            store: this.store.clone(),
            key: this.key.clone(),
            sealed: None,
            target,
            head: Head {
                commits: vec![commit],
                attachments: this.head.attachments.clone(),
                blobs: this.head.blobs.clone(),
                ..Head::default()
            },
            weight: tree.weight(),
            charge: tree.charge,
            derived: tree.directories,
            notices: tree.notices,
            encrypted: this.encrypted,
        };
        inner.finish()
    }

    /// Returns the same repository, opened as `branch`, with the other branches and
    /// tags.
    pub(super) fn of_branch(self, branch: &str, sibling_refs: &[SiblingRef]) -> Self {
        let sibling_refs = sibling_refs.into();
        let inner = match Arc::try_unwrap(self.inner) {
            Ok(inner) => Arc::new(Inner {
                head: inner.head.of_branch(branch),
                ..inner
            }),
            Err(shared) => shared,
        };
        Repository {
            inner,
            sibling_refs,
        }
    }

    /// Returns the head.
    pub fn head(&self) -> &Head {
        &self.inner.head
    }

    /// The blob that starts with the head, or that is the manifest; `None` for a
    /// repository on the chain.
    pub fn blob(&self) -> Option<BlobId> {
        self.inner.target.blob()
    }

    /// The `root` of a verifiable address: the hash of the head, or the name derived
    /// from it if the repository is encrypted. Only heads in WalGit's format have
    /// one.
    pub fn root(&self) -> Option<ChunkHash> {
        match self.inner.target {
            Target::Blob { root, .. } | Target::Archived { root, .. } => root,
            Target::Commit(_) => None,
        }
    }

    /// The target that was opened.
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// The address of exactly this target.
    pub fn address(&self) -> Address {
        match &self.inner.target {
            Target::Blob { blob, root } | Target::Archived { blob, root, .. } => Address::Walrus {
                blob: *blob,
                root: *root,
            },
            Target::Commit(id) => Address::Sui {
                object: *id,
                branch: None,
            },
        }
    }

    /// Whether its directories are derived from paths and each file is a blob.
    pub fn is_derived(&self) -> bool {
        !self.inner.derived.is_empty()
    }

    /// Bytes of memory that its head occupies, and its directories if they are
    /// derived from paths.
    pub(crate) fn weight(&self) -> u64 {
        self.inner.weight
    }

    /// Whether any of its content is encrypted in the store.
    pub fn is_encrypted(&self) -> bool {
        self.inner.encrypted
    }

    /// The key of the whole repository; `None` if the repository is public, or if
    /// WalGit's own tools encrypted it file by file.
    pub fn key(&self) -> Option<&SecretKey> {
        self.inner.key.as_ref()
    }

    /// Messages about content that is omitted, or shown with a caveat.
    pub fn notices(&self) -> &[String] {
        &self.inner.notices
    }

    /// Branches and tags that are not in the head.
    pub fn sibling_refs(&self) -> &[SiblingRef] {
        &self.sibling_refs
    }

    /// Store of its blobs; decrypts them if they are encrypted.
    pub fn store(&self) -> &Arc<dyn BlobStore> {
        &self.inner.store
    }

    /// The access that it was opened with.
    pub fn access(&self) -> &Access {
        &self.inner.access
    }

    /// The loader that decodes its nodes.
    pub fn loader(&self) -> &Arc<Loader> {
        &self.inner.loader
    }

    /// Returns the latest learned profile of the repository `identity`. The record is
    /// encrypted on disk if the repository is encrypted.
    pub fn learned(&self, identity: &str) -> Option<Vec<u8>> {
        self.cache()
            .record(RecordNamespace::Profiles, identity.as_bytes())
    }

    /// Stores the learned profile of the repository `identity`.
    pub fn set_learned(&self, identity: &str, profile: &[u8]) {
        let key = identity.as_bytes();
        (self.cache()).set_record(RecordNamespace::Profiles, key, profile);
    }

    /// Pins chunks of this repository in the cache under a name; see
    /// [`CacheView::pin`].
    pub fn pin(&self, name: &str, chunks: &[ChunkRef]) -> Result<(), RepoError> {
        Ok(self.cache().pin(name, chunks)?)
    }

    /// A name for part of this repository that is safe to expose to other users:
    /// `name` itself, or, if the repository is encrypted, a name that only its key
    /// can derive.
    pub fn private_name(&self, name: &str) -> String {
        match self.at_rest() {
            Some(key) => {
                let hidden = key.name(ChunkHash::of(name.as_bytes()).as_bytes());
                ChunkHash::from_bytes(hidden).to_string()
            }
            None => name.into(),
        }
    }

    /// The cache under the key of this repository, of which a part may be encrypted.
    fn cache(&self) -> CacheView<'_> {
        self.loader().cache().view(self.at_rest())
    }

    fn at_rest(&self) -> Option<&SecretKey> {
        let sealed = self.inner.sealed.as_ref().filter(|_| self.is_encrypted());
        let own = self.inner.store.at_rest();
        own.or_else(|| sealed.and_then(|store| store.at_rest()))
    }

    /// The store that reads the content of a file stored as one blob.
    ///
    /// # Errors
    /// [`RepoError::Sealed`] if the blob is encrypted and no key was given.
    pub(super) fn store_of(&self, whole: &WholeBlob) -> Result<&Arc<dyn BlobStore>, RepoError> {
        if !whole.sealed {
            return Ok(self.store());
        }
        self.inner.sealed.as_ref().ok_or_else(|| RepoError::Sealed {
            what: format!("blob {}", whole.blob),
            why: PayloadError::NoKey,
        })
    }

    /// Returns a directory derived from paths.
    pub(super) fn derived(&self, name: &ChunkHash) -> Option<&Arc<Directory>> {
        self.inner.derived.get(name)
    }

    /// Parent commits of the head's commits that must be opened separately; empty if
    /// the head contains everything that can be shown.
    pub fn parents(&self) -> Vec<Target> {
        if !self.is_derived() {
            return Vec::new();
        }
        let parents = self.head().commits.iter().flat_map(|c| &c.parents);
        parents.filter_map(Target::of).collect()
    }
}
