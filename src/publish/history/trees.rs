//! Groups of trees and tags of a history.

use std::collections::HashMap;

use bytes::Bytes;
use gix::ObjectId;
use gix::objs::Kind;
use rayon::prelude::*;

use super::super::PublishError;
use super::super::objects::{failed, read_as};
use super::Desk;
use super::walk::{Found, TreeFound};
use walgit_format::archive::{Group, StoredEntry, Target, encode_group, encode_tree, parse_tree};
use walgit_format::chunk::{Bases, ChunkHash, seal};

/// Plain bytes of a group.
const GROUP: usize = 4 << 20;
/// Number of trees to read concurrently.
const BATCH: usize = 4096;

/// Places the trees that were found.
pub(super) fn place(
    desk: &mut Desk<'_>,
    repo: &gix::Repository,
    found: &Found,
    numbers: &HashMap<ObjectId, u64>,
) -> Result<(), PublishError> {
    let shared = repo.clone().into_sync();
    let mut pending: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    for batch in found.trees.chunks(BATCH) {
        let encoded: Vec<Vec<u8>> = (batch.par_iter())
            .map_init(
                || shared.to_thread_local(),
                |repo, tree| stored(repo, tree, numbers),
            )
            .collect::<Result<_, _>>()?;
        for tree in encoded {
            if bytes > 0 && bytes + tree.len() > GROUP {
                let group = group(desk, &std::mem::take(&mut pending))?;
                desk.segment.trees.push(group);
                bytes = 0;
            }
            bytes += tree.len();
            pending.push(tree);
        }
    }
    if !pending.is_empty() {
        let group = group(desk, &pending)?;
        desk.segment.trees.push(group);
    }
    Ok(())
}

/// The stored form of a tree.
fn stored(
    repo: &gix::Repository,
    tree: &TreeFound,
    numbers: &HashMap<ObjectId, u64>,
) -> Result<Vec<u8>, PublishError> {
    let bytes = read_as(repo, tree.id, Kind::Tree)?;
    let malformed = || failed(repo, format!("tree {} is malformed", tree.id));
    let mut entries = Vec::new();
    for entry in parse_tree(&bytes, repo.object_hash().len_in_bytes()) {
        let entry = entry.ok_or_else(malformed)?;
        let id = ObjectId::from_bytes_or_panic(entry.id);
        let target = match entry.is_submodule() {
            true => Target::Id(Bytes::copy_from_slice(entry.id)),
            false => Target::Number(*numbers.get(&id).ok_or_else(malformed)?),
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

/// Places annotated tags.
pub(super) fn place_tags(
    desk: &mut Desk<'_>,
    repo: &gix::Repository,
    tags: &[ObjectId],
) -> Result<(), PublishError> {
    if tags.is_empty() {
        return Ok(());
    }
    let raws: Vec<Vec<u8>> =
        (tags.iter().map(|id| read_as(repo, *id, Kind::Tag))).collect::<Result<_, _>>()?;
    let group = group(desk, &raws)?;
    desk.segment.tags.push(group.chunk);
    Ok(())
}

fn group(desk: &mut Desk<'_>, objects: &[Vec<u8>]) -> Result<Group, PublishError> {
    let raw = encode_group(objects).map_err(PublishError::encode("a group of git objects"))?;
    let sealed = seal(&raw, desk.how.history());
    let chunk = desk.chunk(ChunkHash::of(&raw), raw.len(), (sealed, Bases::NONE))?;
    desk.told(objects.len() as u64);
    Ok(Group {
        chunk,
        count: objects.len() as u64,
    })
}
