//! One commit's tree: nodes by number or by name, and their content.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{ChunkList, Commit, Content, Directory, Entry, Kind, RepoError, Repository};
use crate::cache::{self, Underway};
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
        if range.is_empty() && matches!(node.kind, Kind::File { .. }) {
            return Ok(Bytes::new());
        }
        let located = match self.locate(node, range).await? {
            Located::Inline(bytes) => return Ok(bytes),
            Located::Chunks(located) => located,
        };
        let store = self.store_of_content(node)?;
        self.gather(store, &located, range, window).await
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
        let range = range.intersect(ByteRange::new(0, whole.size));
        let store = self.repository.store_of(whole)?;
        let list = self.repository.loader().whole(store, whole).await?;
        let located = self.locate_in(list, range).await?;
        self.gather(store, &located, range, window).await
    }

    /// The bytes of `range` out of the chunks that cover it.
    async fn gather(
        &self,
        store: &Arc<dyn BlobStore>,
        located: &[Part],
        range: ByteRange,
        window: u64,
    ) -> Result<Bytes, RepoError> {
        let cache = self.repository.loader().cache();
        let mut pieces = Pieces::new(range);
        for part in located {
            let chunk = cache.get(store, part.table.chunks(), part.index, window);
            pieces.push(part.covers, chunk.await?);
        }
        Ok(pieces.finish())
    }

    /// Begins to fetch `range` of a file ahead of its readers, in requests of
    /// up to `window` stored bytes. Waits for nothing but the list of its
    /// chunks.
    ///
    /// # Errors
    /// What kept that list from being read.
    pub async fn begin(
        &self,
        node: &Node,
        range: ByteRange,
        window: u64,
    ) -> Result<Vec<Coming>, RepoError> {
        let range = range.intersect(ByteRange::new(0, node.size));
        if let Some(whole) = self.whole_of(node)
            && !self.knows(whole)
        {
            return Ok(self.begin_whole(whole).into_iter().collect());
        }
        let Located::Chunks(located) = self.locate(node, range).await? else {
            return Ok(Vec::new());
        };
        let store = self.store_of_content(node)?;
        let cache = self.repository.loader().cache();
        let begun = located.iter().filter_map(|part| {
            let begun = cache.begin(store, part.table.chunks(), part.index, window);
            begun.map(Coming::Chunks)
        });
        Ok(begun.collect())
    }

    /// Where the content of a file's node comes from.
    fn store_of_content(&self, node: &Node) -> Result<&Arc<dyn BlobStore>, RepoError> {
        match self.whole_of(node) {
            Some(whole) => self.repository.store_of(whole),
            None => Ok(self.repository.store()),
        }
    }

    /// The chunks that cover `range` of a file, or its bytes where they are in
    /// the node of its directory.
    async fn locate(&self, node: &Node, range: ByteRange) -> Result<Located, RepoError> {
        let (parent, entry) = match (&node.place, node.kind) {
            (Found::In(parent, entry), Kind::File { .. }) => (parent, &parent.entries()[*entry]),
            _ => return Err(RepoError::IsADirectory),
        };
        match &entry.content {
            Content::Inline(bytes) => {
                let part = range.start() as usize..range.end() as usize;
                Ok(Located::Inline(bytes.slice(part)))
            }
            Content::Chunks { first, count } => {
                let mut located = Vec::new();
                let mut start = 0u64;
                for index in *first as usize..(*first + *count) as usize {
                    let raw_len = u64::from(parent.chunks()[index].raw_len);
                    let covers = ByteRange::new(start, raw_len);
                    start += raw_len;
                    if !range.intersect(covers).is_empty() {
                        let table = Table::Directory(parent.clone());
                        located.push(Part {
                            table,
                            index,
                            covers,
                        });
                    }
                }
                Ok(Located::Chunks(located))
            }
            Content::List { index } => {
                let list = self
                    .list(parent.chunks(), *index as usize, node.size)
                    .await?;
                Ok(Located::Chunks(self.locate_in(list, range).await?))
            }
            Content::Whole { index } => {
                let whole = &parent.wholes()[*index as usize];
                let store = self.repository.store_of(whole)?;
                let list = self.repository.loader().whole(store, whole).await?;
                Ok(Located::Chunks(self.locate_in(list, range).await?))
            }
            Content::Directory { .. } => Err(RepoError::IsADirectory),
        }
    }

    /// The chunks that cover `range` of what `list` covers, by way of its
    /// level-0 lists as far as the range needs them.
    async fn locate_in(
        &self,
        list: Arc<ChunkList>,
        range: ByteRange,
    ) -> Result<Vec<Part>, RepoError> {
        let mut located = Vec::new();
        let mut at = range.start();
        while at < range.end() {
            let mut list = list.clone();
            let mut base = 0u64;
            while list.level() > 0 {
                let Some((part, start)) = list.holding(at - base) else {
                    return Ok(located);
                };
                let covers = list.start(part + 1).saturating_sub(start);
                let below = self.list(list.parts(), part, covers).await?;
                if below.level() + 1 != list.level() {
                    return Err(malformed_list(&list.parts()[part], "levels"));
                }
                base += start;
                list = below;
            }
            let Some((mut index, start)) = list.holding(at - base) else {
                return Ok(located);
            };
            at = base + start;
            while index < list.parts().len() && at < range.end() {
                let covers = ByteRange::new(at, u64::from(list.parts()[index].raw_len));
                let table = Table::List(list.clone());
                located.push(Part {
                    table,
                    index,
                    covers,
                });
                at = covers.end();
                index += 1;
            }
        }
        Ok(located)
    }

    /// Every chunk of a file's content, in order; none for an inline one.
    ///
    /// # Errors
    /// What kept a chunk list from being read.
    pub async fn file_chunks(&self, node: &Node) -> Result<Vec<ChunkRef>, RepoError> {
        Ok(self.file_parts(node).await?.content)
    }

    /// Everything a file is stored in but the node of its directory.
    ///
    /// # Errors
    /// What kept a chunk list from being read.
    pub async fn file_parts(&self, node: &Node) -> Result<FileParts, RepoError> {
        let mut parts = FileParts::default();
        let (parent, index) = match &node.place {
            Found::In(parent, entry) => match parent.entries()[*entry].content {
                Content::List { index } => (parent, index as usize),
                _ => {
                    parts.content = self.chunks_of(node).to_vec();
                    return Ok(parts);
                }
            },
            Found::Root(_) => return Err(RepoError::IsADirectory),
        };
        parts.lists.push(parent.chunks()[index]);
        let mut pending = vec![self.list(parent.chunks(), index, node.size).await?];
        while let Some(list) = pending.pop() {
            if list.level() == 0 {
                parts.content.extend_from_slice(list.parts());
                continue;
            }
            parts.lists.extend_from_slice(list.parts());
            for part in (0..list.parts().len()).rev() {
                let covers = list.start(part + 1) - list.start(part);
                let below = self.list(list.parts(), part, covers).await?;
                if below.level() + 1 != list.level() {
                    return Err(malformed_list(&list.parts()[part], "levels"));
                }
                pending.push(below);
            }
        }
        Ok(parts)
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

    /// The chunk that a directory's node is, where it is one.
    pub(super) fn node_of(&self, node: &Node) -> Option<ChunkRef> {
        let chunk = *self.chunks_of(node).first()?;
        let implied = self.repository.implied(&chunk.hash).is_some();
        (node.kind == Kind::Directory && !implied).then_some(chunk)
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

    /// Begins to fetch chunk `table[index]` ahead of its readers, with those
    /// that follow it in the table and in the blob, up to `window` stored
    /// bytes; `None` where it is here. Must be called within a runtime.
    pub fn begin_chunks(&self, table: &[ChunkRef], index: usize, window: u64) -> Option<Coming> {
        let cache = self.repository.loader().cache();
        let begun = cache.begin(self.repository.store(), table, index, window);
        begun.map(Coming::Chunks)
    }

    /// Begins to fetch a file that is one blob ahead of its readers; `None`
    /// where it is known, or its key is not. Must be called within a runtime.
    pub fn begin_whole(&self, whole: &WholeBlob) -> Option<Coming> {
        let store = self.repository.store_of(whole).ok()?;
        let cache = self.repository.loader().cache();
        cache.begin_whole(store, whole).map(Coming::Whole)
    }

    /// Begins to fetch a piece of a file that is one blob again; `None` where
    /// it is here. Must be called within a runtime.
    pub fn begin_piece(&self, whole: &WholeBlob, pieces: &[ChunkRef], at: usize) -> Option<Coming> {
        let store = self.repository.store_of(whole).ok()?;
        let cache = self.repository.loader().cache();
        cache.begin(store, pieces, at, 0).map(Coming::Chunks)
    }

    /// The pieces of a file that is one blob, where they are known.
    pub fn pieces_of(&self, whole: &WholeBlob) -> Option<Arc<[ChunkRef]>> {
        let cache = self.repository.loader().cache();
        let store = self.repository.store_of(whole).ok()?;
        cache.known_whole(whole, store.at_rest())
    }

    /// Stored bytes that one request ahead of readers should ask for, by what
    /// the link is known to be.
    pub fn request_bytes(&self) -> u64 {
        cache::request_bytes(self.repository.store().as_ref())
    }

    /// Whether a file that is one blob has been fetched and proven before.
    pub fn knows(&self, whole: &WholeBlob) -> bool {
        self.pieces_of(whole).is_some()
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

/// What a file is stored in.
#[derive(Clone, Debug, Default)]
pub struct FileParts {
    /// Its content, in order; nothing for an inline one.
    pub content: Vec<ChunkRef>,
    /// The lists that lead there, where it has many.
    pub lists: Vec<ChunkRef>,
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

/// Something that is being fetched ahead of its readers. Dropped before it has
/// landed, it is called off, unless somebody else wants it.
#[derive(Debug)]
#[must_use = "a fetch that nobody holds is called off"]
pub enum Coming {
    /// Some chunks.
    Chunks(Underway<Bytes>),
    /// A blob that is a file.
    Whole(Underway<Arc<[ChunkRef]>>),
}

impl Coming {
    /// Waits for it.
    ///
    /// # Errors
    /// What kept it from being read.
    pub async fn landed(&self) -> Result<(), RepoError> {
        match self {
            Coming::Chunks(chunks) => chunks.landed().await?,
            Coming::Whole(whole) => whole.landed().await?,
        }
        Ok(())
    }
}

/// Where some bytes of a file are.
enum Located {
    Inline(Bytes),
    Chunks(Vec<Part>),
}

/// A chunk of a file.
struct Part {
    table: Table,
    index: usize,
    /// Bytes of the file that are in it.
    covers: ByteRange,
}

/// Where a chunk stands with its neighbours.
enum Table {
    Directory(Arc<Directory>),
    List(Arc<ChunkList>),
}

impl Table {
    fn chunks(&self) -> &[ChunkRef] {
        match self {
            Table::Directory(directory) => directory.chunks(),
            Table::List(list) => list.parts(),
        }
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
