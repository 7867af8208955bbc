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
        !self.inner.implied.is_empty()
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
    pub(super) fn implied(&self, name: &ChunkHash) -> Option<&Arc<Directory>> {
        self.inner.implied.get(name)
    }

    /// The tree of commit number `commit` of the head.
    ///
    /// # Errors
    /// [`RepoError::NoRef`] if the head has fewer commits.
    pub fn snapshot(&self, commit: usize) -> Result<Snapshot, RepoError> {
        match commit < self.head().commits.len() {
            true => Ok(Snapshot::new(self.clone(), commit)),
            false => Err(self.no_ref(&commit.to_string())),
        }
    }

    /// The tree of a branch, a tag or a commit; of the default branch for `None`.
    ///
    /// If the head does not contain it, searches the other branches and tags, then
    /// the archive, then the ancestors of this commit one by one.
    ///
    /// # Errors
    /// [`RepoError::NoRef`], which lists the known refs; or the error that prevented
    /// reading a commit.
    pub async fn snapshot_of(&self, name: Option<&str>) -> Result<Snapshot, RepoError> {
        let Some(name) = name else {
            return self.snapshot(0);
        };
        if let Some(commit) = self.head().resolve(name) {
            return self.snapshot(commit);
        }
        let relatives = self.relatives.iter();
        if let Some(relative) = relatives.clone().find(|r| r.name == name.as_bytes()) {
            return self.open_sibling(&relative.target).await?.snapshot(0);
        }
        if let Some(commit) = self.archived_as(name).await? {
            return self.open_sibling(&commit).await?.snapshot(0);
        }
        let mut at = self.clone();
        for _ in 0..MAX_ANCESTORS {
            let Some(parent) = at.parents().into_iter().next() else {
                break;
            };
            at = self.open_sibling(&parent).await?;
            if let Some(commit) = at.head().resolve(name) {
                return at.snapshot(commit);
            }
        }
        Err(self.no_ref(name))
    }

    /// Returns the archive; `None` if the repository has none.
    ///
    /// # Errors
    /// [`RepoError::Malformed`], or a read error.
    pub async fn archive(&self) -> Result<Option<Arc<Archive>>, RepoError> {
        match self.has_archive() {
            true => self.loader().archive(self).await,
            false => Ok(None),
        }
    }

    /// Whether the repository has an archive.
    pub fn has_archive(&self) -> bool {
        let mut attached = self.head().attachments.iter();
        attached.any(|it| it.kind == AttachmentKind::Archive)
    }

    /// The target of a commit in the archive.
    pub fn archived_target(&self, commit: GitId) -> Option<Target> {
        let (blob, root) = (self.blob()?, self.root());
        Some(Target::Archived { blob, root, commit })
    }

    /// Resolves a tag, a commit ID or an ID prefix to a commit in the archive.
    async fn archived_as(&self, name: &str) -> Result<Option<Target>, RepoError> {
        let Some(archive) = self.archive().await? else {
            return Ok(None);
        };
        let tag = archive.tagged(name.as_bytes()).await?;
        let commit = match tag {
            Some(commit) => Some(commit),
            None => archive.named(name).await?,
        };
        Ok(commit.and_then(|commit| self.archived_target(commit)))
    }

    /// Opens a commit in the archive.
    pub(super) async fn archived(&self, id: &GitId) -> Result<Repository, RepoError> {
        let none = || self.no_ref(&id.to_string());
        let archive = self.archive().await?.ok_or_else(none)?;
        let commit = archive.commit(id).await?.ok_or_else(none)?;
        let root = archive.root_of(&id.0).ok_or_else(none)?;
        let target = self.archived_target(id.clone()).ok_or_else(none)?;
        let blob = self.blob().ok_or_else(none)?;
        let tree = archive.tree_of(&self.access().account, root, blob).await?;
        let commit = Commit {
            id: id.clone().into(),
            root: tree.root.clone(),
            nodes: tree.nodes,
            bytes: tree.bytes,
            author: commit.author(),
            committer: commit.committer(),
            message: Bytes::copy_from_slice(commit.message()),
            parents: commit
                .parents()
                .iter()
                .cloned()
                .map(CommitId::from)
                .collect(),
        };
        Self::of_archived(self, target, commit, tree)
    }

    /// Opens another target of the same repository, with the same access.
    ///
    /// # Errors
    /// As [`Loader::open_target`].
    pub async fn open_sibling(&self, target: &Target) -> Result<Repository, RepoError> {
        let access = self.access();
        self.loader().open_target(access, target).await
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

    /// The plain chunks of the attachments of one kind, in order.
    ///
    /// # Errors
    /// Fails if a chunk cannot be read.
    pub async fn attachment(&self, kind: AttachmentKind) -> Result<Vec<Bytes>, RepoError> {
        let mut chunks = Vec::new();
        let wanted = (self.head().attachments.iter()).filter(|attached| attached.kind == kind);
        for attached in wanted {
            for index in 0..attached.chunks.len() {
                chunks.push(self.chunk(&attached.chunks, index).await?);
            }
        }
        Ok(chunks)
    }

    /// The plain bytes of a chunk of an attachment.
    ///
    /// # Errors
    /// Fails if the chunk cannot be read.
    pub(super) async fn chunk(&self, table: &[ChunkRef], index: usize) -> Result<Bytes, RepoError> {
        let cache = self.loader().cache();
        Ok(cache
            .get(self.store(), table, index, ATTACHMENT_WINDOW)
            .await?)
    }

    /// Prefetches the dictionaries that content chunks are decoded with, up to a
    /// limit. They stay only in the memory cache: an evicted dictionary is fetched
    /// again on demand.
    pub async fn fetch_dictionaries(&self) {
        let attached = self.head().attachments.iter();
        let attached = attached.filter(|it| it.kind == AttachmentKind::Dictionaries);
        let chunks = attached.flat_map(|it| (0..it.chunks.len()).map(move |at| (it, at)));
        let mut room = DICTIONARIES_AHEAD;
        for (attached, at) in chunks {
            let len = u64::from(attached.chunks[at].raw_len);
            let Some(left) = room.checked_sub(len) else {
                continue;
            };
            room = left;
            // A demand read reports the error if the dictionary is unreadable.
            let _ = self.chunk(&attached.chunks, at).await;
        }
    }

    /// Files that changed together in the history; `None` if the publisher did not
    /// attach the list.
    ///
    /// # Errors
    /// [`RepoError::Malformed`], or a read error.
    pub async fn prior(&self) -> Result<Option<Prior>, RepoError> {
        let Some(raw) = self.hint(AttachmentKind::Prior, MAX_PRIOR).await? else {
            return Ok(None);
        };
        let prior = Prior::decode(&raw).map_err(|why| RepoError::Malformed {
            what: "list of files that changed together",
            hash: ChunkHash::of(&raw),
            why,
        })?;
        Ok(Some(prior))
    }

    /// The learned profile that was published with the repository; `None` if there is
    /// none.
    ///
    /// # Errors
    /// Fails if the attachment cannot be read.
    pub async fn shipped(&self) -> Result<Option<Bytes>, RepoError> {
        self.hint(AttachmentKind::Learned, MAX_SHIPPED).await
    }

    /// Reads an optional attachment of one chunk. Fetches at most `most` bytes,
    /// whatever size the head declares.
    async fn hint(&self, kind: AttachmentKind, most: usize) -> Result<Option<Bytes>, RepoError> {
        let Some(chunk) = self.head().hint(kind, most) else {
            return Ok(None);
        };
        let cache = self.loader().cache();
        Ok(Some(
            cache
                .get(self.store(), std::slice::from_ref(chunk), 0, 0)
                .await?,
        ))
    }

    /// The text of the manifest, as WalGit's own tools wrote it; `None` if this
    /// repository is not a manifest.
    ///
    /// # Errors
    /// Fails if the cache has evicted the manifest and it cannot be fetched again.
    pub async fn manifest_text(&self) -> Result<Option<Bytes>, RepoError> {
        match (self.is_derived() && !self.has_archive(), self.blob()) {
            (true, Some(blob)) => Ok(Some(
                self.loader().manifest_text(self.access(), blob).await?,
            )),
            _ => Ok(None),
        }
    }

    /// Every commit object that was published, oldest first.
    ///
    /// # Errors
    /// [`RepoError::Malformed`], a read error, or [`RepoError::Memory`] if the
    /// commits exceed the memory limit of the mount.
    pub async fn git_commits(&self) -> Result<Vec<RawCommit>, RepoError> {
        let attached = self.head().attachments.iter();
        let attached = attached.filter(|it| it.kind == AttachmentKind::GitCommits);
        let chunks: Vec<ChunkRef> = attached.flat_map(|it| &it.chunks).cloned().collect();
        check_commits(&chunks)?;
        let mut charge = self.access().account.nothing();
        let mut commits: Vec<RawCommit> = Vec::new();
        for at in 0..chunks.len() {
            let decoded = self.commits_in(&chunks, at).await?;
            charge.more(decoded.iter().map(RawCommit::weight).sum())?;
            commits.extend(decoded);
        }
        Ok(commits)
    }

    /// The commit objects of one chunk of an attachment.
    ///
    /// # Errors
    /// As [`git_commits`](Self::git_commits).
    pub async fn commits_in(
        &self,
        table: &[ChunkRef],
        at: usize,
    ) -> Result<Vec<RawCommit>, RepoError> {
        let sample = self.head().commits[0].id.git();
        let raw = self.chunk(table, at).await?;
        let decoded = offload(raw.len(), move || decode_commits(&raw, &sample)).await?;
        decoded.map_err(|why| RepoError::Malformed {
            what: "list of commits",
            hash: table[at].hash,
            why,
        })
    }

    /// Every branch and tag: kind, name and commit ID.
    pub fn refs(&self) -> Vec<(RefKind, Bytes, CommitId)> {
        let head = self.head();
        let own =
            (head.refs.iter()).map(|r| (r.kind, r.name.clone(), head.commits[r.commit].id.clone()));
        let mut all: Vec<_> = own.collect();
        let mut known: HashSet<(RefKind, Bytes)> = names_of(&all);
        for relative in self.sibling_refs() {
            if known.insert((relative.kind, relative.name.clone())) {
                all.push((relative.kind, relative.name.clone(), relative.target.id()));
            }
        }
        all.sort();
        all
    }

    /// Every branch and tag, including the tags in the archive.
    ///
    /// # Errors
    /// Fails if the archive cannot be read.
    pub async fn all_refs(&self) -> Result<Vec<(RefKind, Bytes, CommitId)>, RepoError> {
        let mut all = self.refs();
        if let Some(archive) = self.archive().await? {
            let known = names_of(&all);
            for (name, commit) in archive.tags().await? {
                if !known.contains(&(RefKind::Tag, name.clone())) {
                    all.push((RefKind::Tag, name, commit.into()));
                }
            }
            all.sort();
        }
        Ok(all)
    }

    fn no_ref(&self, name: &str) -> RepoError {
        let known = match self.relatives.is_empty() {
            true => self.head().ref_names(),
            false => names(&self.relatives),
        };
        RepoError::NoRef {
            name: name.into(),
            known,
        }
    }
}

/// Kinds and names of refs.
fn names_of(refs: &[(RefKind, Bytes, CommitId)]) -> HashSet<(RefKind, Bytes)> {
    let names = refs.iter().map(|(kind, name, _)| (*kind, name.clone()));
    names.collect()
}
