//! Content that an earlier publish stored, for reuse.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::history::KnownCommits;
use super::placed::{self, KnownDirectory, Placed, Stored};
use super::plan::{CommitPlan, ContentPlan, Plan, PlannedDirectory, TreePlan};
use super::{Learned, Progress, PublishError, together};
use crate::repo::archive::Archive;
use crate::repo::{Access, Loader, Node, RepoError, Repository, Snapshot};
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, Codec, PrivateError};
use walgit_format::head::{AttachmentKind, GitId};
use walgit_format::{Content, Directory, Entry, Kind, Prior, git};

/// Minimum likeness of the old and the new prior for reusing the old one.
const ALIKE: f64 = 0.75;

/// A stored directory and its entries.
#[derive(Clone, Debug)]
pub(super) struct OldDirectory {
    pub(super) reference: KnownDirectory,
    directory: Arc<Directory>,
    /// Chunks of the files that have a chunk list, by entry index.
    listed: HashMap<usize, Vec<ChunkHash>>,
}

/// A stored dictionary.
#[derive(Debug)]
pub(super) struct KnownDictionary {
    pub(super) bytes: Bytes,
    pub(super) placed: Placed,
}

/// Content that an earlier publish stored.
#[derive(Debug, Default)]
pub(super) struct Known {
    previous: Option<Repository>,
    chunks: HashMap<ChunkHash, Placed>,
    trees: HashMap<GitId, KnownDirectory>,
    files: HashMap<GitId, (u64, ContentPlan)>,
    paths: HashMap<Vec<u8>, OldDirectory>,
    /// Number of files and links below a directory, by the hash of its node.
    files_below: HashMap<ChunkHash, u64>,
    /// Which files changed together.
    prior: Option<Prior>,
    /// The published learned profile.
    learned: Option<Bytes>,
    dictionaries: Vec<KnownDictionary>,
    /// Raw commits, by chunk.
    commits: Vec<KnownCommits>,
    archive: Option<Archive>,
    /// Chunks of the files that have a chunk list, by the hash of the list.
    listed: HashMap<ChunkHash, Vec<Placed>>,
    /// Referenced blobs, in addition to those of `previous`.
    kept: Vec<BlobId>,
}

/// Loads the content of the head at `blob`: reads all its directories, but no file
/// content. The head must be encrypted with the one key in `access`, or be public if
/// there is none: references never cross keys.
pub(super) async fn load(
    loader: &Arc<Loader>,
    access: &Access,
    blob: BlobId,
    root: Option<ChunkHash>,
) -> Result<Known, PublishError> {
    let failed = |error| PublishError::Previous(Box::new(error));
    let opened = loader.open(access.clone(), blob, root).await;
    let repository = opened.map_err(|error| match error {
        RepoError::Private {
            why: PrivateError::NoKey | PrivateError::WrongKey,
            ..
        } => PublishError::WasPrivate,
        error => failed(error),
    })?;
    if !repository.is_implied() && repository.key() != access.keys.first() {
        // The head is public, or its key differs from the given one: a reference between
        // them would leak information about the content.
        return Err(PublishError::WasPublic);
    }
    if repository.is_implied() {
        // Chunks of a foreign format cannot be reused.
        return Ok(Known::default());
    }
    let ids = git_ids(&repository).await.map_err(failed)?;
    let mut known = Known::default();
    for commit in 0..repository.head().commits.len() {
        let snapshot = repository.snapshot(commit).map_err(failed)?;
        let mut pending: Vec<(Vec<u8>, Node)> = vec![(Vec::new(), snapshot.root())];
        while let Some((path, node)) = pending.pop() {
            known
                .learn(&snapshot, path, &node, &ids, &mut pending)
                .await
                .map_err(failed)?;
        }
    }
    for attachment in &repository.head().attachments {
        known.remember_chunks(&attachment.chunks);
    }
    // These are hints: unreadable ones are recreated or omitted.
    known.prior = repository.prior().await.ok().flatten();
    known.learned = repository.shipped().await.ok().flatten();
    known.dictionaries = dictionaries(&repository).await;
    if let Some(sample) = repository.head().commits.first().map(|it| it.id.git()) {
        let kind = AttachmentKind::GitCommits;
        let raw = repository.attachment(kind).await.map_err(failed)?;
        let read = raw.iter().map_while(|raw| KnownCommits::read(raw, &sample));
        known.commits = read.collect();
    }
    known.archive = Archive::open(&repository).await.map_err(failed)?;
    let segments = known.archive.iter().flat_map(|it| it.segments().to_vec());
    for segment in segments.collect::<Vec<_>>() {
        known.remember_chunks(&segment.chunks);
    }
    known.previous = Some(repository);
    known.count_files();
    Ok(known)
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
        ids.extend(list.into_iter().map(|one| (one.directory, one)));
    }
    Ok(ids)
}

/// The readable dictionaries of a head.
async fn dictionaries(repository: &Repository) -> Vec<KnownDictionary> {
    let kind = AttachmentKind::Dictionaries;
    let Ok(bytes) = repository.attachment(kind).await else {
        return Vec::new();
    };
    let attached = repository.head().attachments.iter();
    let chunks = (attached.filter(|it| it.kind == kind)).flat_map(|it| &it.chunks);
    (chunks.zip(bytes))
        .map(|(chunk, bytes)| KnownDictionary {
            bytes,
            placed: placed::known(chunk),
        })
        .collect()
}

impl Known {
    /// Contains only references to these blobs.
    pub(super) fn of_blobs(kept: Vec<BlobId>) -> Self {
        Known {
            kept,
            ..Known::default()
        }
    }

    async fn learn(
        &mut self,
        snapshot: &Snapshot,
        path: Vec<u8>,
        node: &Node,
        ids: &HashMap<ChunkHash, git::DirectoryIds>,
        pending: &mut Vec<(Vec<u8>, Node)>,
    ) -> Result<(), crate::repo::RepoError> {
        let directory = snapshot.directory(node).await?;
        let reference = KnownDirectory {
            node: snapshot.chunks_of(node)[0].clone(),
            nodes: directory.nodes(),
            bytes: node.size,
        };
        let ids = ids.get(&reference.node.hash);
        if let Some(ids) = ids {
            self.trees.insert(ids.tree.clone(), reference.clone());
        }
        let mut listed = HashMap::new();
        for (number, entry) in directory.entries().iter().enumerate() {
            let content = match &entry.content {
                Content::Directory { .. } => {
                    let mut below = path.clone();
                    if !below.is_empty() {
                        below.push(b'/');
                    }
                    below.extend_from_slice(&entry.name);
                    pending.push((below, snapshot.entry(node, &directory, number)));
                    continue;
                }
                Content::Inline(bytes) => ContentPlan::Inline(bytes.to_vec()),
                // Only occurs in foreign formats.
                Content::Part { .. } | Content::Whole { .. } => continue,
                Content::Chunks { first, count } => {
                    let run = *first as usize..(*first + *count) as usize;
                    let run = &directory.chunks()[run];
                    self.remember_chunks(run);
                    ContentPlan::Chunks(run.iter().map(placed::known).collect())
                }
                Content::List { index } => {
                    let file = snapshot.entry(node, &directory, number);
                    let chunks = snapshot.file_chunks(&file).await?;
                    self.remember_chunks(&chunks);
                    listed.insert(number, chunks.iter().map(|c| c.hash).collect());
                    let list = &directory.chunks()[*index as usize];
                    let placed = chunks.iter().map(placed::known).collect();
                    self.listed.insert(list.hash, placed);
                    ContentPlan::List(placed::known(list))
                }
            };
            if let (Some(id), Kind::File { .. }) =
                (ids.and_then(|i| i.entries.get(number)), entry.kind)
            {
                self.files.insert(id.clone(), (entry.size, content));
            }
        }
        self.paths.insert(
            path,
            OldDirectory {
                reference,
                directory,
                listed,
            },
        );
        Ok(())
    }

    fn count_files(&mut self) {
        for (path, old) in &self.paths {
            let direct = (old.directory.entries().iter())
                .filter(|entry| entry.kind != Kind::Directory)
                .count() as u64;
            let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
            let ancestors = slashes.map(|(at, _)| &path[..at]).chain([&path[..], b""]);
            let mut last: Option<&[u8]> = None;
            for ancestor in ancestors {
                // The root is its own ancestor; count it once.
                if last.replace(ancestor) != Some(ancestor)
                    && let Some(above) = self.paths.get(ancestor)
                {
                    *self
                        .files_below
                        .entry(above.reference.node.hash)
                        .or_default() += direct;
                }
            }
        }
    }

    /// Number of files and directories in a known directory, including itself.
    pub(super) fn counts(&self, directory: &KnownDirectory) -> (u64, u64) {
        let files = self
            .files_below
            .get(&directory.node.hash)
            .copied()
            .unwrap_or(0);
        (files, directory.nodes.saturating_sub(files))
    }

    fn remember_chunks(&mut self, chunks: &[ChunkRef]) {
        for chunk in chunks {
            let known = || placed::known(chunk);
            self.chunks.entry(chunk.hash).or_insert_with(known);
        }
    }

    /// The stored dictionaries.
    pub(super) fn dictionaries(&self) -> &[KnownDictionary] {
        &self.dictionaries
    }

    /// Chunks of raw commits.
    pub(super) fn commits(&self) -> &[KnownCommits] {
        &self.commits
    }

    /// The archive of the history.
    pub(super) fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    /// The chunks of a file, by the hash of its chunk list.
    pub(super) fn listed(&self, list: &ChunkHash) -> Option<&[Placed]> {
        self.listed.get(list).map(|chunks| &chunks[..])
    }

    /// The previously published head.
    pub(super) fn previous(&self) -> Option<&Repository> {
        self.previous.as_ref()
    }

    /// Location of a stored chunk.
    pub(super) fn chunk(&self, hash: &ChunkHash) -> Option<&Placed> {
        self.chunks.get(hash)
    }

    /// A directory by its git ID.
    pub(super) fn tree(&self, id: &GitId) -> Option<&KnownDirectory> {
        self.trees.get(id)
    }

    /// A file by its git ID: size and content.
    pub(super) fn file(&self, id: &GitId) -> Option<&(u64, ContentPlan)> {
        self.files.get(id)
    }

    /// The previous directory at this path.
    pub(super) fn directory_at(&self, path: &[u8]) -> Option<&OldDirectory> {
        self.paths.get(path)
    }

    /// The single chunk of the previous file at this path, or the base of its patch:
    /// always a chunk that is stored whole.
    pub(super) fn file_at(&self, directory: &[u8], name: &[u8]) -> Option<&ChunkRef> {
        let old = self.paths.get(directory)?;
        let entries = old.directory.entries();
        let at = (entries.binary_search_by(|entry| entry.name[..].cmp(name))).ok()?;
        old.whole_chunk(&entries[at])
    }

    /// Previous files with these names, in any directory: name, size and chunk, as in
    /// [`Known::file_at`].
    pub(super) fn files_named(
        &self,
        names: &HashSet<&[u8]>,
    ) -> impl Iterator<Item = (&[u8], u64, &ChunkRef)> {
        let all = (self.paths.values()).filter(|_| !names.is_empty());
        let entries = all.flat_map(|old| old.directory.entries().iter().map(move |it| (old, it)));
        (entries.filter(|(_, entry)| names.contains(&entry.name[..]))).filter_map(|(old, entry)| {
            let chunk = old.whole_chunk(entry)?;
            Some((&entry.name[..], entry.size, chunk))
        })
    }

    /// The chunks of an attachment of the previous head.
    pub(super) fn attached(&self, kind: AttachmentKind) -> Vec<Stored> {
        let head = self.previous.iter().map(Repository::head);
        head.flat_map(|head| &head.attachments)
            .filter(|attached| attached.kind == kind)
            .flat_map(|attached| &attached.chunks)
            .map(|chunk| Stored::Old(chunk.into()))
            .collect()
    }

    /// Blobs that reused content may refer to.
    pub(super) fn blobs(&self) -> Vec<BlobId> {
        let mut blobs = self.kept.clone();
        if let Some(previous) = &self.previous {
            blobs.extend_from_slice(&previous.head().blobs);
            blobs.extend(previous.blob());
        }
        blobs
    }
}

impl OldDirectory {
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

    /// Whether its content equals that of `new`. `all` are the new directories; those
    /// below `new` have been compared already.
    pub(super) fn holds(&self, new: &PlannedDirectory, all: &[PlannedDirectory]) -> bool {
        let old = self.directory.entries();
        let chunks = self.directory.chunks();
        old.len() == new.entries.len()
            && old
                .iter()
                .zip(&new.entries)
                .enumerate()
                .all(|(number, (old, new))| {
                    let same_content = match (&old.content, &new.content) {
                        (Content::Inline(old), ContentPlan::Inline(new)) => old == new,
                        (Content::Chunks { first, count }, ContentPlan::Chunks(new)) => {
                            let old = &chunks[*first as usize..(*first + *count) as usize];
                            old.iter().map(|c| c.hash).eq(new.iter().map(|c| c.hash))
                        }
                        (Content::List { .. }, ContentPlan::Chunks(new)) => {
                            let old = self.listed.get(&number);
                            old.is_some_and(|old| old.iter().eq(new.iter().map(|c| &c.hash)))
                        }
                        (Content::List { index }, ContentPlan::List(new)) => {
                            chunks[*index as usize].hash == new.hash
                        }
                        (Content::Directory { index, .. }, ContentPlan::Tree(tree)) => {
                            let new = match tree {
                                TreePlan::Known(known) => Some(known),
                                TreePlan::New(number) => all[*number].same_as.as_ref(),
                            };
                            new.is_some_and(|new| new.node.hash == chunks[*index as usize].hash)
                        }
                        _ => false,
                    };
                    old.name == new.name && old.kind == new.kind && same_content
                })
    }
}

/// Methods that depend on known content.
impl Plan {
    /// Number of files and directories in the published trees; for a rewritten
    /// repository, in the newest one.
    pub(super) fn counts(&self, known: &Known) -> (u64, u64) {
        if let Some(remote) = &self.remote {
            return remote.counts;
        }
        let (mut files, mut directories) = (0, self.directories.len() as u64);
        let roots = self.commits.iter().map(|commit| &commit.tree);
        let entries = self.directories.iter().flat_map(|d| &d.entries);
        let below = entries.filter_map(|entry| match &entry.content {
            ContentPlan::Tree(tree) => Some(tree),
            _ => {
                files += 1;
                None
            }
        });
        let mut in_known = (0, 0);
        for tree in roots.chain(below) {
            if let TreePlan::Known(tree) = tree {
                let (files, directories) = known.counts(tree);
                in_known = (in_known.0 + files, in_known.1 + directories);
            }
        }
        files += in_known.0;
        directories += in_known.1;
        (files, directories)
    }

    /// Whether the previous head equals the result of this plan.
    pub(super) fn is_known(&self, known: &Known) -> bool {
        let Some(previous) = known.previous() else {
            return false;
        };
        let head = previous.head();
        let same_commit = |(plan, commit): (&CommitPlan, &walgit_format::Commit)| {
            let tree = match &plan.tree {
                TreePlan::Known(tree) => Some(tree),
                TreePlan::New(number) => self.directories[*number].same_as.as_ref(),
            };
            let same_tree = || tree.is_some_and(|tree| tree.node.hash == commit.root.hash);
            plan.id == commit.id && (self.remote.is_some() || same_tree())
        };
        let mut refs = self.refs.clone();
        refs.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        self.learned(known) == known.learned
            && self.is_archived(known)
            && self.commits.len() == head.commits.len()
            && self.commits.iter().zip(&head.commits).all(same_commit)
            && refs == head.refs
            && self.default_branch == head.default_branch
    }

    /// Whether the history is unchanged.
    fn is_archived(&self, known: &Known) -> bool {
        if self.git.is_none() {
            return true;
        }
        let kind = AttachmentKind::GitCommits;
        let commits = self.attachments.iter().filter(|(it, _)| *it == kind);
        let commits = commits.flat_map(|(_, chunks)| chunks);
        let same_commits = commits.eq(known.commits.iter().map(|chunk| &chunk.raw));
        let same_history = match (&self.history, known.archive()) {
            (Some(history), Some(archive)) => history.is_archived(archive),
            (new, old) => new.is_none() && old.is_none(),
        };
        same_commits && same_history
    }

    /// The learned profile to ship.
    pub(super) fn learned(&self, known: &Known) -> Option<Bytes> {
        match &self.learned {
            Learned::AsBefore => known.learned.clone(),
            Learned::Nothing => None,
            Learned::This(profile) => Some(profile.clone().into()),
        }
    }

    /// The encoded prior of files that change together; `None` without a history. Reuses
    /// the old prior while it is nearly as good, so that small changes store nothing.
    pub(super) fn prior(&self, known: &Known, progress: &dyn Progress) -> Option<Vec<u8>> {
        let git = self.git.as_ref()?;
        let tips: Vec<gix::ObjectId> = (self.commits.iter())
            .map(|commit| gix::ObjectId::from_bytes_or_panic(&commit.id.git().0))
            .collect();
        let new = together::prior(git, &tips, progress);
        let told = known.prior.as_ref();
        let told = told
            .filter(|old| old.likeness(&new) >= ALIKE)
            .unwrap_or(&new);
        (!told.is_empty()).then(|| told.encode())
    }

    /// Finds directories that are unchanged at the same path, deepest first, so that the
    /// result for a parent includes its children.
    pub(super) fn reuse_directories(&mut self, known: &Known) {
        for number in (0..self.directories.len()).rev() {
            let directory = &self.directories[number];
            let same = known
                .directory_at(&directory.path)
                .filter(|old| old.holds(directory, &self.directories));
            self.directories[number].same_as = same.map(|old| old.reference.clone());
        }
    }
}
