//! Conversion of contents and trees of an archive to git objects with computed IDs.
//! `fsck` does the same without writing a pack.

use std::future::Future;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use gix::ObjectId;
use gix::objs::Kind;
use rayon::prelude::*;
use tokio_util::task::AbortOnDropHandle;

use super::error::ExportError;
use super::object_table::ObjectTable;
use super::pack::{self, PackWriter, Packed, Packer};
use crate::repo::RepoError;
use crate::repo::archive::Archive;
use walgit_format::MalformedNode;
use walgit_format::archive::{
    ChunkRun, Group, Objects, Segment, StoredEntry, TreeTarget, decode_group, decode_tree, raw_tree,
};
use walgit_format::chunk::ChunkHash;

/// Groups, or chunked contents, that are fetched, hashed and compressed concurrently;
/// they determine the memory use.
const CONCURRENCY: usize = 6;
/// Chunked contents up to this length in bytes are assembled in memory; longer ones are
/// streamed chunk by chunk.
const MAX_ASSEMBLED_CONTENT: u64 = 4 << 20;
/// Bytes of trees in git format that are compressed together.
const TREE_BATCH_BYTES: usize = 16 << 20;

/// Returns the plain bytes of the contents and trees of an archive.
pub(super) fn plain_bytes(archive: &Archive) -> u64 {
    let segment_bytes = |segment: &Arc<Segment>| {
        let trees = segment.trees.iter().map(|group| group.chunk);
        let groups = trees.chain(segment.contents.iter().map(|group| group.chunk));
        let grouped = groups.map(|chunk| u64::from(segment.chunks[chunk].raw_len));
        let chunked = segment.files.iter().map(|run| len(segment, *run));
        grouped.chain(chunked).fold(0, u64::saturating_add)
    };
    let segments = archive.segments().iter().map(segment_bytes);
    segments.fold(0, u64::saturating_add)
}

/// Reports the bytes that are done, and the total.
struct ExportProgress<'a> {
    report: &'a (dyn Fn(u64, u64) + Sync),
    done: u64,
    total: u64,
}

impl ExportProgress<'_> {
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        (self.report)(self.done, self.total);
    }
}

/// An archive that is being written as a pack.
struct Unpacking<'a> {
    archive: Arc<Archive>,
    hash: gix::hash::Kind,
    pack: &'a mut PackWriter,
    done: Unpacked,
    progress: ExportProgress<'a>,
}

/// Summary of a converted archive.
pub(super) struct Unpacked {
    pub(super) objects: ObjectTable,
    /// Distinct trees.
    pub(super) trees: u64,
    /// Distinct contents.
    pub(super) contents: u64,
}

/// Writes all contents and trees of an archive to a pack. Reports how many of their bytes
/// are done.
pub(super) async fn unpack(
    archive: &Arc<Archive>,
    hash: gix::hash::Kind,
    pack: &mut PackWriter,
    report: &(dyn Fn(u64, u64) + Sync),
) -> Result<Unpacked, ExportError> {
    let mut unpacking = Unpacking {
        archive: archive.clone(),
        hash,
        pack,
        done: Unpacked {
            objects: ObjectTable::new(hash.len_in_bytes()),
            trees: 0,
            contents: 0,
        },
        progress: ExportProgress {
            report,
            done: 0,
            total: plain_bytes(archive),
        },
    };
    for segment in archive.segments() {
        unpacking.segment(segment).await?;
    }
    Ok(unpacking.done)
}

/// A chunked content.
enum ChunkedContent {
    Assembled(Packed, u64),
    Streamed(ChunkRun),
}

impl Unpacking<'_> {
    /// Writes everything in a segment except tags. Segments must come in order: a tree
    /// refers to its own segment or earlier ones.
    async fn segment(&mut self, segment: &Arc<Segment>) -> Result<(), ExportError> {
        self.done.objects.begin(segment);
        self.grouped_contents(segment).await?;
        self.chunked_contents(segment).await?;
        self.trees(segment).await
    }

    fn add_content(&mut self, content: &Packed) -> Result<(), ExportError> {
        self.done.objects.add_content(content.id.as_slice());
        self.done.contents += u64::from(self.pack.add(content)?);
        Ok(())
    }

    async fn grouped_contents(&mut self, segment: &Arc<Segment>) -> Result<(), ExportError> {
        let packing = self.pack.packing();
        let archive = self.archive.clone();
        let groups = (0..segment.contents.len()).map(|at| {
            let (archive, segment) = (archive.clone(), segment.clone());
            async move {
                let group = &segment.contents[at];
                let raw = archive.chunk(&segment.chunks, group.chunk).await?;
                let segment = segment.clone();
                blocking(move || {
                    let mut packer = Packer::new(packing);
                    let group = &segment.contents[at];
                    let parts = (0..group.ends.len()).map(|at| {
                        let part = group.part(at).unwrap_or_default();
                        packer.pack(Kind::Blob, &raw[part.start as usize..part.end as usize])
                    });
                    Ok((parts.collect::<Result<Vec<_>, _>>()?, raw.len() as u64))
                })
                .await
            }
        });
        let mut ready = run_concurrently(groups);
        while let Some((contents, len)) = ready.try_next().await? {
            for content in &contents {
                self.add_content(content)?;
            }
            self.progress.advance(len);
        }
        Ok(())
    }

    async fn chunked_contents(&mut self, segment: &Arc<Segment>) -> Result<(), ExportError> {
        let (packing, archive) = (self.pack.packing(), self.archive.clone());
        let files = (0..segment.files.len()).map(|at| {
            let (archive, segment) = (archive.clone(), segment.clone());
            async move {
                let run = segment.files[at];
                let len = len(&segment, run);
                if len > MAX_ASSEMBLED_CONTENT {
                    return Ok(ChunkedContent::Streamed(run));
                }
                let mut whole = BytesMut::with_capacity(len as usize);
                for index in run.first..run.first + run.count {
                    whole.extend_from_slice(&archive.chunk(&segment.chunks, index).await?);
                }
                blocking(move || {
                    let packed = Packer::new(packing).pack(Kind::Blob, &whole)?;
                    Ok(ChunkedContent::Assembled(packed, len))
                })
                .await
            }
        });
        let mut ready = run_concurrently(files);
        while let Some(whole) = ready.try_next().await? {
            match whole {
                ChunkedContent::Assembled(content, len) => {
                    self.add_content(&content)?;
                    self.progress.advance(len);
                }
                ChunkedContent::Streamed(run) => self.streamed(segment, run).await?,
            }
        }
        Ok(())
    }

    /// Streams a large content.
    async fn streamed(&mut self, segment: &Arc<Segment>, run: ChunkRun) -> Result<(), ExportError> {
        let chunks = (run.first..run.first + run.count).map(|index| {
            let (archive, segment) = (self.archive.clone(), segment.clone());
            async move { Ok(archive.chunk(&segment.chunks, index).await?) }
        });
        let mut ready = run_concurrently(chunks);
        let path = self.pack.path().to_owned();
        let mut content = self.pack.begin(Kind::Blob, len(segment, run))?;
        while let Some(chunk) = ready.try_next().await? {
            content.write(&chunk).map_err(ExportError::io(&path))?;
            self.progress.advance(chunk.len() as u64);
        }
        let (id, new) = content.finish()?;
        self.done.objects.add_content(id.as_slice());
        self.done.contents += u64::from(new);
        Ok(())
    }

    async fn trees(&mut self, segment: &Arc<Segment>) -> Result<(), ExportError> {
        let archive = self.archive.clone();
        let groups = (0..segment.trees.len()).map(|at| {
            let (archive, segment) = (archive.clone(), segment.clone());
            async move {
                let group = segment.trees[at];
                let trees = tree_group(&archive, &segment, group).await?;
                Ok((trees, segment.chunks[group.chunk].clone()))
            }
        });
        let mut ready = run_concurrently(groups);
        let mut number = segment.before;
        while let Some((trees, chunk)) = ready.try_next().await? {
            let (len, chunk) = (u64::from(chunk.raw_len), chunk.hash);
            // In order: a tree contains the IDs of earlier ones.
            let (mut new, mut bytes) = (Vec::new(), 0);
            for raw in trees.iter() {
                let tree = decode_tree(&raw).map_err(malformed(chunk))?;
                let checked = check_tree(&self.archive, segment, self.hash, number, &tree);
                checked.map_err(malformed(chunk))?;
                number += 1;
                let objects = &mut self.done.objects;
                let raw = raw_tree(&tree, |number| objects.id(number)).map_err(malformed(chunk))?;
                let id = pack::id(self.hash, Kind::Tree, &raw)?;
                let size = objects.size_of(&tree, &self.archive)?;
                objects.add_tree(id.as_slice(), size);
                if !self.pack.holds(&id) {
                    bytes += raw.len();
                    new.push((id, raw));
                }
                if bytes > TREE_BATCH_BYTES {
                    self.pack_trees(&std::mem::take(&mut new))?;
                    bytes = 0;
                }
            }
            self.pack_trees(&new)?;
            self.progress.advance(len);
        }
        Ok(())
    }

    fn pack_trees(&mut self, trees: &[(ObjectId, Vec<u8>)]) -> Result<(), ExportError> {
        let packing = self.pack.packing();
        let packed = (trees.par_iter()).map_init(
            || Packer::new(packing),
            |packer, (id, raw)| packer.pack_as(*id, Kind::Tree, raw),
        );
        for tree in packed.collect::<Result<Vec<_>, _>>()? {
            self.done.trees += u64::from(self.pack.add(&tree)?);
        }
        Ok(())
    }
}

/// Decodes the trees of a group.
async fn tree_group(
    archive: &Archive,
    segment: &Segment,
    group: Group,
) -> Result<Objects, ExportError> {
    let raw = archive.chunk(&segment.chunks, group.chunk).await?;
    let chunk = segment.chunks[group.chunk].hash;
    blocking(move || {
        let trees = decode_group(&raw).map_err(malformed(chunk))?;
        if trees.len() as u64 == group.count {
            Ok(trees)
        } else {
            Err(malformed(chunk)(MalformedNode::Sum("trees of a group")))
        }
    })
    .await
}

/// Whether the history holds everything that a tree refers to: earlier trees, and
/// contents of its segment or earlier ones. Only commits of other repositories are
/// referred to by ID.
fn check_tree(
    archive: &Archive,
    segment: &Segment,
    hash: gix::hash::Kind,
    number: u64,
    tree: &[StoredEntry],
) -> Result<(), MalformedNode> {
    let end = segment.before.saturating_add(segment.count());
    let fits = |entry: &StoredEntry| match &entry.target {
        TreeTarget::Id(id) => {
            id.len() == hash.len_in_bytes() && entry.kind() == Some(walgit_format::Kind::Submodule)
        }
        TreeTarget::Number(below) if entry.is_tree() => {
            *below < number && archive.holds_tree(*below)
        }
        TreeTarget::Number(below) => *below < end && archive.holds_content(*below),
    };
    let missing = MalformedNode::Sum("entries that are not stored");
    tree.iter().all(fits).then_some(()).ok_or(missing)
}

/// Decodes all trees of a segment, and reports for each group, in order, whether its
/// trees are decodable and refer only to objects of the history.
pub(crate) async fn check_trees(
    archive: &Arc<Archive>,
    segment: &Arc<Segment>,
    hash: gix::hash::Kind,
    mut report: impl FnMut(Group, Result<(), ExportError>),
) {
    let mut first = segment.before;
    let groups = (0..segment.trees.len()).map(|at| {
        let (archive, segment) = (archive.clone(), segment.clone());
        let group = segment.trees[at];
        let start = first;
        first = first.saturating_add(group.count);
        async move {
            let trees = tree_group(&archive, &segment, group).await?;
            blocking(move || {
                let chunk = segment.chunks[group.chunk].hash;
                for (number, raw) in (start..).zip(trees.iter()) {
                    decode_tree(&raw)
                        .and_then(|tree| check_tree(&archive, &segment, hash, number, &tree))
                        .map_err(malformed(chunk))?;
                }
                Ok(())
            })
            .await
        }
    });
    let mut checked = std::pin::pin!(run_concurrently(groups).enumerate());
    while let Some((at, checked)) = checked.next().await {
        report(segment.trees[at], checked);
    }
}

/// Returns the length of a chunked content in bytes.
fn len(segment: &Segment, run: ChunkRun) -> u64 {
    let chunks = &segment.chunks[run.first..run.first + run.count];
    chunks.iter().map(|chunk| u64::from(chunk.raw_len)).sum()
}

/// Decodes the objects of a group of tags.
pub(super) async fn tags(
    archive: &Archive,
    segment: &Segment,
    chunk: usize,
) -> Result<Vec<Bytes>, ExportError> {
    let raw = archive.chunk(&segment.chunks, chunk).await?;
    let group = decode_group(&raw).map_err(malformed(segment.chunks[chunk].hash))?;
    Ok(group.iter().collect())
}

fn malformed(hash: ChunkHash) -> impl FnOnce(MalformedNode) -> ExportError {
    move |why| {
        ExportError::Repo(RepoError::Malformed {
            what: "history",
            hash,
            why,
        })
    }
}

/// Runs these tasks on all cores, ahead of the consumer, which receives the results in
/// order.
fn run_concurrently<'a, T, F>(
    work: impl Iterator<Item = F> + Send + 'a,
) -> BoxStream<'a, Result<T, ExportError>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ExportError>> + Send + 'static,
{
    let tasks = work.map(|work| {
        let task = AbortOnDropHandle::new(tokio::spawn(work));
        async move { task.await.map_err(|_| ExportError::Interrupted)? }
    });
    // Boxed, because the compiler cannot prove that the type of the closure is `Send`.
    futures_util::stream::iter(tasks)
        .buffered(CONCURRENCY)
        .boxed()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExportError> + Send + 'static,
) -> Result<T, ExportError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ExportError::Interrupted)?
}
