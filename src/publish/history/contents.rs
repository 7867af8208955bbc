//! File contents of a history, in solid groups or as chunks.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::objs::Kind;
use rayon::prelude::*;

use super::segment::SegmentBuilder;
use super::walk::{FoundContent, HistoryObjects};
use crate::publish::batch::split_by_size;
use crate::publish::chunking::split;
use crate::publish::compress::Encoded;
use crate::publish::error::PublishError;
use crate::publish::git_objects::{blob_len, failed, read_as};
use crate::publish::pending_chunk::{PendingChunk, chunk_len};
use crate::publish::plan::ContentPlan;
use walgit_format::archive::ContentGroup;
use walgit_format::chunk::{
    Bases, ChunkHash, Codec, MAX_BASE_BYTES, MAX_BASES, encode_chunk, encode_patch,
};
use walgit_format::head::GitId;

/// Maximum plain bytes of a group: nearby versions of a file compress to almost nothing. A
/// reader decodes at most this much per content, and the memory cache retains it.
const MAX_GROUP_BYTES: usize = 8 << 20;
/// Larger contents are stored as separate chunks.
const MAX_GROUPED_CONTENT: u64 = 1 << 20;
/// Number of groups that are encoded concurrently.
const GROUP_CONCURRENCY: usize = 4;
/// A patch must save at least this fraction (as a divisor) of the group; otherwise fetching
/// its bases does not pay.
const MIN_PATCH_SAVING: usize = 20;

/// A content of a group, and its size in bytes.
type SizedContent = (FoundContent, u64);
/// A possible base: its git ID and its chunk.
type BaseCandidate = (ObjectId, PendingChunk);

/// Stores the found contents and numbers them from `first`.
pub(super) fn store_contents(
    builder: &mut SegmentBuilder<'_>,
    found: &HistoryObjects,
    numbers: &mut HashMap<ObjectId, u64>,
    first: u64,
) -> Result<(), PublishError> {
    let published = PublishedContents::of(builder);
    let mut grouped: Vec<SizedContent> = Vec::new();
    // Contents outside of groups; with their chunks, unless these have to be stored.
    let mut separate: Vec<(FoundContent, Option<Vec<PendingChunk>>)> = Vec::new();
    for content in &found.contents {
        if let Some(chunks) = published.chunks(builder, content.id) {
            separate.push((*content, Some(chunks)));
            continue;
        }
        match blob_len(&builder.repo, content.id)? {
            0 => separate.push((*content, Some(Vec::new()))),
            len if len <= MAX_GROUPED_CONTENT => grouped.push((*content, len)),
            _ => separate.push((*content, None)),
        }
    }
    let in_order = grouped.iter().map(|(content, _)| content.id);
    let in_order = in_order.chain(separate.iter().map(|(content, _)| content.id));
    numbers.extend(in_order.zip(first..));
    store_groups(builder, found, &published, &grouped)?;
    for (content, chunks) in separate {
        let chunks = match chunks {
            Some(chunks) => chunks,
            None => store_chunks(builder, found, &content)?,
        };
        builder.push_file(chunks);
    }
    Ok(())
}

/// Content of the published trees, by git ID.
struct PublishedContents<'a> {
    contents: HashMap<&'a [u8], &'a ContentPlan>,
    /// Root tree of the first commit.
    root: Option<ObjectId>,
}

impl<'a> PublishedContents<'a> {
    fn of(builder: &SegmentBuilder<'a>) -> Self {
        let entries = builder.plan.directories.iter().flat_map(|it| &it.entries);
        let contents =
            entries.filter_map(|entry| Some((&entry.git.as_ref()?.0[..], &entry.content)));
        let tip = builder.plan.commits.first().map(|commit| commit.id.git());
        let mut commits = builder.history.commits.iter().rev();
        let newest = tip.and_then(|tip| commits.find(|commit| commit.id.as_slice() == &tip.0[..]));
        PublishedContents {
            contents: contents.collect(),
            root: newest.map(|commit| commit.tree),
        }
    }

    /// The chunks of a content that the trees store as chunks.
    fn chunks(&self, builder: &SegmentBuilder<'_>, id: ObjectId) -> Option<Vec<PendingChunk>> {
        let stored = || {
            let (_, content) = builder.previous.files.get(&GitId(id.as_slice().to_vec()))?;
            Some(content)
        };
        match self.contents.get(id.as_slice()).copied().or_else(stored)? {
            ContentPlan::Chunks(chunks) if !chunks.is_empty() => Some(chunks.clone()),
            ContentPlan::List(list) => builder.previous.listed.get(&list.hash).cloned(),
            _ => None,
        }
    }

    /// The newest tree's file at a path, if it is a single chunk that is not a patch.
    fn base(&self, builder: &SegmentBuilder<'_>, path: &[u8]) -> Option<BaseCandidate> {
        let tree = builder.repo.find_tree(self.root?).ok()?;
        let path: &Path = path.to_path().ok()?;
        let id = tree.lookup_entry_by_path(path).ok()??.object_id();
        let mut chunks = self.chunks(builder, id)?;
        let chunk = chunks.pop().filter(|_| chunks.is_empty())?;
        (chunk.codec != Codec::Patch).then_some((id, chunk))
    }

    /// Possible bases of a group: the newest tree's files at its paths.
    fn bases(
        &self,
        builder: &SegmentBuilder<'_>,
        found: &HistoryObjects,
        group: &[SizedContent],
    ) -> Vec<BaseCandidate> {
        let mut bases: Vec<BaseCandidate> = Vec::new();
        let (mut seen, mut bytes) = (HashSet::new(), 0);
        let mut path = None;
        for (content, _) in group {
            if path.replace(content.path) == Some(content.path) {
                continue;
            }
            let base = self.base(builder, &found.paths[content.path as usize]);
            let Some((id, chunk)) = base else {
                continue;
            };
            let len = u64::from(chunk.raw_len);
            if bases.len() == MAX_BASES || bytes + len > MAX_BASE_BYTES {
                break;
            }
            if seen.insert(chunk.hash) {
                bytes += len;
                bases.push((id, chunk));
            }
        }
        bases
    }
}

/// A group that is ready to be stored.
struct EncodedGroup {
    hash: ChunkHash,
    ends: Vec<u32>,
    encoded: Encoded,
}

fn store_groups(
    builder: &mut SegmentBuilder<'_>,
    found: &HistoryObjects,
    published: &PublishedContents<'_>,
    contents: &[SizedContent],
) -> Result<(), PublishError> {
    let groups: Vec<&[SizedContent]> =
        split_by_size(contents, usize::MAX, MAX_GROUP_BYTES, |(_, len)| {
            *len as usize
        })
        .collect();
    let shared = builder.repo.clone().into_sync();
    let level = builder.compression.history_level();
    for batch in groups.chunks(GROUP_CONCURRENCY) {
        let bases: Vec<Vec<BaseCandidate>> = (batch.iter())
            .map(|group| published.bases(builder, found, group))
            .collect();
        let encoded: Vec<EncodedGroup> = (batch.par_iter().zip(bases))
            .map_init(
                || shared.to_thread_local(),
                |repo, (group, bases)| encode_group(repo, group, bases, level),
            )
            .collect::<Result<_, _>>()?;
        for EncodedGroup {
            hash,
            ends,
            encoded,
        } in encoded
        {
            let (count, len) = (ends.len() as u64, ends.last().copied().unwrap_or(0));
            let chunk = builder.push_chunk(hash, len as usize, encoded)?;
            builder.segment.contents.push(ContentGroup { chunk, ends });
            builder.report_done(count);
        }
    }
    Ok(())
}

/// Encodes a group, as a patch against its bases if that pays.
fn encode_group(
    repo: &gix::Repository,
    group: &[SizedContent],
    bases: Vec<BaseCandidate>,
    level: i32,
) -> Result<EncodedGroup, PublishError> {
    let mut bytes = Vec::with_capacity(group.iter().map(|(_, len)| *len as usize).sum());
    let mut ends = Vec::with_capacity(group.len());
    for (content, len) in group {
        let content_bytes = read_as(repo, content.id, Kind::Blob)?;
        if content_bytes.len() as u64 != *len {
            return Err(failed(repo, format!("object {} changed", content.id)));
        }
        bytes.extend_from_slice(&content_bytes);
        ends.push(chunk_len(bytes.len())?);
    }
    let standalone = encode_chunk(&bytes, level);
    let raw_bases: Vec<Vec<u8>> = (bases.iter())
        .map(|(id, _)| read_as(repo, *id, Kind::Blob))
        .collect::<Result<_, _>>()?;
    let parts: Vec<&[u8]> = raw_bases.iter().map(|base| &base[..]).collect();
    let patch = (!parts.is_empty()).then(|| encode_patch(&bytes, &parts, level));
    let max_patch = standalone.bytes.len() - standalone.bytes.len() / MIN_PATCH_SAVING;
    let encoded = match patch
        .flatten()
        .filter(|patch| patch.bytes.len() < max_patch)
    {
        Some(patch) => {
            let bases: Vec<PendingChunk> = bases.into_iter().map(|(_, chunk)| chunk).collect();
            (patch, bases.into())
        }
        None => (standalone, Bases::NONE),
    };
    let hash = ChunkHash::of(&bytes);
    Ok(EncodedGroup {
        hash,
        ends,
        encoded,
    })
}

/// Cuts a large content into content-defined chunks, so that versions share them.
fn store_chunks(
    builder: &mut SegmentBuilder<'_>,
    found: &HistoryObjects,
    content: &FoundContent,
) -> Result<Vec<PendingChunk>, PublishError> {
    let bytes: Bytes = read_as(&builder.repo, content.id, Kind::Blob)?.into();
    let path = &found.paths[content.path as usize];
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let codec = builder.compression.file_codec(name, &bytes);
    let chunks = split(&bytes);
    let packs = &*builder.packs;
    let encoded: Vec<(ChunkHash, Option<Encoded>)> = (chunks.par_iter())
        .map(|chunk| {
            let hash = ChunkHash::of(chunk);
            let new = packs.find(&hash).is_none();
            (hash, new.then(|| codec.encode(chunk)))
        })
        .collect();
    // A chunk may occur twice.
    let chunks = chunks.iter().zip(encoded);
    chunks
        .map(|(chunk, (hash, encoded))| builder.store(hash, chunk.len(), encoded))
        .collect()
}
