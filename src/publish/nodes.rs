//! Writing of chunk lists, directories and the head, deepest first.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::blobs::Blobs;
use super::history::Archived;
use super::known::Known;
use super::placed::{KnownDirectory, Placed, Stored};
use super::plan::{ContentPlan, DirectoryNumber, Plan, TreePlan};
use super::{HistoryReport, Packed, PublishError, Replaced, Skipped};
use walgit_format::PlannedChunk;
use walgit_format::chunk::{BlobId, ChunkHash};
use walgit_format::directory::{self, PlannedContent, PlannedEntry};
use walgit_format::git::{DirectoryIds, encode_ids};
use walgit_format::head::{Attachment, AttachmentKind, PlannedCommit, PlannedHead};
use walgit_format::list::{self, LIST_FANOUT};
use walrus_client::BlobStore;

/// Files with more chunks have a separate chunk list, so that listing their directory
/// does not fetch it.
const MAX_IN_DIRECTORY: usize = 64;
/// Number of directories per chunk of git IDs.
const IDS_IN_CHUNK: usize = 512;
/// Maximum bytes of such a chunk, unless a single directory exceeds it.
const IDS_BYTES: usize = 8 << 20;

/// The remaining blobs to upload, the head's last.
pub(super) struct Written {
    pub(super) spilled: Vec<(BlobId, Bytes)>,
    pub(super) blob: BlobId,
    pub(super) bytes: Bytes,
    /// The hash of the head.
    pub(super) head: ChunkHash,
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) bytes_read: u64,
    pub(super) warnings: Vec<String>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) history: Option<HistoryReport>,
    pub(super) replaced: Option<Replaced>,
}

/// Writes all nodes of a plan whose packs have the given IDs in `store`.
pub(super) fn write(
    packed: Packed,
    ids: &[BlobId],
    store: &dyn BlobStore,
) -> Result<Written, PublishError> {
    let (open, open_pack, sent) = packed.packs.finish(ids)?;
    let plan = &packed.plan;
    let mut writer = Writer {
        plan,
        blobs: Blobs::new(store, open, open_pack, sent),
        lists: HashMap::new(),
        directories: HashMap::new(),
        ids: Vec::new(),
    };
    let order = breadth_first(plan);
    for &number in order.iter().rev() {
        writer.lists(number)?;
    }
    for &number in order.iter().rev() {
        writer.directory(number)?;
    }
    let stored = |chunks: &[Placed]| {
        chunks
            .iter()
            .map(|chunk| Stored::Data(chunk.clone()))
            .collect()
    };
    let attached = packed.attached.iter();
    let mut attachments: Vec<(AttachmentKind, Vec<Stored>)> = attached
        .map(|(kind, chunks)| (*kind, stored(chunks)))
        .collect();
    let ids = writer.git_ids(&packed.known, packed.effort.beside())?;
    attachments.push((AttachmentKind::GitIds, ids));
    if let Some(archived) = &packed.archived {
        let segments = writer.archive(&packed.known, archived)?;
        attachments.push((AttachmentKind::Archive, segments));
    }
    let head = writer.head(&packed.known, &attachments)?;
    let (spilled, (blob, bytes)) = writer.blobs.finish(&head)?;
    let (files, directories) = plan.counts(&packed.known);
    Ok(Written {
        spilled,
        blob,
        bytes,
        head: head.hash,
        files,
        directories,
        bytes_read: packed.bytes_read,
        history: packed.archived.as_ref().map(|archived| archived.report),
        replaced: plan.replaced(),
        warnings: plan.all_warnings(),
        skipped: plan.skipped.clone(),
    })
}

/// The directories to write, breadth first from the roots; a shared directory follows all
/// its parents.
fn breadth_first(plan: &Plan) -> Vec<DirectoryNumber> {
    let fresh = |tree: &TreePlan| match tree {
        TreePlan::New(number) if plan.directories[*number].same_as.is_none() => Some(*number),
        _ => None,
    };
    let below = |number: DirectoryNumber| {
        let entries = plan.directories[number].entries.iter();
        entries.filter_map(|entry| match &entry.content {
            ContentPlan::Tree(tree) => fresh(tree),
            _ => None,
        })
    };
    let roots = plan.commits.iter().filter_map(|commit| fresh(&commit.tree));
    // Number of references to each directory that are still to be visited.
    let mut awaited: HashMap<DirectoryNumber, usize> = HashMap::new();
    let mut pending: Vec<DirectoryNumber> = roots.clone().collect();
    while let Some(number) = pending.pop() {
        let count = awaited.entry(number).or_default();
        *count += 1;
        if *count == 1 {
            pending.extend(below(number));
        }
    }
    let mut queue: VecDeque<DirectoryNumber> = roots.collect();
    let mut order = Vec::with_capacity(awaited.len());
    while let Some(number) = queue.pop_front() {
        let left = awaited.entry(number).or_default();
        *left = left.saturating_sub(1);
        if *left == 0 {
            order.push(number);
            queue.extend(below(number));
        }
    }
    order
}

/// A stored directory, with the data that its parent records.
#[derive(Clone)]
struct StoredDirectory {
    node: Stored,
    nodes: u64,
    bytes: u64,
}

impl From<&KnownDirectory> for StoredDirectory {
    fn from(known: &KnownDirectory) -> Self {
        StoredDirectory {
            node: Stored::Old((&known.node).into()),
            nodes: known.nodes,
            bytes: known.bytes,
        }
    }
}

struct Writer<'a> {
    plan: &'a Plan,
    blobs: Blobs<'a>,
    /// Chunk lists of large files, by directory and entry index.
    lists: HashMap<(DirectoryNumber, usize), Stored>,
    directories: HashMap<DirectoryNumber, StoredDirectory>,
    ids: Vec<DirectoryIds>,
}

impl Writer<'_> {
    /// Writes the chunk lists of a directory's large files.
    fn lists(&mut self, number: DirectoryNumber) -> Result<(), PublishError> {
        let plan = self.plan;
        for (entry, planned) in plan.directories[number].entries.iter().enumerate() {
            let ContentPlan::Chunks(chunks) = &planned.content else {
                continue;
            };
            if chunks.len() <= MAX_IN_DIRECTORY {
                continue;
            }
            let mut parts: Vec<(Stored, u64)> = (chunks.iter())
                .map(|chunk| (Stored::Data(chunk.clone()), u64::from(chunk.raw_len)))
                .collect();
            let mut level = 0;
            while parts.len() > 1 {
                parts = (parts.chunks(LIST_FANOUT))
                    .map(|group| self.list(level, group))
                    .collect::<Result<_, _>>()?;
                level += 1;
            }
            self.lists.insert((number, entry), parts[0].0.clone());
        }
        Ok(())
    }

    fn list(&mut self, level: u8, parts: &[(Stored, u64)]) -> Result<(Stored, u64), PublishError> {
        let node = self.blobs.push_node("a list of chunks", |blobs, end| {
            let placed: Vec<_> = (parts.iter())
                .map(|(part, covers)| (blobs.place(part), *covers))
                .collect();
            list::encode(level, &placed, end)
        })?;
        Ok((node, parts.iter().map(|(_, covers)| covers).sum()))
    }

    /// Writes one directory; all its descendants have been written.
    fn directory(&mut self, number: DirectoryNumber) -> Result<(), PublishError> {
        let planned = &self.plan.directories[number];
        let (mut nodes, mut bytes) = (1, 0);
        for entry in &planned.entries {
            let (below, size) = match &entry.content {
                ContentPlan::Tree(tree) => {
                    let tree = self.tree(tree)?;
                    (tree.nodes, tree.bytes)
                }
                _ => (1, entry.size),
            };
            nodes += below;
            bytes += size;
        }
        let trees = (planned.entries.iter())
            .map(|entry| match &entry.content {
                ContentPlan::Tree(tree) => self.tree(tree).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let lists = &self.lists;
        let what = "a directory";
        let node = self.blobs.push_node(what, |blobs, end| {
            let entries = planned.entries.iter().zip(&trees).enumerate();
            let entries: Vec<PlannedEntry> = entries
                .map(|(entry, (planned, tree))| PlannedEntry {
                    name: planned.name.clone(),
                    kind: planned.kind,
                    size: tree.as_ref().map_or(planned.size, |tree| tree.bytes),
                    content: match tree {
                        Some(tree) => PlannedContent::Directory {
                            node: blobs.place(&tree.node),
                            nodes: tree.nodes,
                        },
                        None => content(blobs, &planned.content, lists.get(&(number, entry))),
                    },
                })
                .collect();
            directory::encode(&entries, end)
        })?;
        if let Some((tree, raw_tree)) = &planned.git {
            let entries = planned.entries.iter();
            self.ids.push(DirectoryIds {
                directory: self.blobs.place(&node).hash,
                tree: tree.clone(),
                raw_tree: raw_tree.clone(),
                entries: entries.map(|e| e.git.clone().unwrap_or_default()).collect(),
            });
        }
        let stored = StoredDirectory { node, nodes, bytes };
        self.directories.insert(number, stored);
        Ok(())
    }

    /// Returns a written or known directory.
    fn tree(&self, tree: &TreePlan) -> Result<StoredDirectory, PublishError> {
        let number = match tree {
            TreePlan::Known(known) => return Ok(known.into()),
            TreePlan::New(number) => *number,
        };
        let same = self.plan.directories[number].same_as.as_ref();
        same.map(StoredDirectory::from)
            .or_else(|| self.directories.get(&number).cloned())
            .ok_or(PublishError::Internal("a directory was not written"))
    }

    /// Stores the git IDs of the written directories, after those stored earlier.
    fn git_ids(&mut self, known: &Known, level: i32) -> Result<Vec<Stored>, PublishError> {
        let mut chunks = known.attached(AttachmentKind::GitIds);
        let mut rest = &self.ids[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(IDS_IN_CHUNK).take_while(|ids| {
                bytes += ids.encoded_len();
                bytes <= IDS_BYTES
            });
            let (group, later) = rest.split_at(fits.count().max(1));
            let raw = encode_ids(group).map_err(PublishError::encode("a list of git IDs"))?;
            chunks.push(self.blobs.push_data(&raw, level)?);
            rest = later;
        }
        Ok(chunks)
    }

    /// Writes the new segments of the history, after the retained ones.
    fn archive(&mut self, known: &Known, archived: &Archived) -> Result<Vec<Stored>, PublishError> {
        let mut segments = known.attached(AttachmentKind::Archive);
        segments.truncate(archived.kept);
        for segment in &archived.segments {
            segments.push(self.blobs.push_node("the history", |blobs, end| {
                let chunks = segment.chunks.iter().map(|chunk| blobs.place_data(chunk));
                segment.with_chunks(chunks.collect()).encode(end)
            })?);
        }
        Ok(segments)
    }

    fn head(
        &mut self,
        known: &Known,
        attachments: &[(AttachmentKind, Vec<Stored>)],
    ) -> Result<PlannedChunk, PublishError> {
        let plan = self.plan;
        let roots = (plan.commits.iter())
            .map(|commit| self.tree(&commit.tree))
            .collect::<Result<Vec<_>, _>>()?;
        let head = self.blobs.push_node("the head", |blobs, end| {
            let mut others = blobs.others();
            others.extend(known.blobs());
            let head = PlannedHead {
                default_branch: plan.default_branch.clone(),
                commits: (plan.commits.iter().zip(&roots))
                    .map(|(commit, root)| PlannedCommit {
                        id: commit.id.clone(),
                        root: blobs.place(&root.node),
                        nodes: root.nodes,
                        bytes: root.bytes,
                        author: commit.author.clone(),
                        committer: commit.committer.clone(),
                        message: commit.message.clone(),
                        parents: commit.parents.clone(),
                    })
                    .collect(),
                refs: plan.refs.clone(),
                attachments: (attachments.iter())
                    .filter(|(_, chunks)| !chunks.is_empty())
                    .map(|(kind, chunks)| Attachment {
                        kind: *kind,
                        chunks: chunks.iter().map(|chunk| blobs.place(chunk)).collect(),
                    })
                    .collect(),
                blobs: others.into_iter().collect(),
            };
            head.encode(end)
        })?;
        Ok(self.blobs.place(&head))
    }
}

fn content(blobs: &Blobs<'_>, content: &ContentPlan, list: Option<&Stored>) -> PlannedContent {
    match (content, list) {
        (_, Some(list)) => PlannedContent::List(blobs.place(list)),
        (ContentPlan::Inline(bytes), _) => PlannedContent::Inline(bytes.clone()),
        (ContentPlan::List(list), _) => PlannedContent::List(blobs.place_data(list)),
        (ContentPlan::Chunks(chunks), _) => PlannedContent::Chunks(
            (chunks.iter())
                .map(|chunk| blobs.place_data(chunk))
                .collect(),
        ),
        (ContentPlan::Pending | ContentPlan::Tree(_), _) => PlannedContent::Chunks(Vec::new()),
    }
}
