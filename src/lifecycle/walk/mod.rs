//! The mark walk: enumerates everything that a head needs.
//!
//! A head refers to attachments and trees, a tree to directories, these to chunk lists
//! and content chunks, and a chunk to the dictionary or the bases that it is decoded
//! with. A [`Walk`] returns all of these, one [`WalkBatch`] at a time. It reads only nodes,
//! no content. Verification and garbage collection use the same walk.
//!
//! Nodes of one level are adjacent in their blob, and one request fetches many of them. Memory
//! does not grow with the number of files: a walk holds a batch, the directories
//! between the root and its position, and sixteen bytes per distinct directory, so that
//! shared directories are walked once.
//!
//! In WalGit's own format, every commit is a head that refers to the previous one; those
//! heads are walked, too.

mod item;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::repo::{MAX_ANCESTORS, MAX_DEPTH, Node, PendingFetch, RepoError, Repository, Snapshot};
pub(super) use item::fingerprint;
pub use item::{ChunkRole, Dependency, ItemPath, WalkItem, with_bases};
use walgit_format::chunk::ChunkRef;
use walgit_format::head::{Attachment, AttachmentKind};
use walgit_format::{CommitId, Content};

/// Nodes that are fetched together.
const NODES_PER_FETCH: usize = 512;
/// Stored bytes of nodes per request.
const NODE_REQUEST_BYTES: u64 = 1 << 20;
/// Number of items after which a batch ends: about 10 MB.
const BATCH_ITEMS: usize = 1 << 16;

/// Items that one step of a walk found.
pub type WalkBatch = Vec<WalkItem>;

/// A walk over everything that some heads need.
#[derive(Debug, Default)]
pub struct Walk {
    /// Heads yet to walk.
    heads: VecDeque<Repository>,
    /// Trees of the current head yet to walk.
    trees: VecDeque<(Snapshot, Option<String>)>,
    /// Nodes to read, the next ones last.
    pending: Vec<QueuedNode>,
    /// Nodes that are being fetched, in reading order.
    fetching: VecDeque<QueuedNode>,
    fetches: Vec<PendingFetch>,
    /// Visited nodes, by location.
    seen: HashSet<[u8; 16]>,
    /// Heads that are commits.
    commits: HashSet<CommitId>,
}

/// A node to read.
#[derive(Debug)]
struct QueuedNode {
    snapshot: Snapshot,
    path: Arc<ItemPath>,
    depth: usize,
    node: PendingNode,
}

#[derive(Debug)]
enum PendingNode {
    Directory(Node),
    List {
        list: ChunkRef,
        /// Bytes of the file that the list covers.
        covers: u64,
        /// Its level, if its parent list declares it.
        level: Option<u8>,
    },
}

impl QueuedNode {
    fn with(&self, path: Arc<ItemPath>, depth: usize, node: PendingNode) -> Self {
        QueuedNode {
            snapshot: self.snapshot.clone(),
            path,
            depth,
            node,
        }
    }

    /// Returns the chunk that holds the node.
    fn chunk(&self) -> Option<ChunkRef> {
        match &self.node {
            PendingNode::Directory(node) => self.snapshot.node_of(node),
            PendingNode::List { list, .. } => Some(list.clone()),
        }
    }

    /// Returns the node as an item.
    fn item(&self) -> Option<WalkItem> {
        let role = match &self.node {
            PendingNode::Directory(_) => ChunkRole::Directory,
            PendingNode::List { .. } => ChunkRole::List,
        };
        let chunk = Dependency::Chunk(self.chunk()?, role);
        Some(WalkItem::new(&self.path, chunk))
    }
}

impl Walk {
    /// Creates a walk over everything that this head needs.
    pub fn of(repository: &Repository) -> Self {
        let mut walk = Walk::default();
        walk.add(repository);
        walk
    }

    /// Adds everything that this head needs, except visited nodes.
    pub fn add(&mut self, repository: &Repository) {
        self.heads.push_back(repository.clone());
    }

    /// Returns the next batch; `None` at the end.
    ///
    /// Unreadable nodes are reported ([`Dependency::Unreadable`]) and skipped; a batch ends
    /// at such a node, so that the caller can stop immediately.
    pub async fn next(&mut self) -> Option<WalkBatch> {
        let mut found = WalkBatch::new();
        let failed = |found: &WalkBatch| {
            let last = found.last();
            last.is_some_and(|it| matches!(it.dependency, Dependency::Unreadable(_)))
        };
        while found.len() < BATCH_ITEMS && !failed(&found) {
            if self.fetching.is_empty() {
                self.fetch();
            }
            if let Some(pending) = self.fetching.pop_front() {
                let path = pending.path.clone();
                if let Err(why) = self.visit(pending, &mut found).await {
                    found.push(WalkItem::new(&path, Dependency::Unreadable(why)));
                }
            } else if let Some((tree, name)) = self.trees.pop_front() {
                self.tree(tree, name, &mut found);
            } else if let Some(head) = self.heads.pop_front() {
                self.head(head, &mut found).await;
            } else {
                break;
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// Takes the next nodes and begins to fetch them.
    fn fetch(&mut self) {
        let first = self.pending.len().saturating_sub(NODES_PER_FETCH);
        self.fetching = self.pending.drain(first..).rev().collect();
        self.fetches = match self.fetching.front() {
            Some(one) => {
                let chunks = self.fetching.iter().filter_map(QueuedNode::chunk);
                one.snapshot
                    .begin_nodes(chunks.collect(), NODE_REQUEST_BYTES)
            }
            None => Vec::new(),
        };
    }

    async fn head(&mut self, repository: Repository, found: &mut WalkBatch) {
        let at_head = Arc::new(ItemPath::Head);
        let opened = repository.blob().map(Dependency::Opened);
        found.extend(opened.map(|opened| WalkItem::new(&at_head, opened)));
        for attached in &repository.head().attachments {
            attachment(&repository, attached, found);
        }
        history(&repository, found).await;
        let names = tree_names(&repository);
        let trees = names.into_iter().enumerate();
        let trees = trees.filter_map(|(at, name)| Some((repository.snapshot(at).ok()?, name)));
        self.trees.extend(trees);
        if !repository.is_derived() {
            return;
        }
        let others = repository.sibling_refs().iter().map(|it| it.target.clone());
        for target in repository.parents().into_iter().chain(others) {
            if self.commits.len() >= MAX_ANCESTORS || !self.commits.insert(target.id()) {
                continue;
            }
            match repository.open_sibling(&target).await {
                Ok(before) => self.heads.push_back(before),
                Err(why) => found.push(WalkItem::new(&at_head, Dependency::Unreadable(why))),
            }
        }
    }

    fn tree(&mut self, snapshot: Snapshot, name: Option<String>, found: &mut WalkBatch) {
        if !self.is_new(&snapshot.commit().root) {
            return;
        }
        let pending = QueuedNode {
            path: Arc::new(ItemPath::Root(name)),
            depth: 0,
            node: PendingNode::Directory(snapshot.root()),
            snapshot,
        };
        found.extend(pending.item());
        self.pending.push(pending);
    }

    /// Reads a node and finds its dependencies.
    async fn visit(&mut self, pending: QueuedNode, found: &mut WalkBatch) -> Result<(), RepoError> {
        let mut below = match &pending.node {
            PendingNode::Directory(node) => self.directory(&pending, node, found).await?,
            PendingNode::List {
                list,
                covers,
                level,
            } => self.list(&pending, list, *covers, *level, found).await?,
        };
        below.reverse();
        self.pending.append(&mut below);
        Ok(())
    }

    /// Finds the dependencies of a directory; returns its nodes to read.
    async fn directory(
        &mut self,
        pending: &QueuedNode,
        node: &Node,
        found: &mut WalkBatch,
    ) -> Result<Vec<QueuedNode>, RepoError> {
        let (snapshot, depth) = (&pending.snapshot, pending.depth);
        if depth >= MAX_DEPTH {
            return Err(RepoError::TooDeep(MAX_DEPTH));
        }
        let directory = snapshot.directory(node).await?;
        let mut below = Vec::new();
        for (at, entry) in directory.entries().iter().enumerate() {
            let path = || {
                let above = pending.path.clone();
                Arc::new(ItemPath::Entry(above, entry.name.clone(), entry.size))
            };
            let chunk = |index: u32| directory.chunks()[index as usize].clone();
            let content = |index| Dependency::Chunk(chunk(index), ChunkRole::Content);
            match entry.content {
                Content::Inline(_) => {}
                Content::Part { index, .. } => found.push(WalkItem::new(&path(), content(index))),
                Content::Chunks { first, count } => {
                    let (path, run) = (path(), first..first + count);
                    found.extend(run.map(|index| WalkItem::new(&path, content(index))));
                }
                Content::Whole { index } => {
                    let whole = directory.wholes()[index as usize].clone();
                    found.push(WalkItem::new(&path(), Dependency::Whole(whole)));
                }
                Content::List { index } => {
                    let list = PendingNode::List {
                        list: chunk(index),
                        covers: entry.size,
                        level: None,
                    };
                    below.extend(self.new_list(pending.with(path(), depth, list), found));
                }
                Content::Directory { index, .. } => {
                    // Checked before a node is created: most are known.
                    if self.is_new(&chunk(index)) {
                        let node = PendingNode::Directory(snapshot.entry(node, &directory, at));
                        let child = pending.with(path(), depth + 1, node);
                        found.extend(child.item());
                        below.push(child);
                    }
                }
            }
        }
        Ok(below)
    }

    /// Finds the dependencies of a list of chunks; returns its lists to read.
    async fn list(
        &mut self,
        pending: &QueuedNode,
        chunk: &ChunkRef,
        covers: u64,
        level: Option<u8>,
        found: &mut WalkBatch,
    ) -> Result<Vec<QueuedNode>, RepoError> {
        let list = pending
            .snapshot
            .list(std::slice::from_ref(chunk), 0, covers, level)
            .await?;
        let mut below = Vec::new();
        for (at, part) in list.parts().iter().enumerate() {
            let Some(level) = list.level().checked_sub(1) else {
                let content = Dependency::Chunk(part.clone(), ChunkRole::Content);
                found.push(WalkItem::new(&pending.path, content));
                continue;
            };
            let node = PendingNode::List {
                list: part.clone(),
                covers: list.start(at + 1) - list.start(at),
                level: Some(level),
            };
            let child = pending.with(pending.path.clone(), pending.depth, node);
            below.extend(self.new_list(child, found));
        }
        Ok(below)
    }

    /// Returns a list to read, unless it was visited.
    fn new_list(&mut self, list: QueuedNode, found: &mut WalkBatch) -> Option<QueuedNode> {
        if !self.is_new(&list.chunk()?) {
            return None;
        }
        found.extend(list.item());
        Some(list)
    }

    /// Whether a node is visited for the first time. Equal bytes at another location
    /// refer to other places, so the location counts.
    fn is_new(&mut self, node: &ChunkRef) -> bool {
        self.seen.insert(fingerprint(node))
    }
}

/// Finds the dependencies of an attachment. A kind whose chunks are nodes with their own
/// tables has to be read like a directory; for an unknown kind, all blobs that the head
/// names may be needed.
fn attachment(repository: &Repository, attached: &Attachment, found: &mut WalkBatch) {
    let path = Arc::new(ItemPath::Attachment(attached.kind));
    let role = match attached.kind {
        AttachmentKind::GitCommits => ChunkRole::Objects,
        _ => ChunkRole::Attachment,
    };
    let chunks = attached.chunks.iter().cloned();
    found.extend(chunks.map(|chunk| WalkItem::new(&path, Dependency::Chunk(chunk, role))));
    if let AttachmentKind::Other(_) = attached.kind {
        let blobs = repository.head().blobs.iter().copied();
        found.extend(blobs.map(|blob| WalkItem::new(&path, Dependency::Perhaps(blob))));
    }
}

/// Finds the dependencies of the head's history.
async fn history(repository: &Repository, found: &mut WalkBatch) {
    let path = Arc::new(ItemPath::Attachment(AttachmentKind::Archive));
    let archive = match repository.archive().await {
        Ok(Some(archive)) => archive,
        Ok(None) => return,
        Err(why) => return found.push(WalkItem::new(&path, Dependency::Unreadable(why))),
    };
    for segment in archive.segments() {
        let mut roles = vec![ChunkRole::Content; segment.chunks.len()];
        let groups = segment.trees.iter().map(|group| group.chunk);
        groups
            .chain(segment.tags.iter().copied())
            .for_each(|chunk| roles[chunk] = ChunkRole::Objects);
        let chunks = segment.chunks.iter().cloned().zip(roles);
        found.extend(
            chunks.map(|(chunk, role)| WalkItem::new(&path, Dependency::Chunk(chunk, role))),
        );
    }
}

/// Returns the names of the trees of a head; the tree of the default branch has none.
pub(super) fn tree_names(repository: &Repository) -> Vec<Option<String>> {
    let head = repository.head();
    let mut names: Vec<Option<String>> = vec![None; head.commits.len()];
    for named in head.refs.iter().rev() {
        names[named.commit] = Some(String::from_utf8_lossy(&named.name).into_owned());
    }
    for (name, commit) in names.iter_mut().zip(&head.commits) {
        name.get_or_insert_with(|| commit.id.to_string());
    }
    match names.first_mut() {
        Some(first) if repository.is_derived() => *first = Some(head.commits[0].id.to_string()),
        Some(first) => *first = None,
        None => {}
    }
    names
}
