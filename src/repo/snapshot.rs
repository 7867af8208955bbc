//! One commit's tree: nodes by number or by name, and their content.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{ChunkList, Commit, Content, Directory, Entry, Kind, RepoError, Repository};
use crate::chunk::{ByteRange, ChunkHash, ChunkRef, Location, WholeBlob};
use crate::walrus::BlobStore;

/// Deepest nesting of directories a reader follows. A path the kernel can name
/// has at most half of its 4096 bytes as components.
pub const MAX_DEPTH: usize = 2048;

/// Stored bytes of neighbours that a reader of files lets come with a chunk that
/// has to be fetched: at 20 Mbit/s they take 50 ms, a round trip to a far
/// gateway.
pub const NEIGHBOURS: u64 = 128 << 10;

/// The number of a node: 1 for the root, then its place in a preorder walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIndex(pub u64);

impl NodeIndex {
    /// The root directory.
    pub const ROOT: NodeIndex = NodeIndex(1);
}

/// A file, directory, symlink or submodule of a [`Snapshot`].
#[derive(Clone, Debug)]
pub struct Node {
    /// Its number.
    pub index: NodeIndex,
    /// What it is.
    pub kind: Kind,
    /// Bytes of content; of a directory, the sum over the files in it.
    pub size: u64,
    /// Where it was found.
    place: Found,
}

#[derive(Clone, Debug)]
enum Found {
    /// It is the root.
    Root(ChunkRef),
    /// It is an entry of this directory.
    In(Arc<Directory>, usize),
}

/// How a node's content is stored, for people to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// In the node of its directory.
    Inline,
    /// In chunks that share packs.
    Chunked,
    /// In a Walrus blob of its own.
    Walrus,
}

/// The tree of one commit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    repository: Repository,
    commit: usize,
}

impl Snapshot {
    pub(super) fn new(repository: Repository, commit: usize) -> Self {
        Snapshot { repository, commit }
    }

    /// The repository it is of.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The commit whose tree it is.
    pub fn commit(&self) -> &Commit {
        &self.repository.head().commits[self.commit]
    }

    /// The root directory.
    pub fn root(&self) -> Node {
        let commit = self.commit();
        Node {
            index: NodeIndex::ROOT,
            kind: Kind::Directory,
            size: commit.bytes,
            place: Found::Root(commit.root),
        }
    }

    /// The node with this number.
    ///
    /// # Errors
    /// [`RepoError::NoNode`], or what kept a directory above it from being read.
    pub async fn node(&self, index: NodeIndex) -> Result<Node, RepoError> {
        self.descend(index, |_, _, _| {}).await
    }

    /// The node with this number, by way of every directory above it: each is
    /// told to `step` with its content and which entry leads on.
    ///
    /// # Errors
    /// As [`Snapshot::node`].
    pub async fn descend(
        &self,
        index: NodeIndex,
        mut step: impl FnMut(&Node, &Arc<Directory>, usize),
    ) -> Result<Node, RepoError> {
        let mut node = self.root();
        for _ in 0..MAX_DEPTH {
            if node.index == index {
                return Ok(node);
            }
            let directory = self.directory(&node).await?;
            let offset = index.0.wrapping_sub(node.index.0);
            let entry = directory
                .holding(offset)
                .ok_or(RepoError::NoNode(index.0))?;
            step(&node, &directory, entry);
            node = self.entry(&node, &directory, entry);
        }
        Err(RepoError::TooDeep(MAX_DEPTH))
    }

    /// The node called `name` in directory `parent`, if there is one.
    pub async fn lookup(&self, parent: &Node, name: &[u8]) -> Result<Option<Node>, RepoError> {
        let directory = self.directory(parent).await?;
        Ok(directory
            .find(name)
            .map(|entry| self.entry(parent, &directory, entry)))
    }

    /// The node at this path from the root (components separated by `/`), if
    /// there is one. Symlinks are not followed.
    pub async fn walk(&self, path: &[u8]) -> Result<Option<Node>, RepoError> {
        let mut node = self.root();
        for name in path.split(|&byte| byte == b'/').filter(|n| !n.is_empty()) {
            if node.kind != Kind::Directory {
                return Ok(None);
            }
            match self.lookup(&node, name).await? {
                Some(child) => node = child,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// Entry number `entry` of `directory`, the content of `parent`.
    pub fn entry(&self, parent: &Node, directory: &Arc<Directory>, entry: usize) -> Node {
        let found = &directory.entries()[entry];
        Node {
            index: NodeIndex(parent.index.0 + found.offset),
            kind: found.kind,
            size: found.size,
            place: Found::In(directory.clone(), entry),
        }
    }

    /// The entries of a directory. A submodule has none.
    ///
    /// # Errors
    /// [`RepoError::NotADirectory`]; [`RepoError::Subtree`] when it is not as
    /// large as its parent says; or what kept it from being read.
    pub async fn directory(&self, node: &Node) -> Result<Arc<Directory>, RepoError> {
        let loader = self.repository.loader();
        let (table, index, nodes) = match &node.place {
            Found::Root(root) => (std::slice::from_ref(root), 0, self.commit().nodes),
            Found::In(parent, entry) => match parent.entries()[*entry].content {
                Content::Directory { index, nodes } => (parent.chunks(), index as usize, nodes),
                _ => return Err(RepoError::NotADirectory),
            },
        };
        let directory = match self.repository.implied(&table[index].hash) {
            Some(implied) => implied.clone(),
            None => {
                let store = self.repository.store();
                loader.directory(store, table, index).await?
            }
        };
        if directory.nodes() != nodes {
            return Err(RepoError::Subtree {
                hash: table[index].hash,
                expected: nodes,
                found: directory.nodes(),
            });
        }
        Ok(directory)
    }

    /// The target of a symlink.
    pub fn target(&self, node: &Node) -> Result<Bytes, RepoError> {
        match (&node.place, node.kind) {
            (Found::In(parent, entry), Kind::Symlink) => match &parent.entries()[*entry].content {
                Content::Inline(target) => Ok(target.clone()),
                _ => Err(RepoError::NotASymlink),
            },
            _ => Err(RepoError::NotASymlink),
        }
    }

    /// The bytes of `range` of a file, cut at its end. A chunk that has to be
    /// fetched brings its neighbours of up to `window` stored bytes along.
    ///
    /// # Errors
    /// [`RepoError::IsADirectory`], or what kept a chunk from being read.
    pub async fn read(
        &self,
        node: &Node,
        range: ByteRange,
        window: u64,
    ) -> Result<Bytes, RepoError> {
        let range = range.intersect(ByteRange::new(0, node.size));
        let (parent, entry) = match (&node.place, node.kind) {
            (Found::In(parent, entry), Kind::File { .. }) => (parent, &parent.entries()[*entry]),
            _ => return Err(RepoError::IsADirectory),
        };
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let store = self.repository.store();
        match &entry.content {
            Content::Inline(bytes) => Ok(bytes.slice(range.start() as usize..range.end() as usize)),
            Content::Chunks { first, count } => {
                let first = *first as usize;
                let run = first..first + *count as usize;
                let mut ends = Vec::with_capacity(run.len());
                let mut end = 0u64;
                for chunk in &parent.chunks()[run.clone()] {
                    end += u64::from(chunk.raw_len);
                    ends.push(end);
                }
                let mut pieces = Pieces::new(range);
                for (i, &end) in ends.iter().enumerate() {
                    let raw_len = u64::from(parent.chunks()[first + i].raw_len);
                    let covers = ByteRange::new(end - raw_len, raw_len);
                    if pieces.wants(covers) {
                        let chunk = self
                            .chunk(store, parent.chunks(), first + i, window)
                            .await?;
                        pieces.push(covers, chunk);
                    }
                }
                Ok(pieces.finish())
            }
            Content::List { index } => {
                let list = self
                    .list(parent.chunks(), *index as usize, node.size)
                    .await?;
                let mut pieces = Pieces::new(range);
                self.read_list(store, list, &mut pieces, window).await?;
                Ok(pieces.finish())
            }
            Content::Whole { index } => {
                let whole = &parent.wholes()[*index as usize];
                self.read_whole(whole, range, window).await
            }
            Content::Directory { .. } => Err(RepoError::IsADirectory),
        }
    }

    /// The bytes of `range` of a file that is one blob, cut at its end.
    ///
    /// # Errors
    /// What kept the blob from being read or proven.
    pub async fn read_whole(
        &self,
        whole: &WholeBlob,
        range: ByteRange,
        window: u64,
    ) -> Result<Bytes, RepoError> {
        let store = self.repository.store_of(whole)?;
        let list = self.repository.loader().whole(store, whole).await?;
        let mut pieces = Pieces::new(range.intersect(ByteRange::new(0, whole.size)));
        self.read_list(store, list, &mut pieces, window).await?;
        Ok(pieces.finish())
    }

    /// Reads what `pieces` wants of the file that `list` covers, walking down
    /// to its level-0 lists as far as the range needs.
    async fn read_list(
        &self,
        store: &Arc<dyn BlobStore>,
        list: Arc<ChunkList>,
        pieces: &mut Pieces,
        window: u64,
    ) -> Result<(), RepoError> {
        let mut at = pieces.range.start();
        while at < pieces.range.end() {
            let mut list = list.clone();
            let mut base = 0u64;
            while list.level() > 0 {
                let Some((part, start)) = list.holding(at - base) else {
                    return Ok(());
                };
                let covers = list.start(part + 1).saturating_sub(start);
                let below = self.list(list.parts(), part, covers).await?;
                if below.level() + 1 != list.level() {
                    return Err(malformed_list(&list.parts()[part], "levels"));
                }
                base += start;
                list = below;
            }
            let Some((mut part, mut start)) = list.holding(at - base) else {
                return Ok(());
            };
            while part < list.parts().len() && base + start < pieces.range.end() {
                let covers = ByteRange::new(base + start, u64::from(list.parts()[part].raw_len));
                let chunk = self.chunk(store, list.parts(), part, window).await?;
                pieces.push(covers, chunk);
                start += covers.len();
                part += 1;
            }
            at = base + start;
        }
        Ok(())
    }

    /// Every chunk of a file's content, in order; none for an inline one.
    ///
    /// # Errors
    /// What kept a chunk list from being read.
    pub async fn file_chunks(&self, node: &Node) -> Result<Vec<ChunkRef>, RepoError> {
        let (parent, index) = match &node.place {
            Found::In(parent, entry) => match parent.entries()[*entry].content {
                Content::List { index } => (parent, index as usize),
                _ => return Ok(self.chunks_of(node).to_vec()),
            },
            Found::Root(_) => return Err(RepoError::IsADirectory),
        };
        let mut chunks = Vec::new();
        let mut pending = vec![self.list(parent.chunks(), index, node.size).await?];
        while let Some(list) = pending.pop() {
            if list.level() == 0 {
                chunks.extend_from_slice(list.parts());
                continue;
            }
            for part in (0..list.parts().len()).rev() {
                let covers = list.start(part + 1) - list.start(part);
                let below = self.list(list.parts(), part, covers).await?;
                if below.level() + 1 != list.level() {
                    return Err(malformed_list(&list.parts()[part], "levels"));
                }
                pending.push(below);
            }
        }
        Ok(chunks)
    }

    async fn list(
        &self,
        table: &[ChunkRef],
        index: usize,
        covers: u64,
    ) -> Result<Arc<ChunkList>, RepoError> {
        let loader = self.repository.loader();
        let list = loader.list(self.repository.store(), table, index).await?;
        if list.len() != covers {
            return Err(malformed_list(&table[index], "sizes"));
        }
        Ok(list)
    }

    async fn chunk(
        &self,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
        window: u64,
    ) -> Result<Bytes, RepoError> {
        let cache = self.repository.loader().cache();
        Ok(cache.get(store, table, index, window).await?)
    }

    /// The chunks a node's content starts with, for people to look at: all of
    /// a file of few chunks, the list of a larger one, the node of a directory.
    pub fn chunks_of<'a>(&'a self, node: &'a Node) -> &'a [ChunkRef] {
        match &node.place {
            Found::Root(root) => std::slice::from_ref(root),
            Found::In(parent, entry) => match parent.entries()[*entry].content {
                Content::Inline(_) => &[],
                Content::Chunks { first, count } => {
                    &parent.chunks()[first as usize..(first + count) as usize]
                }
                Content::List { index } | Content::Directory { index, .. } => {
                    std::slice::from_ref(&parent.chunks()[index as usize])
                }
                Content::Whole { .. } => &[],
            },
        }
    }

    /// The blob that a file is, where it is one.
    pub fn whole_of<'a>(&self, node: &'a Node) -> Option<&'a WholeBlob> {
        match &node.place {
            Found::In(parent, entry) => match parent.entries()[*entry].content {
                Content::Whole { index } => Some(&parent.wholes()[index as usize]),
                _ => None,
            },
            Found::Root(_) => None,
        }
    }

    /// How much of a node's content is in the cache. Asks nobody for content,
    /// but may have to read the list of a large file's chunks.
    ///
    /// # Errors
    /// What kept that list from being read.
    pub async fn held(&self, node: &Node) -> Result<Held, RepoError> {
        let cache = self.repository.loader().cache();
        let first = self.chunks_of(node);
        if let Some(whole) = self.whole_of(node) {
            let Ok(store) = self.repository.store_of(whole) else {
                return Ok(Held::Nothing);
            };
            let at_rest = store.at_rest();
            return Ok(match cache.known_whole(whole, at_rest) {
                Some(pieces) => Held::of(&pieces, |hash| cache.holds(hash, at_rest)),
                None => Held::Nothing,
            });
        }
        // A list that is not there need not be fetched to tell that what it
        // leads to has not been read.
        let holds = |hash: &ChunkHash| cache.holds(hash, None);
        if !first.is_empty() && !first.iter().any(|chunk| holds(&chunk.hash)) {
            return Ok(Held::Nothing);
        }
        Ok(match node.kind {
            Kind::File { .. } => Held::of(&self.file_chunks(node).await?, holds),
            _ => Held::of(first, holds),
        })
    }

    /// Whether a reader of the start of a file would have to wait for the
    /// network; `None` for one that needs none, ever.
    pub fn is_away(&self, node: &Node) -> Option<bool> {
        match (self.whole_of(node), self.chunks_of(node).first()) {
            (Some(whole), _) => Some(!self.knows(whole)),
            (None, Some(first)) => Some(!self.holds(first)),
            (None, None) => None,
        }
    }

    /// Whether a chunk is in the cache.
    pub fn holds(&self, chunk: &ChunkRef) -> bool {
        self.repository.loader().cache().holds(&chunk.hash, None)
    }

    /// Begins to fetch chunk `table[index]`, with those that follow it in the
    /// table and in the blob, up to `window` stored bytes; waits for nothing.
    /// Must be called within a runtime.
    pub fn begin_chunks(&self, table: &[ChunkRef], index: usize, window: u64) {
        let cache = self.repository.loader().cache();
        cache.begin(self.repository.store(), table, index, window);
    }

    /// Fetches chunk `table[index]` into the cache, with those that follow it
    /// in the table and in the blob, up to `window` stored bytes.
    ///
    /// # Errors
    /// What kept it from being read.
    pub async fn fetch_chunks(
        &self,
        table: &[ChunkRef],
        index: usize,
        window: u64,
    ) -> Result<(), RepoError> {
        let store = self.repository.store();
        self.chunk(store, table, index, window).await?;
        Ok(())
    }

    /// Whether a file that is one blob has been fetched and proven before.
    pub fn knows(&self, whole: &WholeBlob) -> bool {
        let cache = self.repository.loader().cache();
        let store = self.repository.store_of(whole);
        store.is_ok_and(|store| cache.known_whole(whole, store.at_rest()).is_some())
    }

    /// Fetches a file that is one blob, where it is not known yet.
    ///
    /// # Errors
    /// What kept it from being read.
    pub async fn fetch_whole(&self, whole: &WholeBlob) -> Result<(), RepoError> {
        let store = self.repository.store_of(whole)?;
        self.repository.loader().whole(store, whole).await?;
        Ok(())
    }

    /// How a node's content is stored.
    pub fn tier(&self, node: &Node) -> Tier {
        // A chunk at offset 0 has no header of ours before it: its blob holds
        // nothing but the file.
        let plain = |chunk: &ChunkRef| {
            let Location { offset, codec, .. } = chunk.at;
            offset == 0 && codec == crate::chunk::Codec::Raw
        };
        match self.chunks_of(node) {
            [] if self.whole_of(node).is_some() => Tier::Walrus,
            [] => Tier::Inline,
            [first, ..] if plain(first) => Tier::Walrus,
            _ => Tier::Chunked,
        }
    }
}

/// Whether two files, links or directories hold the same and are of the same
/// kind, as far as their hashes tell; names and places do not count.
pub fn same_content((a, in_a): (&Entry, &Directory), (b, in_b): (&Entry, &Directory)) -> bool {
    let hash = |directory: &Directory, index: u32| directory.chunks()[index as usize].hash;
    let content = match (&a.content, &b.content) {
        (Content::Inline(a), Content::Inline(b)) => a == b,
        (
            Content::Chunks {
                first: at,
                count: len,
            },
            Content::Chunks { first, count },
        ) => len == count && (0..*len).all(|i| hash(in_a, at + i) == hash(in_b, first + i)),
        (Content::List { index: a }, Content::List { index: b })
        | (Content::Directory { index: a, .. }, Content::Directory { index: b, .. }) => {
            hash(in_a, *a) == hash(in_b, *b)
        }
        (Content::Whole { index: a }, Content::Whole { index: b }) => {
            let (a, b) = (&in_a.wholes()[*a as usize], &in_b.wholes()[*b as usize]);
            // The same content in another blob is the same content.
            a.size == b.size && a.proof == b.proof && (a.blob == b.blob || a.is_hashed())
        }
        _ => false,
    };
    content && a.kind == b.kind && a.size == b.size
}

/// How much of a node's content is in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// All of it.
    All,
    /// Some.
    Part,
    /// None of it.
    Nothing,
}

impl Held {
    fn of(chunks: &[ChunkRef], holds: impl Fn(&ChunkHash) -> bool) -> Self {
        match chunks.iter().filter(|chunk| holds(&chunk.hash)).count() {
            held if held == chunks.len() => Held::All,
            0 => Held::Nothing,
            _ => Held::Part,
        }
    }
}

fn malformed_list(reference: &ChunkRef, what: &'static str) -> RepoError {
    RepoError::Malformed {
        what: "chunk list",
        hash: reference.hash,
        why: super::MalformedNode::Sum(what),
    }
}

/// The pieces of a read, put together without a copy where one is all.
struct Pieces {
    range: ByteRange,
    parts: Vec<Bytes>,
}

impl Pieces {
    fn new(range: ByteRange) -> Self {
        Pieces {
            range,
            parts: Vec::new(),
        }
    }

    fn wants(&self, covers: ByteRange) -> bool {
        !self.range.intersect(covers).is_empty()
    }

    fn push(&mut self, covers: ByteRange, chunk: Bytes) {
        let part = self.range.intersect(covers);
        let start = (part.start() - covers.start()) as usize;
        self.parts
            .push(chunk.slice(start..start + part.len() as usize));
    }

    fn finish(mut self) -> Bytes {
        if self.parts.len() == 1 {
            return self.parts.swap_remove(0);
        }
        let mut whole = BytesMut::with_capacity(self.parts.iter().map(Bytes::len).sum());
        for part in &self.parts {
            whole.extend_from_slice(part);
        }
        whole.freeze()
    }
}
