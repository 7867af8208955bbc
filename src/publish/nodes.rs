//! Writing of chunk lists, directories and the head, deepest first.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::batch::split_by_size;
use super::error::PublishError;
use super::history::commits::Archived;
use super::node_blobs::NodeBlobs;
use super::packed::{PackedPlan, Published};
use super::packs::Packs;
use super::pending_chunk::{PendingChunk, StoredDirectory};
use super::plan::{ContentPlan, DirectoryIndex, EntryIndex, Plan, TreePlan};
use super::previous_publish::PreviousPublish;
use walgit_format::chunk::BlobId;
use walgit_format::directory::{self, PlannedContent, PlannedEntry};
use walgit_format::git::{DirectoryIds, encode_ids};
use walgit_format::head::{Attachment, AttachmentKind, PlannedCommit, PlannedHead};
use walgit_format::list::{self, LIST_FANOUT};
use walrus_client::BlobStore;

/// Files with more chunks have a separate chunk list, so that listing their directory
/// does not fetch it.
const MAX_CHUNKS_IN_DIRECTORY: usize = 64;
/// Maximum number of directories per chunk of git IDs.
const MAX_IDS_PER_CHUNK: usize = 512;
/// Maximum bytes of such a chunk, unless a single directory exceeds it.
const MAX_IDS_BYTES: usize = 8 << 20;

/// Writes all nodes of a plan whose packs have the given IDs in `store`. Returns the
/// remaining blobs to upload, the head's last, and a report without uploads.
pub(super) fn write(
    packed: &PackedPlan,
    packs: Packs,
    ids: &[BlobId],
    store: &dyn BlobStore,
) -> Result<(Vec<(BlobId, Bytes)>, Published), PublishError> {
    let (open, sent) = packs.finish(ids)?;
    let plan = &packed.plan;
    let mut writer = NodeWriter {
        plan,
        blobs: NodeBlobs::new(store, open, sent),
        lists: HashMap::new(),
        directories: HashMap::new(),
        ids: Vec::new(),
    };
    let order = breadth_first(plan);
    for &directory in order.iter().rev() {
        writer.lists(directory)?;
    }
    for &directory in order.iter().rev() {
        writer.directory(directory)?;
    }
    let mut attachments = packed.attachments.clone();
    let ids = writer.git_ids(&packed.previous, packed.effort.attachment_level())?;
    attachments.push((AttachmentKind::GitIds, ids));
    if let Some(archived) = &packed.archived {
        let segments = writer.archive(&packed.previous, archived)?;
        attachments.push((AttachmentKind::Archive, segments));
    }
    let head = writer.head(&packed.previous, &attachments)?;
    let blobs = writer.blobs.finish(&head)?;
    let missing = PublishError::Internal("the head has no blob");
    let blob = blobs.last().ok_or(missing)?.0;
    Ok((blobs, packed.report(blob, head.hash)))
}

/// The directories to write, breadth first from the roots; a shared directory follows all
/// its parents.
fn breadth_first(plan: &Plan) -> Vec<DirectoryIndex> {
    let new = |tree: &TreePlan| match tree {
        TreePlan::New(directory) if plan.directories[*directory].same_as.is_none() => {
            Some(*directory)
        }
        _ => None,
    };
    let children = |directory: DirectoryIndex| {
        let entries = plan.directories[directory].entries.iter();
        entries.filter_map(|entry| match &entry.content {
            ContentPlan::Tree(tree) => new(tree),
            _ => None,
        })
    };
    let roots = plan.commits.iter().filter_map(|commit| new(&commit.tree));
    // Number of references to each directory that are still to be visited.
    let mut awaited: HashMap<DirectoryIndex, usize> = HashMap::new();
    let mut pending: Vec<DirectoryIndex> = roots.clone().collect();
    while let Some(directory) = pending.pop() {
        let count = awaited.entry(directory).or_default();
        *count += 1;
        if *count == 1 {
            pending.extend(children(directory));
        }
    }
    let mut queue: VecDeque<DirectoryIndex> = roots.collect();
    let mut order = Vec::with_capacity(awaited.len());
    while let Some(directory) = queue.pop_front() {
        let left = awaited.entry(directory).or_default();
        *left = left.saturating_sub(1);
        if *left == 0 {
            order.push(directory);
            queue.extend(children(directory));
        }
    }
    order
}

struct NodeWriter<'a> {
    plan: &'a Plan,
    blobs: NodeBlobs<'a>,
    /// Chunk lists of large files.
    lists: HashMap<EntryIndex, PendingChunk>,
    directories: HashMap<DirectoryIndex, StoredDirectory>,
    ids: Vec<DirectoryIds>,
}

impl NodeWriter<'_> {
    /// Writes the chunk lists of a directory's large files.
    fn lists(&mut self, directory: DirectoryIndex) -> Result<(), PublishError> {
        let plan = self.plan;
        for (entry, planned) in plan.directories[directory].entries.iter().enumerate() {
            let ContentPlan::Chunks(chunks) = &planned.content else {
                continue;
            };
            if chunks.len() <= MAX_CHUNKS_IN_DIRECTORY {
                continue;
            }
            let mut parts: Vec<(PendingChunk, u64)> = (chunks.iter())
                .map(|chunk| (chunk.clone(), u64::from(chunk.raw_len)))
                .collect();
            let mut level = 0;
            while parts.len() > 1 {
                parts = (parts.chunks(LIST_FANOUT))
                    .map(|group| self.list(level, group))
                    .collect::<Result<_, _>>()?;
                level += 1;
            }
            self.lists.insert((directory, entry), parts[0].0.clone());
        }
        Ok(())
    }

    fn list(
        &mut self,
        level: u8,
        parts: &[(PendingChunk, u64)],
    ) -> Result<(PendingChunk, u64), PublishError> {
        let node = self.blobs.push_node("a list of chunks", |blobs, end| {
            let parts: Vec<_> = (parts.iter())
                .map(|(part, bytes)| (blobs.locate(part), *bytes))
                .collect();
            list::encode(level, &parts, end)
        })?;
        Ok((node, parts.iter().map(|(_, bytes)| bytes).sum()))
    }

    /// Writes one directory; all its descendants have been written.
    fn directory(&mut self, directory: DirectoryIndex) -> Result<(), PublishError> {
        let planned = &self.plan.directories[directory];
        let trees = (planned.entries.iter())
            .map(|entry| match &entry.content {
                ContentPlan::Tree(tree) => self.tree(tree).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let (mut nodes, mut bytes) = (1, 0);
        for (entry, tree) in planned.entries.iter().zip(&trees) {
            nodes += tree.as_ref().map_or(1, |tree| tree.nodes);
            bytes += tree.as_ref().map_or(entry.size, |tree| tree.bytes);
        }
        let lists = &self.lists;
        let node = self.blobs.push_node("a directory", |blobs, end| {
            let entries = planned.entries.iter().zip(&trees).enumerate();
            let entries: Vec<PlannedEntry> = entries
                .map(|(entry, (planned, tree))| PlannedEntry {
                    name: planned.name.clone().into(),
                    kind: planned.kind,
                    size: tree.as_ref().map_or(planned.size, |tree| tree.bytes),
                    content: match tree {
                        Some(tree) => PlannedContent::Directory {
                            node: blobs.locate(&tree.node),
                            nodes: tree.nodes,
                        },
                        None => content(blobs, &planned.content, lists.get(&(directory, entry))),
                    },
                })
                .collect();
            directory::encode(&entries, end)
        })?;
        if let Some((tree, raw_tree)) = &planned.git {
            let entries = planned.entries.iter();
            self.ids.push(DirectoryIds {
                directory: node.hash,
                tree: tree.clone(),
                raw_tree: raw_tree.clone(),
                entries: entries.map(|e| e.git.clone().unwrap_or_default()).collect(),
            });
        }
        let stored = StoredDirectory { node, nodes, bytes };
        self.directories.insert(directory, stored);
        Ok(())
    }

    /// Returns a directory that is written or was stored before.
    fn tree(&self, tree: &TreePlan) -> Result<StoredDirectory, PublishError> {
        let written = match tree {
            TreePlan::New(directory) => self.directories.get(directory),
            TreePlan::Stored(_) => None,
        };
        let stored = self.plan.stored(tree).or(written).cloned();
        stored.ok_or(PublishError::Internal("a directory was not written"))
    }

    /// Stores the git IDs of the written directories, after those stored earlier.
    fn git_ids(
        &mut self,
        previous: &PreviousPublish,
        level: i32,
    ) -> Result<Vec<PendingChunk>, PublishError> {
        let mut chunks = previous.attachment(AttachmentKind::GitIds);
        let size = DirectoryIds::encoded_len;
        for group in split_by_size(&self.ids, MAX_IDS_PER_CHUNK, MAX_IDS_BYTES, size) {
            let raw = encode_ids(group).map_err(PublishError::encode("a list of git IDs"))?;
            chunks.push(self.blobs.push_data(&raw, level)?);
        }
        Ok(chunks)
    }

    /// Writes the new segments of the history, after the retained ones.
    fn archive(
        &mut self,
        previous: &PreviousPublish,
        archived: &Archived,
    ) -> Result<Vec<PendingChunk>, PublishError> {
        let mut segments = previous.attachment(AttachmentKind::Archive);
        segments.truncate(archived.reused);
        for segment in &archived.segments {
            segments.push(self.blobs.push_node("the history", |blobs, end| {
                let chunks = blobs.locate_all(&segment.chunks);
                segment.with_chunks(chunks).encode(end)
            })?);
        }
        Ok(segments)
    }

    fn head(
        &mut self,
        previous: &PreviousPublish,
        attachments: &[(AttachmentKind, Vec<PendingChunk>)],
    ) -> Result<PendingChunk, PublishError> {
        let plan = self.plan;
        let roots = (plan.commits.iter())
            .map(|commit| self.tree(&commit.tree))
            .collect::<Result<Vec<_>, _>>()?;
        self.blobs.push_node("the head", |blobs, end| {
            let mut referenced = blobs.finished();
            referenced.extend(previous.blobs());
            let head = PlannedHead {
                default_branch: plan.default_branch.clone().into(),
                commits: (plan.commits.iter().zip(&roots))
                    .map(|(commit, root)| PlannedCommit {
                        id: commit.id.clone(),
                        root: blobs.locate(&root.node),
                        nodes: root.nodes,
                        bytes: root.bytes,
                        author: commit.author.clone(),
                        committer: commit.committer.clone(),
                        message: commit.message.clone().into(),
                        parents: commit.parents.clone(),
                    })
                    .collect(),
                refs: plan.refs.clone(),
                attachments: (attachments.iter())
                    .filter(|(_, chunks)| !chunks.is_empty())
                    .map(|(kind, chunks)| Attachment {
                        kind: *kind,
                        chunks: blobs.locate_all(chunks),
                    })
                    .collect(),
                blobs: referenced.into_iter().collect(),
            };
            head.encode(end)
        })
    }
}

fn content(
    blobs: &NodeBlobs<'_>,
    content: &ContentPlan,
    list: Option<&PendingChunk>,
) -> PlannedContent {
    match (content, list) {
        (_, Some(list)) | (ContentPlan::List(list), None) => {
            PlannedContent::List(blobs.locate(list))
        }
        (ContentPlan::Inline(bytes), _) => PlannedContent::Inline(bytes.clone().into()),
        (ContentPlan::Chunks(chunks), _) => PlannedContent::Chunks(blobs.locate_all(chunks)),
        (ContentPlan::Pending | ContentPlan::Tree(_), _) => PlannedContent::Chunks(Vec::new()),
    }
}
