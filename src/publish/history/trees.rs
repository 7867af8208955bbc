//! Groups of trees and tags of a history.

use std::collections::HashMap;

use bytes::Bytes;
use gix::ObjectId;
use gix::objs::Kind;
use rayon::prelude::*;

use super::segment::SegmentBuilder;
use super::walk::{FoundTree, HistoryObjects};
use crate::publish::error::PublishError;
use crate::publish::git_objects::{failed, malformed_tree, read_as};
use walgit_format::archive::{
    Group, StoredEntry, TreeTarget, encode_group, encode_tree, parse_tree,
};
use walgit_format::chunk::{Bases, ChunkHash, encode_chunk};

/// Maximum plain bytes of a group.
const MAX_GROUP_BYTES: usize = 4 << 20;
/// Number of trees to read concurrently.
const BATCH_TREES: usize = 4096;

/// Stores the trees that were found.
pub(super) fn store_trees(
    builder: &mut SegmentBuilder<'_>,
    found: &HistoryObjects,
    numbers: &HashMap<ObjectId, u64>,
) -> Result<(), PublishError> {
    let shared = builder.repo.clone().into_sync();
    let mut pending: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    for batch in found.trees.chunks(BATCH_TREES) {
        let encoded: Vec<Vec<u8>> = (batch.par_iter())
            .map_init(
                || shared.to_thread_local(),
                |repo, tree| encode(repo, tree, numbers),
            )
            .collect::<Result<_, _>>()?;
        for tree in encoded {
            if bytes > 0 && bytes + tree.len() > MAX_GROUP_BYTES {
                let group = store_group(builder, &std::mem::take(&mut pending))?;
                builder.segment.trees.push(group);
                bytes = 0;
            }
            bytes += tree.len();
            pending.push(tree);
        }
    }
    if !pending.is_empty() {
        let group = store_group(builder, &pending)?;
        builder.segment.trees.push(group);
    }
    Ok(())
}

/// The stored form of a tree.
fn encode(
    repo: &gix::Repository,
    tree: &FoundTree,
    numbers: &HashMap<ObjectId, u64>,
) -> Result<Vec<u8>, PublishError> {
    let bytes = read_as(repo, tree.id, Kind::Tree)?;
    let malformed = || malformed_tree(repo, tree.id);
    let mut entries = Vec::new();
    for entry in parse_tree(&bytes, repo.object_hash().len_in_bytes()) {
        let entry = entry.ok_or_else(malformed)?;
        let id = ObjectId::from_bytes_or_panic(entry.id);
        let target = if entry.is_submodule() {
            TreeTarget::Id(Bytes::copy_from_slice(entry.id))
        } else {
            TreeTarget::Number(*numbers.get(&id).ok_or_else(malformed)?)
        };
        entries.push(StoredEntry {
            mode: Bytes::copy_from_slice(entry.mode),
            name: Bytes::copy_from_slice(entry.name),
            target,
        });
    }
    encode_tree(&entries)
        .map_err(|why| failed(repo, format!("tree {} cannot be published: {why}", tree.id)))
}

/// Stores annotated tags.
pub(super) fn store_tags(
    builder: &mut SegmentBuilder<'_>,
    tags: &[ObjectId],
) -> Result<(), PublishError> {
    if tags.is_empty() {
        return Ok(());
    }
    let raw: Vec<Vec<u8>> = (tags.iter())
        .map(|id| read_as(&builder.repo, *id, Kind::Tag))
        .collect::<Result<_, _>>()?;
    let group = store_group(builder, &raw)?;
    builder.segment.tags.push(group.chunk);
    Ok(())
}

fn store_group(
    builder: &mut SegmentBuilder<'_>,
    objects: &[Vec<u8>],
) -> Result<Group, PublishError> {
    let raw = encode_group(objects).map_err(PublishError::encode("a group of git objects"))?;
    let sealed = encode_chunk(&raw, builder.compression.history_level());
    let chunk = builder.push_chunk(ChunkHash::of(&raw), raw.len(), (sealed, Bases::NONE))?;
    let count = objects.len() as u64;
    builder.report_done(count);
    Ok(Group { chunk, count })
}
