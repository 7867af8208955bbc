//! The mark walk: everything that a head needs.
//!
//! A head leads to attachments and to trees, a tree to directories, these to
//! chunk lists and to chunks of content, and a chunk to the dictionary or the
//! chunks that it is decoded with. A [`Walk`] gives all of it, a [`Stretch`] at
//! a time, from the nodes alone: of content it reads nothing. Whoever checks a
//! repository and whoever collects garbage walk the same way.
//!
//! Nodes of one level lie next to each other in their blob, so they are fetched
//! together, many in a request. What is held does not grow with the files of a
//! repository: a stretch, the directories between the root and where the walk
//! is, and sixteen bytes for each different directory, so that what trees have
//! in common is walked once.
//!
//! Of what WalGit's own tools keep, every commit is a head of its own that leads
//! to the one before it; those are walked, too.

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
/// Stored bytes of nodes that one request asks for.
const WINDOW: u64 = 1 << 20;
/// Things after which a stretch ends: some 10 MB.
const STRETCH: usize = 1 << 16;

/// What a chunk is needed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The node of a directory.
    Directory,
    /// A list of a large file's chunks.
    List,
    /// Content of a file.
    Content,
    /// What others are decoded with: a dictionary, or what they are patches
    /// against.
    Base,
    /// What is kept beside the trees.
    Attachment,
    /// Commits, trees or tags of the history that a head carries.
    Objects,
}

/// Where something is needed.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// By the head itself.
    Head,
    /// Beside the trees.
    Attachment(AttachmentKind),
    /// The root of a tree; what it is called where it is not the only one.
    Root(Option<String>),
    /// In a directory: that one, the name, and bytes of content.
    In(Arc<Place>, Bytes, u64),
}

impl Place {
    /// Its path from the root of its tree; empty for the root, and for what is
    /// in no tree.
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

/// Something that is needed.
#[derive(Clone, Debug)]
pub enum Need {
    /// A chunk, with what it is decoded with: see [`with_bases`].
    Chunk(ChunkRef, Role),
    /// A blob that is one file.
    Whole(WholeBlob),
    /// A blob that was read, and proven, when the head in it was opened.
    Opened(BlobId),
    /// A blob that something refers to which this version cannot look into. It
    /// may be needed, and need not be there.
    Perhaps(BlobId),
    /// A node that could not be read: what is below it is not known.
    Unreadable(RepoError),
}

/// Something that is needed, and where.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where.
    pub place: Arc<Place>,
    /// What.
    pub need: Need,
}

impl Found {
    /// The blobs that it needs, one of them as often as it comes.
    pub fn blobs(&self) -> impl Iterator<Item = BlobId> + '_ {
        let (chunk, blob) = match &self.need {
            Need::Chunk(chunk, role) => (Some((chunk, *role)), None),
            Need::Whole(whole) => (None, Some(whole.blob)),
            Need::Opened(blob) | Need::Perhaps(blob) => (None, Some(*blob)),
            Need::Unreadable(_) => (None, None),
        };
        let chunks = chunk.into_iter();
        (chunks.flat_map(|(chunk, role)| with_bases(chunk, role)))
            .map(|(chunk, _)| chunk.at.blob)
            .chain(blob)
    }
}

/// A chunk and all that it is decoded with, those first that others need.
pub fn with_bases(chunk: &ChunkRef, role: Role) -> impl Iterator<Item = (&ChunkRef, Role)> {
    let below = chunk.bases.iter().flat_map(|base| base.bases.iter());
    (below.chain(chunk.bases.iter()))
        .map(|base| (base, Role::Base))
        .chain(std::iter::once((chunk, role)))
}

/// What a walk found since it was asked last.
pub type Stretch = Vec<Found>;

/// A walk over all that some heads need.
#[derive(Debug, Default)]
pub struct Walk {
    /// Heads to walk yet.
    heads: VecDeque<Repository>,
    /// The one that is being walked, and the trees of it to walk yet.
    trees: VecDeque<(Snapshot, Option<String>)>,
    /// Nodes to read, the next ones last.
    pending: Vec<Pending>,
    /// Nodes that are being fetched, in the order in which they are read.
    batch: VecDeque<Pending>,
    coming: Vec<Coming>,
    /// Nodes that were met, by where they lie.
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
        /// Bytes of the file that it says where to find.
        covers: u64,
        /// Its level, where one above it tells.
        level: Option<u8>,
    },
}

impl Pending {
    /// The chunk that it is read from.
    fn chunk(&self) -> Option<ChunkRef> {
        match &self.node {
            ToRead::Directory(node) => self.snapshot.node_of(node),
            ToRead::List { list, .. } => Some(list.clone()),
        }
    }
}

impl Walk {
    /// A walk over what this head needs.
    pub fn of(repository: &Repository) -> Self {
        let mut walk = Walk::default();
        walk.add(repository);
        walk
    }

    /// Walks over what this head needs, too, but for what was met already.
    pub fn add(&mut self, repository: &Repository) {
        self.heads.push_back(repository.clone());
    }

    /// What comes next; `None` at the end.
    ///
    /// Nodes that cannot be read are told ([`Need::Unreadable`]) and passed over;
    /// a stretch ends there, so that who gives up can do so at once.
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
                    // Before a node is made for it: most are known.
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

    /// A list to read, where it was not met before.
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

    /// Whether a node is met for the first time. The same bytes elsewhere refer
    /// to other places, so where it lies counts.
    fn is_new(&mut self, node: &ChunkRef) -> bool {
        self.seen.insert(fingerprint(node))
    }
}

/// A name for a chunk at its place: no two are alike but by a chance that never
/// happens.
pub(super) fn fingerprint(chunk: &ChunkRef) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(chunk.hash.as_bytes());
    hasher.update(chunk.at.blob.as_bytes());
    hasher.update(&chunk.at.offset.to_le_bytes());
    hasher.update(&chunk.at.stored_len.to_le_bytes());
    hasher.update(&[chunk.at.codec as u8]);
    for base in chunk.bases.iter() {
        hasher.update(base.hash.as_bytes());
        hasher.update(base.at.blob.as_bytes());
        hasher.update(&base.at.offset.to_le_bytes());
    }
    let mut name = [0; 16];
    name.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    name
}

/// What an attachment needs. A kind whose chunks are nodes with tables of their
/// own has to be read like a directory; of one that this version does not know,
/// all that can be said is which blobs the head names.
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

/// What the history that a head carries leads to.
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

/// What the trees of a head are called; that of the default branch needs no
/// name.
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
