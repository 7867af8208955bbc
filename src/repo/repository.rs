//! An opened repository: from a name of a branch to the tree of its commit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::access::{Access, Relative, Target, names};
use super::archive::{Archive, check_commits};
use super::implied::{ImpliedTree, Told};
use super::loader::FoundHead;
use super::{Charge, Loader, RepoError, Snapshot};
use crate::cache::Space;
use crate::offload::offload;
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, PayloadError, SecretKey, WholeBlob};
use walgit_format::commits::decode_commits;
use walgit_format::git::RawCommit;
use walgit_format::head::{AttachmentKind, CommitId, GitId, MAX_SHIPPED};
use walgit_format::prior::{MAX_PRIOR, Prior};
use walgit_format::{Address, Commit, Directory, Head, RefKind};
use walrus_client::BlobStore;

/// Stored bytes of an attachment read at once; they are read whole.
const ATTACHMENT_WINDOW: u64 = 4 << 20;
/// Plain bytes of dictionaries that are fetched ahead: a publisher's four take
/// half a megabyte.
const DICTIONARIES_AHEAD: u64 = 4 << 20;
/// How far back a commit is looked for where only its parents lead to it.
pub const MAX_ANCESTORS: usize = 1000;

/// An opened repository: its head, and where its blobs are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    inner: Arc<Inner>,
    /// Branches and tags that are not in the head.
    relatives: Arc<[Relative]>,
}

#[derive(Debug)]
struct Inner {
    loader: Arc<Loader>,
    access: Access,
    /// Where its nodes and chunks are read, in the clear.
    store: Arc<dyn BlobStore>,
    /// What it is encrypted with as a whole; `None` where it is not.
    key: Option<SecretKey>,
    /// Opens encrypted files; `None` without a key.
    sealed: Option<Arc<dyn BlobStore>>,
    target: Target,
    head: Head,
    /// Directories that are implied by paths, by their names.
    implied: HashMap<ChunkHash, Arc<Directory>>,
    /// Bytes that they and the head occupy in memory.
    weight: u64,
    /// What pays for them.
    _charge: Charge,
    notices: Vec<String>,
    encrypted: bool,
}

impl Repository {
    /// A head of ours.
    pub(super) fn of_head(
        loader: Arc<Loader>,
        access: &Access,
        blob: BlobId,
        found: FoundHead,
    ) -> Result<Self, RepoError> {
        let root = Some(found.door.root(&found.hash));
        let key = found.door.key().cloned();
        let weight = found.head.weight();
        let charge = access.account.charge(weight)?;
        Ok(Repository {
            inner: Arc::new(Inner {
                loader,
                access: access.clone(),
                encrypted: key.is_some(),
                key,
                store: found.door.store,
                sealed: None,
                target: Target::Blob { blob, root },
                head: found.head,
                implied: HashMap::new(),
                weight,
                _charge: charge,
                notices: Vec::new(),
            }),
            relatives: Arc::default(),
        })
    }

    /// A tree that is implied by paths, and what is told of its commit.
    pub(super) fn of_tree(
        loader: Arc<Loader>,
        access: &Access,
        target: Target,
        told: Told,
        tree: ImpliedTree,
        sealed: Option<Arc<dyn BlobStore>>,
    ) -> Result<Self, RepoError> {
        let head = tree.head(target.id(), told);
        let weight = tree.weight() + head.weight();
        let mut charge = tree.charge;
        charge.more(head.weight())?;
        Ok(Repository {
            inner: Arc::new(Inner {
                loader,
                access: access.clone(),
                store: access.store.clone(),
                key: None,
                sealed,
                head,
                target,
                encrypted: tree.encrypted,
                weight,
                _charge: charge,
                implied: tree.directories,
                notices: tree.notices,
            }),
            relatives: Arc::default(),
        })
    }

    /// A commit in the history of `head`, and its tree.
    fn of_archived(
        head: &Repository,
        target: Target,
        commit: Commit,
        tree: ImpliedTree,
    ) -> Result<Self, RepoError> {
        let inner = &head.inner;
        let head = Head {
            default_branch: Bytes::new(),
            commits: vec![commit],
            refs: Vec::new(),
            attachments: inner.head.attachments.clone(),
            blobs: inner.head.blobs.clone(),
        };
        let weight = tree.weight() + head.weight();
        let mut charge = tree.charge;
        charge.more(head.weight())?;
        Ok(Repository {
            inner: Arc::new(Inner {
                loader: inner.loader.clone(),
                access: inner.access.clone(),
                store: inner.store.clone(),
                key: inner.key.clone(),
                sealed: None,
                target,
                head,
                weight,
                _charge: charge,
                implied: tree.directories,
                notices: tree.notices,
                encrypted: inner.encrypted,
            }),
            relatives: Arc::default(),
        })
    }

    /// The same, as that of a branch among others.
    pub(super) fn of_branch(self, branch: &str, relatives: &[Relative]) -> Self {
        let relatives = relatives.into();
        let inner = match Arc::try_unwrap(self.inner) {
            Ok(inner) => Arc::new(Inner {
                head: inner.head.of_branch(branch),
                ..inner
            }),
            Err(shared) => shared,
        };
        Repository { inner, relatives }
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.inner.head
    }

    /// The blob that starts with the head, or is the manifest; `None` for what
    /// is on the chain.
    pub fn blob(&self) -> Option<BlobId> {
        match self.inner.target {
            Target::Blob { blob, .. } | Target::Archived { blob, .. } => Some(blob),
            Target::Commit(_) => None,
        }
    }

    /// The hash of the head, or what it is called where the repository is
    /// encrypted: the `root` of a verifiable address. Only heads of ours have
    /// one.
    pub fn root(&self) -> Option<ChunkHash> {
        match self.inner.target {
            Target::Blob { root, .. } | Target::Archived { root, .. } => root,
            Target::Commit(_) => None,
        }
    }

    /// What was opened.
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// An address that leads to just this.
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

    /// Whether its directories are implied by paths, and each file a blob.
    pub fn is_implied(&self) -> bool {
        !self.inner.implied.is_empty()
    }

    /// Bytes that its head occupies in memory, and its directories where they
    /// cannot be fetched one by one.
    pub(crate) fn weight(&self) -> u64 {
        self.inner.weight
    }

    /// Whether anything in it is encrypted where it is stored.
    pub fn is_encrypted(&self) -> bool {
        self.inner.encrypted
    }

    /// The key that all of it is encrypted with; `None` where anybody can read
    /// it, and for what WalGit's own tools encrypted file by file.
    pub fn key(&self) -> Option<&SecretKey> {
        self.inner.key.as_ref()
    }

    /// Lines about what is not shown, or shown and worth a word.
    pub fn notices(&self) -> &[String] {
        &self.inner.notices
    }

    /// Branches and tags that are not in the head.
    pub fn relatives(&self) -> &[Relative] {
        &self.relatives
    }

    /// Where its blobs are stored, and opened if they are encrypted.
    pub fn store(&self) -> &Arc<dyn BlobStore> {
        &self.inner.store
    }

    /// How it was opened.
    pub fn access(&self) -> &Access {
        &self.inner.access
    }

    /// Who decodes its nodes.
    pub fn loader(&self) -> &Arc<Loader> {
        &self.inner.loader
    }

    /// What was learned about the repository called `identity`, as it was set
    /// last; sealed on disk where the repository is encrypted.
    pub fn learned(&self, identity: &str) -> Option<Vec<u8>> {
        let cache = self.loader().cache();
        cache.record(Space::Profiles, identity.as_bytes(), self.at_rest())
    }

    /// Sets what was learned about the repository called `identity`.
    pub fn set_learned(&self, identity: &str, profile: &[u8]) {
        let cache = self.loader().cache();
        let key = identity.as_bytes();
        cache.set_record(Space::Profiles, key, profile, self.at_rest());
    }

    /// Keeps chunks of this repository in the cache under a name; see
    /// [`crate::cache::Cache::pin`].
    ///
    /// # Errors
    /// As there.
    pub fn pin(&self, name: &str, chunks: &[ChunkRef]) -> Result<(), RepoError> {
        let cache = self.loader().cache();
        Ok(cache.pin(name, chunks, self.at_rest())?)
    }

    /// What something in this repository may be called where others can read it:
    /// its name, or, where the repository is encrypted, one that only its key
    /// leads to.
    pub fn private_name(&self, name: &str) -> String {
        match self.at_rest() {
            Some(key) => {
                let hidden = key.name(ChunkHash::of(name.as_bytes()).as_bytes());
                ChunkHash::from_bytes(hidden).to_string()
            }
            None => name.into(),
        }
    }

    fn at_rest(&self) -> Option<&SecretKey> {
        let sealed = self.inner.sealed.as_ref().filter(|_| self.is_encrypted());
        let own = self.inner.store.at_rest();
        own.or_else(|| sealed.and_then(|store| store.at_rest()))
    }

    /// Where the content of a blob that is one file is read.
    ///
    /// # Errors
    /// [`RepoError::Sealed`] where it is encrypted and no key was given.
    pub(super) fn store_of(&self, whole: &WholeBlob) -> Result<&Arc<dyn BlobStore>, RepoError> {
        match whole.sealed {
            false => Ok(self.store()),
            true => self.inner.sealed.as_ref().ok_or_else(|| RepoError::Sealed {
                what: format!("blob {}", whole.blob),
                why: PayloadError::NoKey,
            }),
        }
    }

    /// A directory that is implied by paths.
    pub(super) fn implied(&self, name: &ChunkHash) -> Option<&Arc<Directory>> {
        self.inner.implied.get(name)
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
    /// Where the head does not hold it, it is looked for among the other
    /// branches and tags, and then among the commits before this one, of which
    /// each leads to the next.
    ///
    /// # Errors
    /// [`RepoError::NoRef`], naming what there is; or what kept a commit from
    /// being read.
    pub async fn snapshot_of(&self, name: Option<&str>) -> Result<Snapshot, RepoError> {
        let Some(name) = name else {
            return self.snapshot(0);
        };
        if let Some(commit) = self.head().resolve(name) {
            return self.snapshot(commit);
        }
        let relatives = self.relatives.iter();
        if let Some(relative) = relatives.clone().find(|r| r.name == name.as_bytes()) {
            return self.open_relative(&relative.target).await?.snapshot(0);
        }
        if let Some(commit) = self.archived_as(name).await? {
            return self.open_relative(&commit).await?.snapshot(0);
        }
        let mut at = self.clone();
        for _ in 0..MAX_ANCESTORS {
            let Some(parent) = at.parents().into_iter().next() else {
                break;
            };
            at = self.open_relative(&parent).await?;
            if let Some(commit) = at.head().resolve(name) {
                return at.snapshot(commit);
            }
        }
        Err(self.no_ref(name))
    }

    /// The history that it carries; `None` where it carries none.
    ///
    /// # Errors
    /// What kept it from being read, or [`RepoError::Malformed`].
    pub async fn archive(&self) -> Result<Option<Arc<Archive>>, RepoError> {
        match self.has_archive() {
            true => self.loader().archive(self).await,
            false => Ok(None),
        }
    }

    /// Whether it carries its history.
    pub fn has_archive(&self) -> bool {
        let mut attached = self.head().attachments.iter();
        attached.any(|it| it.kind == AttachmentKind::Archive)
    }

    /// Where a commit of the history is that it carries.
    pub fn archived_target(&self, commit: GitId) -> Option<Target> {
        let (blob, root) = (self.blob()?, self.root());
        Some(Target::Archived { blob, root, commit })
    }

    /// The commit of the history that a tag, an ID or the start of one stands
    /// for.
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

    /// A commit of the history that it carries.
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

    /// Opens another target of the same repository, in the same way.
    ///
    /// # Errors
    /// As [`Loader::open_target`].
    pub async fn open_relative(&self, target: &Target) -> Result<Repository, RepoError> {
        let access = self.access();
        self.loader().open_target(access, target).await
    }

    /// Commits before those of the head that have to be opened by themselves;
    /// none where the head holds all that can be shown.
    pub fn parents(&self) -> Vec<Target> {
        if !self.is_implied() {
            return Vec::new();
        }
        let parents = self.head().commits.iter().flat_map(|c| &c.parents);
        parents.filter_map(Target::of).collect()
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
                chunks.push(self.chunk(&attached.chunks, index).await?);
            }
        }
        Ok(chunks)
    }

    /// The plain bytes of a chunk of an attachment.
    ///
    /// # Errors
    /// What kept it from being read.
    pub(super) async fn chunk(&self, table: &[ChunkRef], index: usize) -> Result<Bytes, RepoError> {
        let cache = self.loader().cache();
        Ok(cache
            .get(self.store(), table, index, ATTACHMENT_WINDOW)
            .await?)
    }

    /// Fetches the dictionaries that chunks of content are decoded with, ahead
    /// of who reads any, as far as the memory cache can hold them. None is kept
    /// here: whoever needs one that was evicted fetches it again.
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
            // Whoever needs it finds out why it could not be read.
            let _ = self.chunk(&attached.chunks, at).await;
        }
    }

    /// Which files changed together in its history; `None` where its publisher
    /// did not say.
    ///
    /// # Errors
    /// What kept it from being read, or [`RepoError::Malformed`].
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

    /// The profile that it was published with, of what somebody learned about
    /// it; `None` where there is none.
    ///
    /// # Errors
    /// What kept it from being read.
    pub async fn shipped(&self) -> Result<Option<Bytes>, RepoError> {
        self.hint(AttachmentKind::Learned, MAX_SHIPPED).await
    }

    /// An attachment of one chunk that nobody depends on. Whatever the head
    /// says, no more is fetched than such a one may take.
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

    /// The manifest that it is, as WalGit's own tools wrote it; `None` where it
    /// is none.
    ///
    /// # Errors
    /// What kept it from being read anew, where the cache has lost it.
    pub async fn manifest_text(&self) -> Result<Option<Bytes>, RepoError> {
        match (self.is_implied() && !self.has_archive(), self.blob()) {
            (true, Some(blob)) => Ok(Some(
                self.loader().manifest_text(self.access(), blob).await?,
            )),
            _ => Ok(None),
        }
    }

    /// Every commit object that was published, oldest first.
    ///
    /// # Errors
    /// What kept them from being read, [`RepoError::Malformed`], or that they take
    /// more memory than the mount has.
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

    /// Every branch and tag: kind, name, and what it leads to.
    pub fn refs(&self) -> Vec<(RefKind, Bytes, CommitId)> {
        let head = self.head();
        let own =
            (head.refs.iter()).map(|r| (r.kind, r.name.clone(), head.commits[r.commit].id.clone()));
        let mut all: Vec<_> = own.collect();
        let mut known: HashSet<(RefKind, Bytes)> = names_of(&all);
        for relative in self.relatives() {
            if known.insert((relative.kind, relative.name.clone())) {
                all.push((relative.kind, relative.name.clone(), relative.target.id()));
            }
        }
        all.sort();
        all
    }

    /// The same, with the tags of the history that it carries.
    ///
    /// # Errors
    /// What kept the history from being read.
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
