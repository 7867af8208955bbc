//! Content that an earlier publish stored, for reuse.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::error::PublishError;
use super::history::commits::StoredCommits;
use super::pending_chunk::{PendingChunk, StoredDirectory, stored};
use super::plan::{ContentPlan, join};
use crate::repo::archive::Archive;
use crate::repo::{Access, Loader, Node, RepoError, Repository, Snapshot};
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, Codec, PrivateError};
use walgit_format::head::{AttachmentKind, GitId};
use walgit_format::{Content, Directory, Entry, Kind, Prior, git};

/// A stored directory and its entries.
#[derive(Clone, Debug)]
pub(super) struct PreviousDirectory {
    pub(super) stored: StoredDirectory,
    pub(super) directory: Arc<Directory>,
    /// Chunks of the files that have a chunk list, by entry index.
    pub(super) listed: HashMap<usize, Vec<ChunkHash>>,
}

/// A stored dictionary.
#[derive(Debug)]
pub(super) struct StoredDictionary {
    pub(super) bytes: Bytes,
    pub(super) chunk: PendingChunk,
}

/// Content that an earlier publish stored, for reuse.
#[derive(Debug, Default)]
pub(super) struct PreviousPublish {
    /// The previous head.
    pub(super) head: Option<Repository>,
    /// All chunks that the head refers to.
    pub(super) chunks: HashMap<ChunkHash, PendingChunk>,
    /// Directories by git ID.
    pub(super) trees: HashMap<GitId, StoredDirectory>,
    /// Sizes and contents of files, by git ID.
    pub(super) files: HashMap<GitId, (u64, ContentPlan)>,
    /// Directories by path.
    pub(super) directories: HashMap<Vec<u8>, PreviousDirectory>,
    /// Number of files and links below a directory, by the hash of its node.
    pub(super) files_below: HashMap<ChunkHash, u64>,
    /// Which files changed together.
    pub(super) prior: Option<Prior>,
    /// The published learned profile.
    pub(super) profile: Option<Bytes>,
    pub(super) dictionaries: Vec<StoredDictionary>,
    /// Raw commits, by chunk.
    pub(super) commits: Vec<StoredCommits>,
    /// The archive of the history.
    pub(super) archive: Option<Archive>,
    /// Chunks of the files that have a chunk list, by the hash of the list.
    pub(super) listed: HashMap<ChunkHash, Vec<PendingChunk>>,
    /// Referenced blobs, in addition to those of `head`.
    pub(super) referenced_blobs: Vec<BlobId>,
}

/// Loads the content of the head at `blob`: reads all its directories, but no file
/// content. The head must be encrypted with the one key in `access`, or be public if
/// there is none: references never cross keys.
pub(super) async fn load(
    loader: &Arc<Loader>,
    access: &Access,
    blob: BlobId,
    root: Option<ChunkHash>,
) -> Result<PreviousPublish, PublishError> {
    let opened = loader.open(access.clone(), blob, root).await;
    let repository = opened.map_err(|error| match error {
        RepoError::Private {
            why: PrivateError::NoKey | PrivateError::WrongKey,
            ..
        } => PublishError::WasPrivate,
        error => PublishError::previous(error),
    })?;
    if repository.is_derived() {
        // Chunks of a foreign format cannot be reused.
        return Ok(PreviousPublish::default());
    }
    if repository.key() != access.keys.first() {
        // The head is public, or its key differs from the given one: a reference between
        // them would leak information about the content.
        return Err(PublishError::WasPublic);
    }
    let read = PreviousPublish::read(repository).await;
    read.map_err(PublishError::previous)
}

/// Git IDs of the directories of a head, by the hashes of their nodes.
pub(super) async fn git_ids(
    repository: &Repository,
) -> Result<HashMap<ChunkHash, git::DirectoryIds>, RepoError> {
    let mut ids = HashMap::new();
    for raw in repository.attachment(AttachmentKind::GitIds).await? {
        let list = git::decode_ids(&raw).map_err(|why| RepoError::Malformed {
            what: "list of git IDs",
            hash: ChunkHash::of(&raw),
            why,
        })?;
        ids.extend(list.into_iter().map(|ids| (ids.directory, ids)));
    }
    Ok(ids)
}

/// The readable dictionaries of a head.
async fn dictionaries(repository: &Repository) -> Vec<StoredDictionary> {
    let kind = AttachmentKind::Dictionaries;
    let Ok(bytes) = repository.attachment(kind).await else {
        return Vec::new();
    };
    let chunks = attachment_chunks(repository, kind).zip(bytes);
    chunks
        .map(|(chunk, bytes)| StoredDictionary {
            bytes,
            chunk: stored(chunk),
        })
        .collect()
}

/// The chunks of an attachment of a head.
pub(super) fn attachment_chunks(
    repository: &Repository,
    kind: AttachmentKind,
) -> impl Iterator<Item = &ChunkRef> {
    let attachments = repository.head().attachments.iter();
    let attachments = attachments.filter(move |attachment| attachment.kind == kind);
    attachments.flat_map(|attachment| &attachment.chunks)
}

impl PreviousPublish {
    async fn read(repository: Repository) -> Result<Self, RepoError> {
        let ids = git_ids(&repository).await?;
        let mut previous = PreviousPublish::default();
        for commit in 0..repository.head().commits.len() {
            let snapshot = repository.snapshot(commit)?;
            let mut pending: Vec<(Vec<u8>, Node)> = vec![(Vec::new(), snapshot.root())];
            while let Some((path, node)) = pending.pop() {
                let added = previous.add_directory(&snapshot, path, &node, &ids, &mut pending);
                added.await?;
            }
        }
        for attachment in &repository.head().attachments {
            previous.add_chunks(&attachment.chunks);
        }
        // These are hints: unreadable ones are recreated or omitted.
        previous.prior = repository.prior().await.ok().flatten();
        previous.profile = repository.shipped().await.ok().flatten();
        previous.dictionaries = dictionaries(&repository).await;
        if let Some(sample) = repository.head().commits.first().map(|it| it.id.git()) {
            let raw = repository.attachment(AttachmentKind::GitCommits).await?;
            let decoded = raw
                .iter()
                .map_while(|raw| StoredCommits::decode(raw, &sample));
            previous.commits = decoded.collect();
        }
        previous.archive = repository.load_archive().await?;
        let segments = previous
            .archive
            .iter()
            .flat_map(|it| it.segments().to_vec());
        for segment in segments.collect::<Vec<_>>() {
            previous.add_chunks(&segment.chunks);
        }
        previous.head = Some(repository);
        previous.count_files();
        Ok(previous)
    }

    async fn add_directory(
        &mut self,
        snapshot: &Snapshot,
        path: Vec<u8>,
        node: &Node,
        ids: &HashMap<ChunkHash, git::DirectoryIds>,
        pending: &mut Vec<(Vec<u8>, Node)>,
    ) -> Result<(), RepoError> {
        let directory = snapshot.directory(node).await?;
        let stored_directory = StoredDirectory {
            node: stored(&node.chunks()[0]),
            nodes: directory.nodes(),
            bytes: node.size,
        };
        let ids = ids.get(&stored_directory.node.hash);
        if let Some(ids) = ids {
            self.trees
                .insert(ids.tree.clone(), stored_directory.clone());
        }
        let mut listed = HashMap::new();
        for (number, entry) in directory.entries().iter().enumerate() {
            let content = match &entry.content {
                Content::Directory { .. } => {
                    let child = snapshot.entry(node, &directory, number);
                    pending.push((join(&path, &entry.name), child));
                    continue;
                }
                Content::Inline(bytes) => ContentPlan::Inline(bytes.to_vec()),
                // Only occurs in foreign formats.
                Content::Part { .. } | Content::Whole { .. } => continue,
                Content::Chunks { first, count } => {
                    let chunks = &directory.chunks()[*first as usize..(*first + *count) as usize];
                    self.add_chunks(chunks);
                    ContentPlan::Chunks(chunks.iter().map(stored).collect())
                }
                Content::List { index } => {
                    let file = snapshot.entry(node, &directory, number);
                    let chunks = snapshot.file_chunks(&file).await?;
                    self.add_chunks(&chunks);
                    listed.insert(number, chunks.iter().map(|c| c.hash).collect());
                    let list = &directory.chunks()[*index as usize];
                    let chunks = chunks.iter().map(stored).collect();
                    self.listed.insert(list.hash, chunks);
                    ContentPlan::List(stored(list))
                }
            };
            let id = ids.and_then(|ids| ids.entries.get(number));
            if let (Some(id), Kind::File { .. }) = (id, entry.kind) {
                self.files.insert(id.clone(), (entry.size, content));
            }
        }
        let directory = PreviousDirectory {
            stored: stored_directory,
            directory,
            listed,
        };
        self.directories.insert(path, directory);
        Ok(())
    }

    fn count_files(&mut self) {
        for (path, previous) in &self.directories {
            let entries = previous.directory.entries().iter();
            let files = entries.filter(|entry| entry.kind != Kind::Directory);
            let count = files.count() as u64;
            let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
            let ancestors = slashes.map(|(at, _)| &path[..at]).chain([&path[..], b""]);
            let mut last: Option<&[u8]> = None;
            for ancestor in ancestors {
                // The root is its own ancestor; count it once.
                if last.replace(ancestor) != Some(ancestor)
                    && let Some(above) = self.directories.get(ancestor)
                {
                    let hash = above.stored.node.hash;
                    *self.files_below.entry(hash).or_default() += count;
                }
            }
        }
    }

    /// Number of files and directories in a stored directory, including itself.
    pub(super) fn counts(&self, directory: &StoredDirectory) -> (u64, u64) {
        let files = self.files_below.get(&directory.node.hash);
        let files = files.copied().unwrap_or(0);
        (files, directory.nodes.saturating_sub(files))
    }

    fn add_chunks(&mut self, chunks: &[ChunkRef]) {
        for chunk in chunks {
            let entry = self.chunks.entry(chunk.hash);
            entry.or_insert_with(|| stored(chunk));
        }
    }

    /// The single chunk of the file at this path, or the base of its patch: always a chunk
    /// that is stored whole.
    pub(super) fn file_at(&self, directory: &[u8], name: &[u8]) -> Option<&ChunkRef> {
        let previous = self.directories.get(directory)?;
        let at = previous.directory.find(name)?;
        previous.whole_chunk(&previous.directory.entries()[at])
    }

    /// Files with these names, in any directory: name, size and chunk, as in
    /// [`PreviousPublish::file_at`].
    pub(super) fn files_named(
        &self,
        names: &HashSet<&[u8]>,
    ) -> impl Iterator<Item = (&[u8], u64, &ChunkRef)> {
        let all = self.directories.values().filter(|_| !names.is_empty());
        let entries = all.flat_map(|it| it.directory.entries().iter().map(move |e| (it, e)));
        let named = entries.filter(|(_, entry)| names.contains(&entry.name[..]));
        named.filter_map(|(directory, entry)| {
            let chunk = directory.whole_chunk(entry)?;
            Some((&entry.name[..], entry.size, chunk))
        })
    }

    /// The chunks of an attachment of the head.
    pub(super) fn attachment(&self, kind: AttachmentKind) -> Vec<PendingChunk> {
        let head = self.head.iter();
        let chunks = head.flat_map(|head| attachment_chunks(head, kind));
        chunks.map(stored).collect()
    }

    /// Blobs that reused content may refer to.
    pub(super) fn blobs(&self) -> Vec<BlobId> {
        let mut blobs = self.referenced_blobs.clone();
        if let Some(head) = &self.head {
            blobs.extend_from_slice(&head.head().blobs);
            blobs.extend(head.blob());
        }
        blobs
    }
}

impl PreviousDirectory {
    /// The chunk of a single-chunk file, or the base of its patch.
    fn whole_chunk(&self, entry: &Entry) -> Option<&ChunkRef> {
        let Content::Chunks { first, count: 1 } = entry.content else {
            return None;
        };
        let chunk = &self.directory.chunks()[first as usize];
        match (chunk.codec, &chunk.bases[..]) {
            (Codec::Patch, [base]) => Some(base),
            (Codec::Patch, _) => None,
            _ => Some(chunk),
        }
    }
}
