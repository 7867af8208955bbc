//! Compaction of a published head: the same commits, trees, files, history and
//! attachments, in fewer blobs.
//!
//! After many publishes, a head is scattered over many blobs, each of which is billed and
//! requested separately. A rewrite vacates some of these blobs: content that the head
//! needs from them is copied in its stored form ([`copy`]) into new packs, in tree order;
//! references to other blobs stay. Content is recompressed only for files that move to
//! another tier ([`moved`]), and for versions that are patches against bases that would
//! have to be copied only for them: these are stored whole, so that readers of the tree
//! fetch no extra bases. Directories and the head record locations, so they are
//! rewritten; what they record about files stays identical, which is verified ([`same`]).
//!
//! Copying the same head yields the same blobs, so an interrupted rewrite resumes.

mod copy;
mod moved;
mod same;

pub use same::same;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::history::{Archived, HistoryReport};
use super::known::{Known, git_ids};
use super::packs::Packs;
use super::placed::Placed;
use super::plan::{
    CommitPlan, ContentPlan, DirectoryNumber, EntryPlan, Plan, PlannedDirectory, TreePlan,
};
use super::{Effort, Packed, Progress, PublishError};
use crate::config::Tiers;
use crate::repo::archive::Archive;
use crate::repo::{Node, Repository, Snapshot};
use copy::Copying;
pub use moved::{TierMover, move_for};
use walgit_format::archive::Segment;
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef};
use walgit_format::git::DirectoryIds;
use walgit_format::head::AttachmentKind;
use walgit_format::{Content, Kind};

/// Parameters of a rewrite.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// The head, in our format.
    pub repository: Repository,
    /// Blobs to vacate.
    pub leave: HashSet<BlobId>,
    /// Maximum bytes to write, excluding directories and the head; `None` for no limit.
    pub most: Option<u64>,
    /// Moves files to better tiers, if set.
    pub mover: Option<TierMover>,
}

/// The present content of a file.
enum Stored {
    Inline(Bytes),
    /// Its chunks, and the node to read it with.
    Chunks(Vec<ChunkRef>, Node),
}

/// A file whose content has to be placed.
struct File {
    /// The commit in whose tree it was found.
    commit: usize,
    directory: DirectoryNumber,
    entry: usize,
    stored: Stored,
}

/// Contents of a head.
#[derive(Default)]
struct Read {
    plan: Plan,
    /// In tree order.
    files: Vec<File>,
}

/// Reads a head and places its content.
pub(super) fn pack(
    rewrite: &Rewrite,
    tiers: &Tiers,
    mut packs: Packs,
    progress: &dyn Progress,
) -> Result<Packed, PublishError> {
    let repository = &rewrite.repository;
    if repository.is_implied() {
        return Err(PublishError::NotOurs);
    }
    let runtime = Handle::current();
    let Read { mut plan, files } = runtime.block_on(read(repository))?;
    let mut copying = Copying::new(repository, &rewrite.leave, &mut packs, rewrite.most);
    let head = repository.head();
    let mut attached: Vec<(AttachmentKind, Vec<Placed>)> = Vec::new();
    let copied = |kind: AttachmentKind, copying: &mut Copying<'_>| {
        let chunks = (head.attachments.iter()).filter(|attached| attached.kind == kind);
        let chunks: Vec<ChunkRef> = chunks.flat_map(|it| it.chunks.clone()).collect();
        let placed = copying.place(&chunks)?;
        Ok::<_, PublishError>((!placed.is_empty()).then_some((kind, placed)))
    };
    // Read first by a mount.
    for kind in [AttachmentKind::Prior, AttachmentKind::Dictionaries] {
        attached.extend(copied(kind, &mut copying)?);
    }
    let chunks = files.iter().flat_map(File::chunks);
    copying.set_in_trees(chunks.map(|chunk| chunk.hash).collect());
    let bytes: u64 = files.iter().map(|file| plan.size(file)).sum();
    progress.total(files.len() as u64, bytes);
    let mut bytes_read = 0;
    let mut rest = files;
    while !rest.is_empty() {
        let later = rest.split_off(copy::batch(rest.iter().map(File::chunks)));
        let moves: Vec<_> = rest
            .iter()
            .map(|file| {
                let mover = rewrite.mover.as_ref();
                mover.and_then(|mover| mover.wants(&plan, file, copying.limit(), bytes, tiers))
            })
            .collect();
        let stay = rest.iter().zip(&moves).filter(|(_, to)| to.is_none());
        let chunks: Vec<ChunkRef> = stay.flat_map(|(file, _)| file.chunks()).cloned().collect();
        copying.make_whole(&chunks)?;
        let mut placed = copying.place(&chunks)?.into_iter();
        for (file, to) in rest.iter().zip(moves) {
            let content = match (to, &file.stored) {
                (Some(tier), _) => moved::store(file, tier, &mut copying)?,
                (None, Stored::Inline(bytes)) => ContentPlan::Inline(bytes.to_vec()),
                (None, Stored::Chunks(chunks, _)) => {
                    ContentPlan::Chunks(placed.by_ref().take(chunks.len()).collect())
                }
            };
            let size = plan.size(file);
            bytes_read += size;
            progress.read(1, size);
            plan.directories[file.directory].entries[file.entry].content = content;
        }
        rest = later;
    }
    let archive = runtime.block_on(Archive::open(repository))?;
    let archived = match &archive {
        Some(archive) => Some(copy_archive(archive, &mut copying)?),
        None => None,
    };
    for kind in head.attachments.iter().map(|attached| attached.kind) {
        match kind {
            // Done already, or written with the directories.
            AttachmentKind::Prior
            | AttachmentKind::Dictionaries
            | AttachmentKind::Archive
            | AttachmentKind::GitIds => {}
            AttachmentKind::Other(number) => return Err(PublishError::Unknown(number)),
            AttachmentKind::GitCommits
            | AttachmentKind::Manifests
            | AttachmentKind::Objects
            | AttachmentKind::Learned => attached.extend(copied(kind, &mut copying)?),
        }
    }
    let kept = copying.kept();
    packs.hang_up();
    Ok(Packed {
        plan,
        known: Known::of_blobs(kept),
        packs,
        attached,
        bytes_read,
        archived,
        effort: Effort::Usual,
    })
}

/// Copies the segments of a history.
fn copy_archive(archive: &Archive, copying: &mut Copying<'_>) -> Result<Archived, PublishError> {
    let mut segments: Vec<Segment<Placed>> = Vec::new();
    for segment in archive.segments() {
        let mut placed = Vec::with_capacity(segment.chunks.len());
        let mut rest = &segment.chunks[..];
        while !rest.is_empty() {
            let one = rest.iter().map(std::slice::from_ref);
            let (batch, later) = rest.split_at(copy::batch(one));
            placed.extend(copying.place(batch)?);
            rest = later;
        }
        segments.push(segment.with_chunks(placed));
    }
    Ok(Archived {
        kept: 0,
        segments,
        report: HistoryReport {
            commits: archive.marks().count() as u64,
            ..HistoryReport::default()
        },
    })
}

impl File {
    fn chunks(&self) -> &[ChunkRef] {
        match &self.stored {
            Stored::Inline(_) => &[],
            Stored::Chunks(chunks, _) => chunks,
        }
    }
}

impl Plan {
    fn size(&self, file: &File) -> u64 {
        self.directories[file.directory].entries[file.entry].size
    }
}

/// Reads the trees of a head.
async fn read(repository: &Repository) -> Result<Read, PublishError> {
    let ids = git_ids(repository).await?;
    let head = repository.head();
    let mut read = Read::default();
    read.plan.default_branch = head.default_branch.to_vec();
    read.plan.refs = head.refs.clone();
    let mut seen: HashMap<ChunkHash, DirectoryNumber> = HashMap::new();
    for (at, commit) in head.commits.iter().enumerate() {
        let snapshot = repository.snapshot(at)?;
        let tree = read.tree(&snapshot, &ids, &mut seen).await?;
        read.plan.commits.push(CommitPlan {
            id: commit.id.clone(),
            tree: TreePlan::New(tree),
            author: commit.author.clone(),
            committer: commit.committer.clone(),
            message: commit.message.to_vec(),
            parents: commit.parents.clone(),
        });
    }
    Ok(read)
}

impl Read {
    /// Reads a tree, except directories that were read already; returns the index of its
    /// root.
    async fn tree(
        &mut self,
        snapshot: &Snapshot,
        ids: &HashMap<ChunkHash, DirectoryIds>,
        seen: &mut HashMap<ChunkHash, DirectoryNumber>,
    ) -> Result<DirectoryNumber, PublishError> {
        let root = snapshot.root();
        let (number, new) = self.number(snapshot, &root, Vec::new(), seen);
        let mut pending: Vec<(DirectoryNumber, Node)> =
            new.then_some((number, root)).into_iter().collect();
        while let Some((at, node)) = pending.pop() {
            let directory = snapshot.directory(&node).await?;
            let ids = ids.get(&snapshot.chunks_of(&node)[0].hash);
            let path = self.plan.directories[at].path.clone();
            let mut below = Vec::new();
            let mut entries = Vec::with_capacity(directory.entries().len());
            for (entry, found) in directory.entries().iter().enumerate() {
                let child = snapshot.entry(&node, &directory, entry);
                let content = match &found.content {
                    Content::Directory { .. } => {
                        let path = super::git::join(&path, &found.name);
                        let (number, new) = self.number(snapshot, &child, path, seen);
                        if new {
                            below.push((number, child));
                        }
                        ContentPlan::Tree(TreePlan::New(number))
                    }
                    Content::Inline(bytes) if !matches!(found.kind, Kind::File { .. }) => {
                        ContentPlan::Inline(bytes.to_vec())
                    }
                    Content::Part { .. } | Content::Whole { .. } => {
                        return Err(PublishError::NotOurs);
                    }
                    Content::Inline(_) | Content::Chunks { .. } | Content::List { .. } => {
                        let stored = match &found.content {
                            Content::Inline(bytes) => Stored::Inline(bytes.clone()),
                            _ => {
                                let chunks = snapshot.file_chunks(&child).await?;
                                Stored::Chunks(chunks, child)
                            }
                        };
                        self.files.push(File {
                            commit: self.plan.commits.len(),
                            directory: at,
                            entry,
                            stored,
                        });
                        ContentPlan::Pending
                    }
                };
                entries.push(EntryPlan {
                    name: found.name.to_vec(),
                    kind: found.kind,
                    git: ids.and_then(|ids| ids.entries.get(entry).cloned()),
                    size: found.size,
                    content,
                });
            }
            let planned = &mut self.plan.directories[at];
            planned.entries = entries;
            planned.git = ids.map(|ids| (ids.tree.clone(), ids.raw_tree.clone()));
            pending.extend(below.into_iter().rev());
        }
        Ok(number)
    }

    /// Returns the index of a directory, and whether it is new.
    fn number(
        &mut self,
        snapshot: &Snapshot,
        node: &Node,
        path: Vec<u8>,
        seen: &mut HashMap<ChunkHash, DirectoryNumber>,
    ) -> (DirectoryNumber, bool) {
        let hash = snapshot.chunks_of(node)[0].hash;
        let next = self.plan.directories.len();
        let number = *seen.entry(hash).or_insert(next);
        if number == next {
            self.plan.directories.push(PlannedDirectory {
                path,
                entries: Vec::new(),
                git: None,
                same_as: None,
            });
        }
        (number, number == next)
    }
}
