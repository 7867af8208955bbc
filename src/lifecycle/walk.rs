//! The mark walk: enumerates everything that a head needs.
//!
//! A head refers to attachments and trees, a tree to directories, these to chunk lists
//! and content chunks, and a chunk to the dictionary or the bases that it is decoded
//! with. A [`Walk`] returns all of these, one [`Stretch`] at a time. It reads only nodes,
//! no content. Verification and garbage collection use the same walk.
//!
//! Nodes of one level are adjacent in their blob, so many are fetched per request. Memory
//! does not grow with the number of files: a walk holds a stretch, the directories
//! between the root and its position, and sixteen bytes per distinct directory, so that
//! shared directories are walked once.
//!
//! In WalGit's own format, every commit is a head that refers to the previous one; those
//! heads are walked, too.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::repo::{Coming, MAX_ANCESTORS, MAX_DEPTH, Node, RepoError, Repository, Snapshot};
use walgit_format::chunk::{BlobId, ChunkRef, WholeBlob};
use walgit_format::head::{Attachment, AttachmentKind};
use walgit_format::{CommitId, Content, MalformedNode};

/// Nodes that are fetched together.
const NODES_AT_ONCE: usize = 512;
/// Stored bytes of nodes per request.
const WINDOW: u64 = 1 << 20;
/// Number of items after which a stretch ends: about 10 MB.
const STRETCH: usize = 1 << 16;

/// Role of a needed chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Node of a directory.
    Directory,
    /// List of chunks of a large file.
    List,
    /// Content of a file.
    Content,
    /// A dictionary or a base of a patch, which others are decoded with.
    Base,
    /// Data of an attachment.
    Attachment,
    /// Commits, trees or tags of the head's history.
    Objects,
}

/// Where an item is needed.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// By the head itself.
    Head,
    /// By an attachment.
    Attachment(AttachmentKind),
    /// The root of a tree; with the name of the tree if there are several.
    Root(Option<String>),
    /// In a directory: its place, the name of the entry, and the bytes of content.
    In(Arc<Place>, Bytes, u64),
}

impl Place {
    /// Returns the path from the root of the tree; empty for the root, and for items
    /// outside of trees.
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self;
        while let Place::In(above, name, _) = at {
            names.push(&name[..]);
            at = above;
        }
        names.reverse();
        names.join(&b'/')
    }

    fn top(&self) -> &Place {
        let mut at = self;
        while let Place::In(above, ..) = at {
            at = above;
        }
        at
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path();
        let path = String::from_utf8_lossy(&path);
        match self.top() {
            Place::Head => f.write_str("the head"),
            Place::Attachment(kind) => match kind {
                AttachmentKind::GitCommits => f.write_str("the list of commits"),
                AttachmentKind::GitIds => f.write_str("the list of git's names of directories"),
                AttachmentKind::Manifests | AttachmentKind::Objects => {
                    f.write_str("the manifests it was made of")
                }
                AttachmentKind::Prior => f.write_str("the list of files that changed together"),
                AttachmentKind::Learned => f.write_str("the profile it carries"),
                AttachmentKind::Archive => f.write_str("its history"),
                AttachmentKind::Dictionaries => f.write_str("its dictionaries"),
                AttachmentKind::Other(number) => write!(f, "its attachment of kind {number}"),
            },
            Place::Root(tree) => {
                f.write_str(match path.is_empty() {
                    true => "the root directory",
                    false => &path,
                })?;
                match tree {
                    Some(tree) => write!(f, " of {tree}"),
                    None => Ok(()),
                }
            }
            Place::In(..) => Ok(()),
        }
    }
}

/// A needed item.
#[derive(Clone, Debug)]
pub enum Need {
    /// A chunk, with everything that it is decoded with: see [`with_bases`].
    Chunk(ChunkRef, Role),
    /// A blob that is one file.
    Whole(WholeBlob),
    /// A blob that was read and verified when the head in it was opened.
    Opened(BlobId),
    /// A referenced blob that this version cannot interpret. It may be needed, and need
    /// not exist.
    Perhaps(BlobId),
    /// An unreadable node: everything below it is unknown.
    Unreadable(RepoError),
}

/// A needed item and its place.
#[derive(Clone, Debug)]
pub struct Found {
    /// The place.
    pub place: Arc<Place>,
    /// The item.
    pub need: Need,
}

impl Found {
    /// Returns the blobs that it needs, with duplicates.
    pub fn blobs(&self) -> impl Iterator<Item = BlobId> + '_ {
        let (chunk, blob) = match &self.need {
            Need::Chunk(chunk, role) => (Some((chunk, *role)), None),
            Need::Whole(whole) => (None, Some(whole.blob)),
            Need::Opened(blob) | Need::Perhaps(blob) => (None, Some(*blob)),
            Need::Unreadable(_) => (None, None),
        };
        let chunks = chunk.into_iter();
        (chunks.flat_map(|(chunk, role)| with_bases(chunk, role)))
            .map(|(chunk, _)| chunk.location.blob)
            .chain(blob)
    }
}

/// Returns a chunk and everything that it is decoded with, dependencies first.
pub fn with_bases(chunk: &ChunkRef, role: Role) -> impl Iterator<Item = (&ChunkRef, Role)> {
    let below = chunk.bases.iter().flat_map(|base| base.bases.iter());
    (below.chain(chunk.bases.iter()))
        .map(|base| (base, Role::Base))
        .chain(std::iter::once((chunk, role)))
}

/// Items that one step of a walk found.
pub type Stretch = Vec<Found>;

/// A walk over everything that some heads need.
#[derive(Debug, Default)]
pub struct Walk {
    /// Heads yet to walk.
    heads: VecDeque<Repository>,
    /// Trees of the current head yet to walk.
    trees: VecDeque<(Snapshot, Option<String>)>,
    /// Nodes to read, the next ones last.
    pending: Vec<Pending>,
    /// Nodes that are being fetched, in reading order.
    batch: VecDeque<Pending>,
    coming: Vec<Coming>,
    /// Visited nodes, by location.
    seen: HashSet<[u8; 16]>,
    /// Heads that are commits.
    commits: HashSet<CommitId>,
}

#[derive(Debug)]
struct Pending {
    snapshot: Snapshot,
    place: Arc<Place>,
    depth: usize,
    node: ToRead,
}

#[derive(Debug)]
enum ToRead {
    Directory(Node),
    List {
        list: ChunkRef,
        /// Bytes of the file that the list covers.
        covers: u64,
        /// Its level, if its parent list declares it.
        level: Option<u8>,
    },
}

impl Pending {
    /// Returns the chunk that holds the node.
    fn chunk(&self) -> Option<ChunkRef> {
        match &self.node {
            ToRead::Directory(node) => self.snapshot.node_of(node),
            ToRead::List { list, .. } => Some(list.clone()),
        }
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

    /// Returns the next stretch; `None` at the end.
    ///
    /// Unreadable nodes are reported ([`Need::Unreadable`]) and skipped; a stretch ends
    /// at such a node, so that the caller can stop immediately.
    pub async fn next(&mut self) -> Option<Stretch> {
        let mut found: Stretch = Vec::new();
        let failed = |found: &Stretch| {
            let last = found.last();
            last.is_some_and(|it| matches!(it.need, Need::Unreadable(_)))
        };
        while found.len() < STRETCH && !failed(&found) {
            if self.batch.is_empty() {
                self.fetch();
            }
            if let Some(node) = self.batch.pop_front() {
                match node.node {
                    ToRead::Directory(_) => self.directory(node, &mut found).await,
                    ToRead::List { .. } => self.list(node, &mut found).await,
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
        let first = self.pending.len().saturating_sub(NODES_AT_ONCE);
        self.batch = self.pending.drain(first..).rev().collect();
        self.coming = match self.batch.front() {
            Some(one) => {
                let chunks = self.batch.iter().filter_map(Pending::chunk);
                one.snapshot.begin_nodes(chunks.collect(), WINDOW)
            }
            None => Vec::new(),
        };
    }

    async fn head(&mut self, repository: Repository, found: &mut Stretch) {
        let at_head = Arc::new(Place::Head);
        if let Some(blob) = repository.blob() {
            found.push(Found {
                place: at_head.clone(),
                need: Need::Opened(blob),
            });
        }
        for attached in &repository.head().attachments {
            attachment(&repository, attached, found);
        }
        history(&repository, found).await;
        let names = tree_names(&repository);
        let trees = names.into_iter().enumerate();
        let trees = trees.filter_map(|(at, name)| Some((repository.snapshot(at).ok()?, name)));
        self.trees.extend(trees);
        if !repository.is_implied() {
            return;
        }
        let others = repository.relatives().iter().map(|it| it.target.clone());
        for target in repository.parents().into_iter().chain(others) {
            if self.commits.len() >= MAX_ANCESTORS || !self.commits.insert(target.id()) {
                continue;
            }
            match repository.open_relative(&target).await {
                Ok(before) => self.heads.push_back(before),
                Err(why) => found.push(Found {
                    place: at_head.clone(),
                    need: Need::Unreadable(why),
                }),
            }
        }
    }

    fn tree(&mut self, snapshot: Snapshot, name: Option<String>, found: &mut Stretch) {
        let place = Arc::new(Place::Root(name));
        let root = snapshot.root();
        let reference = snapshot.commit().root.clone();
        if !self.is_new(&reference) {
            return;
        }
        if let Some(chunk) = snapshot.node_of(&root) {
            found.push(Found {
                place: place.clone(),
                need: Need::Chunk(chunk, Role::Directory),
            });
        }
        self.pending.push(Pending {
            snapshot,
            place,
            depth: 0,
            node: ToRead::Directory(root),
        });
    }

    async fn directory(&mut self, pending: Pending, found: &mut Stretch) {
        let Pending {
            snapshot,
            place,
            depth,
            node: ToRead::Directory(node),
        } = pending
        else {
            return;
        };
        let read = match depth < MAX_DEPTH {
            true => snapshot.directory(&node).await,
            false => Err(RepoError::TooDeep(MAX_DEPTH)),
        };
        let directory = match read {
            Ok(directory) => directory,
            Err(why) => {
                let need = Need::Unreadable(why);
                return found.push(Found { place, need });
            }
        };
        let mut below = Vec::new();
        for (at, entry) in directory.entries().iter().enumerate() {
            let inside = || Arc::new(Place::In(place.clone(), entry.name.clone(), entry.size));
            let chunk = |index: u32| directory.chunks()[index as usize].clone();
            match entry.content {
                Content::Inline(_) => {}
                Content::Part { index, .. } => found.push(Found {
                    place: inside(),
                    need: Need::Chunk(chunk(index), Role::Content),
                }),
                Content::Chunks { first, count } => {
                    let place = inside();
                    found.extend((first..first + count).map(|index| Found {
                        place: place.clone(),
                        need: Need::Chunk(chunk(index), Role::Content),
                    }));
                }
                Content::Whole { index } => found.push(Found {
                    place: inside(),
                    need: Need::Whole(directory.wholes()[index as usize].clone()),
                }),
                Content::List { index } => {
                    let list = ToRead::List {
                        list: chunk(index),
                        covers: entry.size,
                        level: None,
                    };
                    below.extend(self.child(&snapshot, inside(), depth, list, found));
                }
                Content::Directory { index, .. } => {
                    // Checked before a node is created: most are known.
                    if self.is_new(&chunk(index)) {
                        let child = snapshot.entry(&node, &directory, at);
                        let place = inside();
                        if let Some(chunk) = snapshot.node_of(&child) {
                            found.push(Found {
                                place: place.clone(),
                                need: Need::Chunk(chunk, Role::Directory),
                            });
                        }
                        below.push(Pending {
                            snapshot: snapshot.clone(),
                            place,
                            depth: depth + 1,
                            node: ToRead::Directory(child),
                        });
                    }
                }
            }
        }
        self.pending.extend(below.into_iter().rev());
    }

    async fn list(&mut self, pending: Pending, found: &mut Stretch) {
        let Pending {
            snapshot,
            place,
            depth,
            node:
                ToRead::List {
                    list: chunk,
                    covers,
                    level,
                },
        } = pending
        else {
            return;
        };
        let read = snapshot.list(std::slice::from_ref(&chunk), 0, covers);
        let read = read.await.and_then(|list| match level {
            Some(level) if level != list.level() => Err(RepoError::Malformed {
                what: "chunk list",
                hash: chunk.hash,
                why: MalformedNode::Sum("levels"),
            }),
            _ => Ok(list),
        });
        let list = match read {
            Ok(list) => list,
            Err(why) => {
                let need = Need::Unreadable(why);
                return found.push(Found { place, need });
            }
        };
        let mut below = Vec::new();
        for (at, part) in list.parts().iter().enumerate() {
            match list.level().checked_sub(1) {
                None => found.push(Found {
                    place: place.clone(),
                    need: Need::Chunk(part.clone(), Role::Content),
                }),
                Some(level) => {
                    let node = ToRead::List {
                        list: part.clone(),
                        covers: list.start(at + 1) - list.start(at),
                        level: Some(level),
                    };
                    below.extend(self.child(&snapshot, place.clone(), depth, node, found));
                }
            }
        }
        self.pending.extend(below.into_iter().rev());
    }

    /// Returns a list to read, unless it was visited.
    fn child(
        &mut self,
        snapshot: &Snapshot,
        place: Arc<Place>,
        depth: usize,
        node: ToRead,
        found: &mut Stretch,
    ) -> Option<Pending> {
        let pending = Pending {
            snapshot: snapshot.clone(),
            place: place.clone(),
            depth,
            node,
        };
        let chunk = pending.chunk()?;
        if !self.is_new(&chunk) {
            return None;
        }
        found.push(Found {
            place,
            need: Need::Chunk(chunk, Role::List),
        });
        Some(pending)
    }

    /// Whether a node is visited for the first time. Equal bytes at another location
    /// refer to other places, so the location counts.
    fn is_new(&mut self, node: &ChunkRef) -> bool {
        self.seen.insert(fingerprint(node))
    }
}

/// Fingerprint of a chunk and its location; collisions are practically impossible.
pub(super) fn fingerprint(chunk: &ChunkRef) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(chunk.hash.as_bytes());
    hasher.update(chunk.location.blob.as_bytes());
    hasher.update(&chunk.location.offset.to_le_bytes());
    hasher.update(&chunk.stored_len.to_le_bytes());
    hasher.update(&[chunk.codec as u8]);
    for base in chunk.bases.iter() {
        hasher.update(base.hash.as_bytes());
        hasher.update(base.location.blob.as_bytes());
        hasher.update(&base.location.offset.to_le_bytes());
    }
    let mut name = [0; 16];
    name.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    name
}

/// Finds the needs of an attachment. A kind whose chunks are nodes with their own tables
/// has to be read like a directory; for an unknown kind, all blobs that the head names
/// may be needed.
fn attachment(repository: &Repository, attached: &Attachment, found: &mut Stretch) {
    let place = Arc::new(Place::Attachment(attached.kind));
    let role = match attached.kind {
        AttachmentKind::GitCommits => Role::Objects,
        _ => Role::Attachment,
    };
    found.extend(attached.chunks.iter().map(|chunk| Found {
        place: place.clone(),
        need: Need::Chunk(chunk.clone(), role),
    }));
    if let AttachmentKind::Other(_) = attached.kind {
        found.extend(repository.head().blobs.iter().map(|blob| Found {
            place: place.clone(),
            need: Need::Perhaps(*blob),
        }));
    }
}

/// Finds the needs of the head's history.
async fn history(repository: &Repository, found: &mut Stretch) {
    let place = Arc::new(Place::Attachment(AttachmentKind::Archive));
    let archive = match repository.archive().await {
        Ok(Some(archive)) => archive,
        Ok(None) => return,
        Err(why) => {
            let need = Need::Unreadable(why);
            return found.push(Found { place, need });
        }
    };
    for segment in archive.segments() {
        let mut roles = vec![Role::Content; segment.chunks.len()];
        let groups = segment.trees.iter().map(|group| group.chunk);
        groups
            .chain(segment.tags.iter().copied())
            .for_each(|chunk| roles[chunk] = Role::Objects);
        found.extend(segment.chunks.iter().zip(roles).map(|(chunk, role)| Found {
            place: place.clone(),
            need: Need::Chunk(chunk.clone(), role),
        }));
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
        Some(first) if repository.is_implied() => *first = Some(head.commits[0].id.to_string()),
        Some(first) => *first = None,
        None => {}
    }
    names
}
