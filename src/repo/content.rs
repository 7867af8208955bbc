//! Reads file content: locates the chunks of a range and assembles their bytes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::error::RepoError;
use super::snapshot::{Node, Snapshot};
use walgit_format::chunk::{ByteRange, ChunkRef, WholeBlob};
use walgit_format::{ChunkList, Content, Directory, Kind};
use walrus_client::BlobStore;

impl Snapshot {
    /// The bytes of `range` of a file, clamped to its end. Fetches up to `window`
    /// stored bytes of neighbours together with a missing chunk.
    ///
    /// # Errors
    /// [`RepoError::IsADirectory`], or an error reading a chunk.
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
            FileExtent::Inline(bytes) => return Ok(bytes),
            FileExtent::Chunks(located) => located,
        };
        let store = self.content_store(node)?;
        self.gather(store, &located, range, window).await
    }

    /// The bytes of `range` of a file stored as one blob, clamped to its end.
    ///
    /// # Errors
    /// Fails if the blob cannot be read or verified.
    pub async fn read_whole(
        &self,
        whole: &WholeBlob,
        range: ByteRange,
        window: u64,
    ) -> Result<Bytes, RepoError> {
        let range = range.intersect(ByteRange::new(0, whole.size));
        let store = self.repository.store_of(whole)?;
        let list = self.list_of(store, whole).await?;
        let located = self.locate_in(list, range).await?;
        self.gather(store, &located, range, window).await
    }

    /// The pieces of a file stored as one blob, as a list.
    async fn list_of(
        &self,
        store: &Arc<dyn BlobStore>,
        whole: &WholeBlob,
    ) -> Result<Arc<ChunkList>, RepoError> {
        let account = &self.repository.access().account;
        let loader = self.repository.loader();
        loader.whole(account, store, whole).await
    }

    /// Assembles the bytes of `range` from the chunks that cover it.
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
            pieces.push(part.covers, chunk.await?.slice(part.start as usize..));
        }
        Ok(pieces.finish())
    }

    /// The store of a file's content.
    pub(super) fn content_store(&self, node: &Node) -> Result<&Arc<dyn BlobStore>, RepoError> {
        match node.whole() {
            Some(whole) => self.repository.store_of(whole),
            None => Ok(self.repository.store()),
        }
    }

    /// The chunks that cover `range` of a file, or its bytes if they are inline in
    /// the node of its directory.
    pub(super) async fn locate(
        &self,
        node: &Node,
        range: ByteRange,
    ) -> Result<FileExtent, RepoError> {
        let located = node
            .entry()
            .filter(|_| matches!(node.kind, Kind::File { .. }));
        let (parent, entry) = located.ok_or(RepoError::IsADirectory)?;
        match &entry.content {
            Content::Inline(bytes) => {
                let part = range.start() as usize..range.end() as usize;
                Ok(FileExtent::Inline(bytes.slice(part)))
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
                            start: 0,
                        });
                    }
                }
                Ok(FileExtent::Chunks(located))
            }
            Content::List { index } => {
                let list = self
                    .list(parent.chunks(), *index as usize, node.size, None)
                    .await?;
                Ok(FileExtent::Chunks(self.locate_in(list, range).await?))
            }
            Content::Part { index, start } => Ok(FileExtent::Chunks(vec![Part {
                table: Table::Directory(parent.clone()),
                index: *index as usize,
                covers: ByteRange::new(0, entry.size),
                start: *start,
            }])),
            Content::Whole { index } => {
                let whole = &parent.wholes()[*index as usize];
                let store = self.repository.store_of(whole)?;
                let list = self.list_of(store, whole).await?;
                Ok(FileExtent::Chunks(self.locate_in(list, range).await?))
            }
            Content::Directory { .. } => Err(RepoError::IsADirectory),
        }
    }

    /// The chunks of `list` that cover `range`. Reads only the level-0 lists that the
    /// range needs.
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
                let level = Some(list.level() - 1);
                list = self.list(list.parts(), part, covers, level).await?;
                base += start;
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
                    start: 0,
                });
                at = covers.end();
                index += 1;
            }
        }
        Ok(located)
    }
}

/// Location of a byte range of a file.
pub(super) enum FileExtent {
    Inline(Bytes),
    Chunks(Vec<Part>),
}

/// A chunk of a file.
pub(super) struct Part {
    pub(super) table: Table,
    pub(super) index: usize,
    /// Bytes of the file that the chunk contains.
    covers: ByteRange,
    /// Their offset in the chunk.
    start: u32,
}

/// The table that lists a chunk and its neighbours.
pub(super) enum Table {
    Directory(Arc<Directory>),
    List(Arc<ChunkList>),
}

impl Table {
    pub(super) fn chunks(&self) -> &[ChunkRef] {
        match self {
            Table::Directory(directory) => directory.chunks(),
            Table::List(list) => list.parts(),
        }
    }
}

/// The pieces of a read; a single piece is returned without a copy.
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
