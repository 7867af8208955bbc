//! Heads and nodes in WalGit's format: fetched, verified, decoded and kept in memory.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::access::Access;
use super::account::{EvictAccount, MOUNT_MEMORY_BYTES, MemoryAccount};
use super::archive::Archive;
use super::blob_access::{BlobAccess, enter};
use super::decoded::{Decoded, DecodedNodes};
use super::error::RepoError;
use super::weighted_lru::WeightedLru;
use crate::cache::{Cache, CacheView, RecordNamespace};
use crate::offload::offload;
use walgit_format::blob::{Header, MIN_BLOB_LEN};
use walgit_format::chunk::{
    Bases, BlobId, ByteRange, ChunkHash, ChunkRef, Codec, Location, WholeBlob,
};
use walgit_format::guard::Guard;
use walgit_format::head::{AttachmentKind, MAX_SHIPPED_BYTES};
use walgit_format::prior::MAX_PRIOR_BYTES;
use walgit_format::{ChunkList, Content, Directory, Head, MalformedNode};
use walrus_client::{BlobStore, EncryptedHeaders, ReadRange, Rejected, StoreError};

/// Settings of a [`Loader`].
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Memory budget for decoded directories and lists, in bytes.
    pub decoded_bytes: u64,
    /// Stored bytes of neighbouring nodes to fetch together with a node.
    ///
    /// Corresponds to half a round trip of 50 ms at 20 Mbit/s: these bytes are cheap
    /// compared to another request for the next directory.
    pub node_window: u64,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        LoaderConfig {
            decoded_bytes: 24 << 20,
            node_window: 64 << 10,
        }
    }
}

/// Most plain bytes to unpack from a first read beyond the requested chunks. Limits
/// the work that a hostile repository can cause at mount time.
const SEED_BYTES: u64 = 8 << 20;

/// Bytes of archives to keep besides the most recently used one.
const ARCHIVE_CACHE_BYTES: u64 = 32 << 20;

/// A head, its hash, and the means to read it.
pub(super) struct FoundHead {
    pub(super) head: Head,
    pub(super) hash: ChunkHash,
    pub(super) access_of_blob: BlobAccess,
}

/// Opens repositories and decodes their nodes. One per process, shared by all mounts.
pub struct Loader {
    cache: Arc<Cache>,
    decoded: Arc<DecodedNodes>,
    config: LoaderConfig,
    /// Recently used archives, by the blob of the head.
    pub(super) archives: WeightedLru<BlobId, Arc<Archive>>,
    /// Headers of encrypted blobs read so far.
    headers: Arc<EncryptedHeaders>,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("decoded", &self.decoded.len())
            .finish_non_exhaustive()
    }
}

impl Loader {
    /// Creates a loader on top of `cache`.
    pub fn new(cache: Arc<Cache>, config: LoaderConfig) -> Arc<Self> {
        Arc::new(Loader {
            cache,
            decoded: Arc::new(DecodedNodes::new(config.decoded_bytes)),
            config,
            archives: WeightedLru::new(ARCHIVE_CACHE_BYTES),
            headers: Arc::default(),
        })
    }

    /// Creates a memory account for a mount that the user calls `name`.
    pub fn account(&self, name: &str) -> MemoryAccount {
        let cache: Weak<dyn EvictAccount> = Arc::<DecodedNodes>::downgrade(&self.decoded);
        MemoryAccount::of(name, MOUNT_MEMORY_BYTES, Some(cache))
    }

    /// The underlying chunk cache.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    pub(super) fn headers(&self) -> &Arc<EncryptedHeaders> {
        &self.headers
    }

    /// The head in a blob, if an earlier session has cached it, in plaintext or
    /// encrypted with one of the keys.
    pub(super) async fn known_head(
        &self,
        access: &Access,
        blob: BlobId,
        root: Option<ChunkHash>,
    ) -> Option<FoundHead> {
        let known = BlobAccess::all(access, &self.headers).find_map(|access_of_blob| {
            let cache = self.cache.view(access_of_blob.store.at_rest());
            let record = cache.record(RecordNamespace::Heads, &record_key(blob, root))?;
            let reference = decode_reference(blob, &record)?;
            let raw = cache.get_cached(&reference)?;
            Some((access_of_blob, reference, raw))
        });
        let (access_of_blob, reference, raw) = known?;
        let hash = reference.hash;
        let head = decode_head(raw, reference).await.ok()?;
        Some(FoundHead {
            head,
            hash,
            access_of_blob,
        })
    }

    /// Fetches the head with this root, in one ranged read.
    pub(super) async fn fetch_head(
        &self,
        access: &Access,
        blob: BlobId,
        root: ChunkHash,
    ) -> Result<FoundHead, RepoError> {
        let mut found = None;
        let mut not_ours = None;
        let start = ReadRange::Part(ByteRange::new(0, MIN_BLOB_LEN));
        let mut accept = |bytes: Bytes| {
            let refuse = |why: String| RepoError::NotARepository { blob, why };
            let opened = enter(access, &self.headers, blob, bytes);
            let checked = opened.and_then(|(access_of_blob, bytes)| {
                match Header::decode(&bytes).and_then(|header| header.head(blob)) {
                    Ok(reference) if access_of_blob.root(&reference.hash) == root => {
                        Ok((access_of_blob, reference, bytes))
                    }
                    Ok(reference) => Err(refuse(format!(
                        "the head hashes to {} where the address says {root}",
                        access_of_blob.root(&reference.hash)
                    ))),
                    Err(why) => Err(refuse(why.to_string())),
                }
            });
            let checked = checked.map_err(|why| {
                let rejected = Rejected::because(&why);
                not_ours = Some(why);
                rejected
            })?;
            not_ours = None;
            found = Some(checked);
            Ok(())
        };
        let why = match access.store.read(blob, start, &mut accept).await {
            Ok(()) => String::from("nothing was read"),
            Err(StoreError::OutOfRange { .. }) => {
                format!("the blob is shorter than {MIN_BLOB_LEN} bytes")
            }
            Err(error) => return Err(not_ours.unwrap_or(error.into())),
        };
        match found {
            Some((access_of_blob, reference, first)) => {
                let account = &access.account;
                self.keep_head(account, access_of_blob, blob, Some(root), reference, &first)
                    .await
            }
            None => Err(RepoError::NotARepository { blob, why }),
        }
    }

    /// Decodes the head at `reference`, and caches the other content of the read.
    /// `first` is the start of its blob, or the whole blob.
    pub(super) async fn keep_head(
        &self,
        account: &MemoryAccount,
        access_of_blob: BlobAccess,
        blob: BlobId,
        root: Option<ChunkHash>,
        reference: ChunkRef,
        first: &Bytes,
    ) -> Result<FoundHead, RepoError> {
        let store = &access_of_blob.store;
        let cache = self.cache.view(store.at_rest());
        // A head longer than the first read takes another request.
        let raw = match stored_in(first, &reference) {
            Some(stored) => {
                cache
                    .insert(&reference, stored)
                    .map_err(|why| RepoError::NotARepository {
                        blob,
                        why: why.to_string(),
                    })?
            }
            None => {
                self.cache
                    .get(store, std::slice::from_ref(&reference), 0, 0)
                    .await?
            }
        };
        let head = decode_head(raw, reference.clone()).await?;
        let record = encode_reference(&reference);
        let key = record_key(blob, root);
        cache.set_record(RecordNamespace::Heads, &key, &record);
        self.seed_cache(account, &head, first, blob, cache);
        Ok(FoundHead {
            head,
            hash: reference.hash,
            access_of_blob,
        })
    }

    /// Caches the rest of the first read: directories breadth first, content within
    /// its bounds, and hints for the next reads.
    fn seed_cache(
        &self,
        account: &MemoryAccount,
        head: &Head,
        first: &Bytes,
        blob: BlobId,
        cache: CacheView<'_>,
    ) {
        let mut take = CacheSeed {
            cache,
            first,
            blob,
            seen: HashSet::new(),
            budget: SEED_BYTES,
        };
        let mut queue: VecDeque<ChunkRef> = head.commits.iter().map(|c| c.root.clone()).collect();
        while let Some(reference) = queue.pop_front() {
            let Some(raw) = take.chunk(&reference) else {
                continue;
            };
            let Ok(directory) = Directory::decode(&raw, &reference) else {
                continue;
            };
            for entry in directory.entries() {
                match entry.content {
                    Content::Directory { .. } => {
                        queue.extend(directory.chunks_of(&entry.content).iter().cloned());
                    }
                    Content::Chunks { .. } => {
                        for chunk in directory.chunks_of(&entry.content) {
                            take.chunk(chunk);
                        }
                    }
                    _ => {}
                }
            }
            let Ok(charge) = account.charge(directory.weight()) else {
                break;
            };
            let directory = Arc::new(directory.with_guard(Guard::new(charge)));
            self.decoded.keep(&reference, Decoded::Directory(directory));
        }
        let hints = [
            head.hint(AttachmentKind::Prior, MAX_PRIOR_BYTES),
            head.hint(AttachmentKind::Learned, MAX_SHIPPED_BYTES),
        ];
        for hint in hints.into_iter().flatten() {
            take.chunk(hint);
        }
    }

    /// Whether the decoded node is in memory.
    pub(super) fn remembers(&self, reference: &ChunkRef) -> bool {
        self.decoded.get(reference).is_some()
    }

    /// The directory at `table[index]`.
    pub(super) async fn directory(
        &self,
        account: &MemoryAccount,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
    ) -> Result<Arc<Directory>, RepoError> {
        let reference = &table[index];
        if let Some(Decoded::Directory(known)) = self.decoded.get(reference) {
            return Ok(known);
        }
        let raw = self.node(store, table, index).await?;
        let (nodes, owned, account) = (self.decoded.clone(), reference.clone(), account.clone());
        let decode = move || -> Result<Arc<Directory>, RepoError> {
            // Another task may have decoded it while this one waited for a thread.
            if let Some(Decoded::Directory(known)) = nodes.get(&owned) {
                return Ok(known);
            }
            nodes.evict_for(raw.len());
            let decoded = Directory::decode(&raw, &owned);
            let directory = decoded.map_err(|why| malformed("directory", &owned, why))?;
            let charge = account.charge(directory.weight())?;
            let directory = Arc::new(directory.with_guard(Guard::new(charge)));
            nodes.keep(&owned, Decoded::Directory(directory.clone()));
            Ok(directory)
        };
        offload(reference.raw_len as usize, decode).await?
    }

    /// The chunk list at `table[index]`.
    pub(super) async fn list(
        &self,
        account: &MemoryAccount,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
    ) -> Result<Arc<ChunkList>, RepoError> {
        let reference = &table[index];
        if let Some(Decoded::List(known)) = self.decoded.get(reference) {
            return Ok(known);
        }
        let raw = self.node(store, table, index).await?;
        let (nodes, owned, account) = (self.decoded.clone(), reference.clone(), account.clone());
        let decode = move || -> Result<Arc<ChunkList>, RepoError> {
            if let Some(Decoded::List(known)) = nodes.get(&owned) {
                return Ok(known);
            }
            nodes.evict_for(raw.len());
            let decoded = ChunkList::decode(&raw, &owned);
            let list = decoded.map_err(|why| malformed("chunk list", &owned, why))?;
            let charge = account.charge(list.weight())?;
            let list = Arc::new(list.with_guard(Guard::new(charge)));
            nodes.keep(&owned, Decoded::List(list.clone()));
            Ok(list)
        };
        offload(reference.raw_len as usize, decode).await?
    }

    /// The pieces of a file stored as one blob, as a list; fetches and verifies the
    /// blob if necessary.
    pub(super) async fn whole(
        &self,
        account: &MemoryAccount,
        store: &Arc<dyn BlobStore>,
        whole: &WholeBlob,
    ) -> Result<Arc<ChunkList>, RepoError> {
        let key = ChunkRef::nominal(whole.blob, whole.name());
        if let Some(Decoded::List(known)) = self.decoded.get(&key) {
            return Ok(known);
        }
        let pieces = self.cache.get_raw_file(store, whole).await?;
        let list = ChunkList::of_pieces(&pieces);
        let charge = account.charge(list.weight())?;
        let list = Arc::new(list.with_guard(Guard::new(charge)));
        self.decoded.keep(&key, Decoded::List(list.clone()));
        Ok(list)
    }

    async fn node(
        &self,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
    ) -> Result<Bytes, RepoError> {
        let window = self.config.node_window;
        Ok(self.cache.get(store, table, index, window).await?)
    }
}

async fn decode_head(raw: Bytes, reference: ChunkRef) -> Result<Head, RepoError> {
    let named = reference.clone();
    let decode = move || Head::decode(&raw, &reference);
    let decoded = offload(named.raw_len as usize, decode).await?;
    decoded.map_err(|why| malformed("repository head", &named, why))
}

fn malformed(what: &'static str, reference: &ChunkRef, why: MalformedNode) -> RepoError {
    RepoError::Malformed {
        what,
        hash: reference.hash,
        why,
    }
}

/// Caches chunks from a first read, each once and within a budget.
struct CacheSeed<'a> {
    cache: CacheView<'a>,
    first: &'a Bytes,
    blob: BlobId,
    seen: HashSet<ChunkHash>,
    budget: u64,
}

impl CacheSeed<'_> {
    fn chunk(&mut self, reference: &ChunkRef) -> Option<Bytes> {
        if reference.location.blob != self.blob || !self.seen.insert(reference.hash) {
            return None;
        }
        self.budget = (self.budget).checked_sub(u64::from(reference.raw_len))?;
        let stored = stored_in(self.first, reference)?;
        self.cache.insert(reference, stored).ok()
    }
}

/// The stored bytes of a chunk, if the read of the start of the blob includes them.
fn stored_in(first: &Bytes, reference: &ChunkRef) -> Option<Bytes> {
    let range = reference.range();
    let start = usize::try_from(range.start()).ok()?;
    let end = usize::try_from(range.end()).ok()?;
    (end <= first.len()).then(|| first.slice(start..end))
}

/// Records with and without a root are separate: an address with an arbitrary root
/// must not determine what the bare blob ID shows.
fn record_key(blob: BlobId, root: Option<ChunkHash>) -> Vec<u8> {
    let mut key = blob.as_bytes().to_vec();
    if let Some(root) = root {
        key.extend_from_slice(root.as_bytes());
    }
    key
}

fn encode_reference(reference: &ChunkRef) -> Vec<u8> {
    let mut record = vec![reference.codec as u8];
    record.extend_from_slice(&reference.location.offset.to_le_bytes());
    record.extend_from_slice(&reference.stored_len.to_le_bytes());
    record.extend_from_slice(&reference.raw_len.to_le_bytes());
    record.extend_from_slice(reference.hash.as_bytes());
    record
}

fn decode_reference(blob: BlobId, record: &[u8]) -> Option<ChunkRef> {
    let (codec, rest) = record.split_first()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (stored_len, rest) = rest.split_first_chunk::<4>()?;
    let (raw_len, hash) = rest.split_first_chunk::<4>()?;
    Some(ChunkRef {
        hash: ChunkHash::from_bytes(hash.try_into().ok()?),
        raw_len: u32::from_le_bytes(*raw_len),
        stored_len: u32::from_le_bytes(*stored_len),
        codec: Codec::try_from(*codec).ok()?,
        location: Location {
            blob,
            offset: u64::from_le_bytes(*offset),
        },
        // Nodes are never patches.
        bases: Bases::NONE,
    })
}
