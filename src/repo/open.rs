//! Opens a blob or an object as a [`Repository`]: detects the format and decrypts it.
//!
//! The content determines the format of a blob: a head, encrypted or not, a manifest,
//! or an encrypted manifest. Without the hash of the head, only the blob ID
//! authenticates the bytes, so the whole blob is fetched and its ID recomputed, once.

use std::sync::Arc;

use bytes::Bytes;

use super::access::{Access, Located, Target};
use super::blob_access::enter;
use super::derived_tree::{self, CommitMeta, TreeFile};
use super::error::RepoError;
use super::loader::Loader;
use super::repository::Repository;
use crate::cache::{CacheError, RecordNamespace};
use crate::offload::offload;
use walgit_format::Kind;
use walgit_format::blob::Header;
use walgit_format::chunk::{
    BlobId, ChunkHash, PAYLOAD_OVERHEAD, Proof, SecretKey, WholeBlob, is_payload, open_payload,
};
use walgit_format::directory::PlannedContent;
use walgit_format::head::CommitId;
use walgit_format::manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestFile};
use walrus_client::{BlobStore, LegacyEncryptedStore, ReadRange, Rejected};
use walrus_encoding::blob_id;

/// Longest blob that is fetched whole to detect its format, in bytes.
const MAX_HEAD_BLOB_BYTES: u64 = 2 * MAX_MANIFEST_BYTES + PAYLOAD_OVERHEAD;

/// Memory that decoding a manifest takes, relative to a node of the same length.
const MEMORY_PER_MANIFEST_BYTE: usize = 3;
/// Longest file that may be a script, in bytes.
const MAX_SCRIPT_BYTES: u64 = 1 << 20;
/// Number of files to inspect concurrently.
const SCRIPT_CHECK_CONCURRENCY: usize = 32;

impl Loader {
    /// Opens the repository in a blob.
    ///
    /// With `root`, needs at most one ranged read. Without it, reads the whole blob
    /// and recomputes its ID, once, because nothing else authenticates its content.
    ///
    /// # Errors
    /// [`RepoError::NotARepository`] if the blob holds something else,
    /// [`RepoError::Private`] or [`RepoError::Sealed`] if no key decrypts it, or a
    /// read error.
    pub async fn open(
        self: &Arc<Self>,
        access: impl Into<Access>,
        blob: BlobId,
        root: Option<ChunkHash>,
    ) -> Result<Repository, RepoError> {
        self.open_blob(&access.into(), blob, root).await
    }

    /// Opens a head from the store, bypassing cached state. Reads and decodes the
    /// head, the root directory of its first commit, and those root directories of
    /// other commits that the first read includes. Takes one request if the head and
    /// the first root directory are in the first
    /// [`MIN_BLOB_LEN`](walgit_format::blob::MIN_BLOB_LEN) bytes.
    ///
    /// # Errors
    /// Fails if a reader could not list the repository.
    pub async fn open_stored(
        self: &Arc<Self>,
        access: &Access,
        blob: BlobId,
        root: ChunkHash,
    ) -> Result<Repository, RepoError> {
        let found = self.fetch_head(access, blob, root).await?;
        let repository = Repository::of_head(self.clone(), access, blob, found)?;
        for (number, commit) in repository.head().commits.iter().enumerate() {
            if number == 0 || self.remembers(&commit.root) {
                let snapshot = repository.snapshot(number)?;
                snapshot.directory(&snapshot.root()).await?;
            }
        }
        Ok(repository)
    }

    /// Opens the target of a resolved source, with its other branches and tags.
    ///
    /// # Errors
    /// As [`Loader::open`], and if the chain does not answer.
    pub async fn open_located(
        self: &Arc<Self>,
        access: &Access,
        located: &Located,
    ) -> Result<Repository, RepoError> {
        let repository = self.open_target(access, &located.target).await?;
        Ok(repository.of_branch(&located.branch, &located.sibling_refs))
    }

    /// Opens one target.
    pub async fn open_target(
        self: &Arc<Self>,
        access: &Access,
        target: &Target,
    ) -> Result<Repository, RepoError> {
        match target {
            Target::Blob { blob, root } => self.open_blob(access, *blob, *root).await,
            Target::Commit(id) => self.open_commit(access, *id).await,
            Target::Archived { blob, root, commit } => {
                let head = self.open_blob(access, *blob, *root).await?;
                head.archived(commit).await
            }
        }
    }

    async fn open_blob(
        self: &Arc<Self>,
        access: &Access,
        blob: BlobId,
        root: Option<ChunkHash>,
    ) -> Result<Repository, RepoError> {
        if let Some(found) = self.known_head(access, blob, root).await {
            return Repository::of_head(self.clone(), access, blob, found);
        }
        if let Some(root) = root {
            let found = self.fetch_head(access, blob, root).await?;
            return Repository::of_head(self.clone(), access, blob, found);
        }
        // The blob is in memory as a whole until its tree is built.
        let _turn = access.account.build_permit().await;
        if let Some((json, key)) = self.known_manifest(access, blob).await {
            return self.manifest(access, blob, &json, key).await;
        }
        let bytes = fetch_whole(&access.store, blob).await?;
        let (access_of_blob, bytes) = enter(access, self.headers(), blob, bytes)?;
        match Header::decode(&bytes).and_then(|header| header.head(blob)) {
            Ok(reference) => {
                let found = self
                    .keep_head(
                        &access.account,
                        access_of_blob,
                        blob,
                        None,
                        reference,
                        &bytes,
                    )
                    .await?;
                Repository::of_head(self.clone(), access, blob, found)
            }
            Err(why) => {
                let (json, key) = manifest_in(access, blob, bytes, &why.to_string())?;
                let opened = self.manifest(access, blob, &json, key).await?;
                self.keep_manifest(access, blob, &json, key);
                Ok(opened)
            }
        }
    }

    /// The JSON of a manifest, from the cache or the store.
    pub(super) async fn manifest_text(
        &self,
        access: &Access,
        blob: BlobId,
    ) -> Result<Bytes, RepoError> {
        if let Some((json, _)) = self.known_manifest(access, blob).await {
            return Ok(json);
        }
        let bytes = fetch_whole(&access.store, blob).await?;
        Ok(manifest_in(access, blob, bytes, "not a manifest")?.0)
    }

    /// Creates a repository from a manifest. `key` is the number of the key that
    /// decrypted it.
    async fn manifest(
        self: &Arc<Self>,
        access: &Access,
        blob: BlobId,
        json: &Bytes,
        key: Option<usize>,
    ) -> Result<Repository, RepoError> {
        let owned = json.clone();
        let manifest = offload(json.len() * MEMORY_PER_MANIFEST_BYTE, move || {
            Manifest::decode(&owned)
        })
        .await?;
        let manifest = manifest.map_err(|why| RepoError::NotARepository {
            blob,
            why: why.to_string(),
        })?;
        // Held until the tree is built from it.
        let _charge = access.account.charge(manifest.weight())?;
        let (mut leaves, mut refused, mut sealed) = (Vec::new(), Vec::new(), 0);
        for (path, file) in manifest.files {
            match file {
                ManifestFile::Bad(why) => refused.push((path, why)),
                ManifestFile::Blob(whole) => {
                    sealed += u64::from(whole.sealed);
                    leaves.push(TreeFile {
                        path: path.into(),
                        kind: Kind::File { executable: false },
                        size: whole.size,
                        content: PlannedContent::Whole(whole),
                    });
                }
            }
        }
        let decrypting_store = decrypting_store(access, key);
        if access.scripts {
            self.mark_scripts(access, decrypting_store.as_ref(), &mut leaves)
                .await;
        }
        let account = access.account.clone();
        let build = move || derived_tree::build(&account, leaves, refused, blob);
        let mut tree = offload(json.len(), build).await??;
        tree.encrypted = sealed > 0 || key.is_some();
        if sealed > 0 && decrypting_store.is_none() {
            let why = "encrypted, and no key was given: reading them fails (see --key)";
            tree.notices.insert(0, format!("{sealed} files are {why}"));
        }
        let meta = CommitMeta {
            author: manifest.author,
            seconds: manifest.seconds,
            message: manifest.message,
            parent: manifest.parent.map(CommitId::Manifest),
        };
        let target = Target::Blob { blob, root: None };
        let loader = self.clone();
        Repository::of_tree(loader, access, target, meta, tree, decrypting_store)
    }

    /// The content of a manifest that an earlier session has verified, and the number
    /// of the key that it was decrypted with.
    async fn known_manifest(
        &self,
        access: &Access,
        blob: BlobId,
    ) -> Option<(Bytes, Option<usize>)> {
        let keys = (0..access.keys.len()).map(Some);
        for key in std::iter::once(None).chain(keys) {
            let sealed = key.and_then(|key| decrypting_store(access, Some(key)));
            let cache = self.cache();
            let view = cache.view(sealed.as_ref().and_then(|store| store.at_rest()));
            let Some(record) = view.record(RecordNamespace::Manifests, blob.as_bytes()) else {
                continue;
            };
            let size = u64::from_le_bytes(record.try_into().ok()?);
            let whole = manifest_blob(blob, size, key.is_some());
            let store = sealed.as_ref().unwrap_or(&access.store);
            // Evicted pieces are fetched again and verified by their own hashes.
            let pieces = view.raw_file(&whole)?;
            let mut json = Vec::with_capacity(size.min(MAX_MANIFEST_BYTES) as usize);
            for index in 0..pieces.len() {
                let window = MAX_MANIFEST_BYTES;
                json.extend_from_slice(&cache.get(store, &pieces, index, window).await.ok()?);
            }
            return Some((json.into(), key));
        }
        None
    }

    fn keep_manifest(&self, access: &Access, blob: BlobId, json: &Bytes, key: Option<usize>) {
        let sealed = key.and_then(|key| decrypting_store(access, Some(key)));
        let key_at_rest = sealed.as_ref().and_then(|store| store.at_rest());
        let size = json.len() as u64;
        let whole = manifest_blob(blob, size, key.is_some());
        let cache = self.cache().view(key_at_rest);
        cache.insert_raw_file(&whole, json);
        let record = size.to_le_bytes();
        cache.set_record(RecordNamespace::Manifests, blob.as_bytes(), &record);
    }

    /// Marks files that start with `#!` as executable, if they can be read.
    async fn mark_scripts(
        &self,
        access: &Access,
        sealed: Option<&Arc<dyn BlobStore>>,
        leaves: &mut [TreeFile],
    ) {
        use futures_util::StreamExt as _;
        let small = leaves
            .iter_mut()
            .filter(|leaf| leaf.size <= MAX_SCRIPT_BYTES);
        let checks = small.map(|leaf| async move {
            let starts = match &leaf.content {
                PlannedContent::Inline(bytes) => bytes.starts_with(b"#!"),
                PlannedContent::Whole(whole) if whole.size >= 2 => {
                    let store = if whole.sealed {
                        sealed
                    } else {
                        Some(&access.store)
                    };
                    let Some(store) = store else { return };
                    let Ok(list) = self.whole(&access.account, store, whole).await else {
                        return;
                    };
                    let first = self.cache().get(store, list.parts(), 0, 0).await;
                    first.is_ok_and(|first| first.starts_with(b"#!"))
                }
                _ => false,
            };
            if starts {
                leaf.kind = Kind::File { executable: true };
            }
        });
        let checks: Vec<_> = checks.collect();
        futures_util::stream::iter(checks)
            .for_each_concurrent(SCRIPT_CHECK_CONCURRENCY, |check| check)
            .await;
    }
}

/// A store that decrypts payloads. It tries key number `first` before all others,
/// because the disk cache encrypts content with that key.
pub(super) fn decrypting_store(
    access: &Access,
    first: Option<usize>,
) -> Option<Arc<dyn BlobStore>> {
    let mut keys: Vec<SecretKey> = access.keys.clone();
    if let Some(first) = first.filter(|&first| first < keys.len()) {
        keys.swap(0, first);
    }
    let store = LegacyEncryptedStore::new(access.store.clone(), keys)?;
    Some(Arc::new(store))
}

/// A manifest, described as a file stored as one blob.
fn manifest_blob(blob: BlobId, size: u64, sealed: bool) -> WholeBlob {
    WholeBlob {
        blob,
        size,
        proof: Proof::BlobId { git_sha1: None },
        sealed,
    }
}

/// The JSON of a manifest in a blob, and the number of the key that decrypted it;
/// `otherwise` is the error message if the blob is not a manifest.
fn manifest_in(
    access: &Access,
    blob: BlobId,
    bytes: Bytes,
    otherwise: &str,
) -> Result<(Bytes, Option<usize>), RepoError> {
    if is_payload(&bytes) {
        return match open_payload(&access.keys, &bytes) {
            Ok((key, json)) => Ok((json, Some(key))),
            Err(why) => Err(RepoError::Sealed {
                what: format!("walrus://{blob}"),
                why,
            }),
        };
    }
    if !Manifest::is_likely(&bytes) {
        let why = otherwise.into();
        return Err(RepoError::NotARepository { blob, why });
    }
    Ok((bytes, None))
}

/// Fetches a whole blob and verifies its ID.
async fn fetch_whole(store: &Arc<dyn BlobStore>, blob: BlobId) -> Result<Bytes, RepoError> {
    let mut proven = None;
    let at_most = MAX_HEAD_BLOB_BYTES;
    let mut accept = |bytes: Bytes| {
        // Hashing ten megabytes takes a tenth of a second: too long for a thread that
        // other tasks wait for.
        let computed = block_in_place(|| blob_id::blob_id(&bytes));
        if !computed.is_ok_and(|computed| computed == blob) {
            return Err(Rejected::because("the content has another blob ID"));
        }
        proven = Some(bytes);
        Ok(())
    };
    let whole = ReadRange::Whole { at_most };
    store.read(blob, whole, &mut accept).await?;
    proven.ok_or(RepoError::Cache(CacheError::Interrupted))
}

/// Runs blocking work; a multi-threaded runtime moves other tasks to another thread.
fn block_in_place<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
