//! Nodes that no publisher would write, encoded according to `contrib/FORMAT.md` and
//! with correct hashes: what a hostile author can produce.

use std::path::Path;

use bytes::Bytes;
use walgit_format::blob::BlobBuilder;
use walgit_format::chunk::Codec;
use walgit_format::{PlannedChunk, PlannedLocation};
use walrus_client::{BlobWriter as _, LocalDir, PutOptions};
use walrus_encoding::blob_id::blob_id;

/// Appends primitives of the format to a buffer.
pub(crate) trait EncodeFields {
    fn uint(&mut self, value: u64) -> &mut Self;
    fn sint(&mut self, value: i64) -> &mut Self;
    fn string(&mut self, bytes: &[u8]) -> &mut Self;
    fn raw(&mut self, bytes: &[u8]) -> &mut Self;
}

impl EncodeFields for Vec<u8> {
    fn uint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
        self
    }

    fn sint(&mut self, value: i64) -> &mut Self {
        self.uint(((value << 1) ^ (value >> 63)) as u64)
    }

    fn string(&mut self, bytes: &[u8]) -> &mut Self {
        self.uint(bytes.len() as u64).raw(bytes)
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.extend_from_slice(bytes);
        self
    }
}

/// A chunk table of a node that ends at `end`, of chunks without bases, each repeated a
/// number of times.
pub(crate) fn chunk_table(chunks: &[(&PlannedChunk, usize)], end: i64) -> Vec<u8> {
    let count: usize = chunks.iter().map(|(_, times)| times).sum();
    let mut out = Vec::new();
    out.uint(0).uint(count as u64);
    let mut follows = 0;
    for (chunk, times) in chunks {
        let PlannedLocation::Local(at) = chunk.location else {
            panic!("chunks of the same blob alone");
        };
        let start = at - end;
        for _ in 0..*times {
            out.push(chunk.codec as u8);
            out.uint(0).sint(start - follows);
            out.uint(u64::from(chunk.stored_len));
            if chunk.codec != Codec::Raw {
                out.uint(u64::from(chunk.raw_len));
            }
            out.raw(chunk.hash.as_bytes());
            follows = start + i64::from(chunk.stored_len);
        }
    }
    out
}

/// Stores bytes as data, compressed.
pub(crate) fn push_data(builder: &mut BlobBuilder, raw: &[u8]) -> PlannedChunk {
    let sealed = walgit_format::chunk::encode_chunk(raw, 3);
    PlannedChunk::encoded(raw, &sealed, builder.push_data(&sealed.bytes))
}

/// A directory of these encoded entries.
pub(crate) fn directory(table: &[u8], entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![b'D', 1];
    out.raw(table).uint(entries.len() as u64);
    entries.iter().for_each(|entry| _ = out.raw(entry));
    out
}

/// A file with inline content.
pub(crate) fn inline_file(name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.string(name).raw(&[0]).uint(content.len() as u64);
    out.uint(0).string(content);
    out
}

/// A file that is a run of chunks.
pub(crate) fn chunked_file(name: &[u8], size: u64, first: u64, count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.string(name).raw(&[0]).uint(size).uint(count + 2);
    if count > 0 {
        out.uint(first);
    }
    out
}

/// A subdirectory.
pub(crate) fn subdirectory(name: &[u8], node: u64, nodes: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.string(name).raw(&[3]).uint(0).uint(node).uint(nodes);
    out
}

/// A commit of a head.
pub(crate) fn commit(id: &[u8], root: u64, nodes: u64, bytes: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.string(id).uint(root).uint(nodes).uint(bytes);
    for _ in 0..2 {
        out.string(b"A <a@b>").sint(1).sint(0);
    }
    out.string(b"m").uint(0);
    out
}

/// A head: its table, encoded commits, branches, and attachments (kind, first, count).
pub(crate) fn head(
    table: &[u8],
    commits: &[Vec<u8>],
    branches: &[Vec<u8>],
    attachments: &[(u64, u64, u64)],
) -> Vec<u8> {
    let mut out = vec![b'H', 1];
    out.raw(table).string(b"main").uint(commits.len() as u64);
    commits.iter().for_each(|commit| _ = out.raw(commit));
    out.uint(branches.len() as u64);
    for name in branches {
        out.raw(&[1]).string(name).uint(0);
    }
    out.uint(attachments.len() as u64);
    for &(kind, first, count) in attachments {
        out.uint(kind).uint(first).uint(count);
    }
    out.uint(0);
    out
}

/// Content of a segment of a history: its lists, encoded with their counts.
pub(crate) struct Segment {
    pub(crate) trees: Vec<u8>,
    pub(crate) contents: Vec<u8>,
    pub(crate) files: Vec<u8>,
    pub(crate) tags: Vec<u8>,
    pub(crate) commits: Vec<u8>,
    pub(crate) refs: Vec<u8>,
    pub(crate) shallow: Vec<u8>,
}

impl Default for Segment {
    fn default() -> Self {
        let none = || vec![0];
        Segment {
            trees: none(),
            contents: none(),
            files: none(),
            tags: none(),
            commits: none(),
            refs: none(),
            shallow: none(),
        }
    }
}

impl Segment {
    pub(crate) fn encode(&self, table: &[u8]) -> Vec<u8> {
        let mut out = vec![b'A', 1];
        out.raw(table).uint(0);
        out.raw(&self.trees).raw(&self.contents).raw(&self.files);
        out.raw(&self.tags).raw(&self.commits).raw(&self.refs);
        out.string(b"").raw(&self.shallow);
        out
    }
}

/// A group of objects.
pub(crate) fn group(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![b'G', 1];
    out.uint(objects.len() as u64);
    objects.iter().for_each(|it| _ = out.uint(it.len() as u64));
    objects.iter().for_each(|it| _ = out.raw(it));
    out
}

/// The git ID of an object.
pub(crate) fn git_id(kind: gix::objs::Kind, raw: &[u8]) -> Vec<u8> {
    let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, raw).unwrap();
    id.as_slice().to_vec()
}

/// A raw commit of a tree.
pub(crate) fn raw_commit(tree: &[u8], message: &str) -> Vec<u8> {
    let tree: String = tree.iter().map(|byte| format!("{byte:02x}")).collect();
    let person = "A <a@b> 1 +0000";
    format!("tree {tree}\nauthor {person}\ncommitter {person}\n\n{message}\n").into_bytes()
}

/// Stores a repository with a history: `segment` and its table are that of the archive,
/// `commits` is a chunk of raw commits, `id` the mounted commit, of `nodes` nodes.
pub(crate) fn store_with_history(
    state: &Path,
    mut builder: BlobBuilder,
    segment: &Segment,
    chunks: &[(&PlannedChunk, usize)],
    commits: &PlannedChunk,
    id: &[u8],
    nodes: u64,
) -> String {
    let segment = segment.encode(&chunk_table(chunks, builder.next_node_end()));
    let segment = builder.push_node(&segment);
    let empty = chunk_table(&[], builder.next_node_end());
    let entries: Vec<_> = (1..nodes)
        .map(|n| inline_file(format!("{n:06}").as_bytes(), b"hello"))
        .collect();
    let root = builder.push_node(&directory(&empty, &entries));
    let end = builder.next_node_end();
    let table = chunk_table(&[(&root, 1), (&segment, 1), (commits, 1)], end);
    let commit = commit(id, 0, nodes, 5);
    let raw = head(
        &table,
        &[commit],
        &[b"main".to_vec()],
        &[(7, 1, 1), (1, 2, 1)],
    );
    store_head(state, builder, &raw)
}

/// Stores the repository with this head in the local network of the user whose state is
/// in `state`; returns its address.
pub(crate) fn store_head(state: &Path, mut builder: BlobBuilder, head: &[u8]) -> String {
    let head = builder.push_node(head);
    let blob = Bytes::from(builder.finish_with_head(&head).unwrap());
    let id = put_blob(state, blob);
    format!("walrus://{id}?root={}", head.hash)
}

/// Stores a blob; returns its ID.
pub(crate) fn put_blob(state: &Path, blob: Bytes) -> walgit_format::chunk::BlobId {
    let id = blob_id(&blob).unwrap();
    let local = LocalDir::open(&state.join("data/walgit-fs/local"), 1 << 30).unwrap();
    super::block_on(local.put(id, blob, &PutOptions::default())).unwrap();
    id
}
