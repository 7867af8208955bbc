//! Names the files that depend on something faulty.

use std::sync::Arc;

use serde::Serialize;

use super::fault::{FaultKind, FaultTable, MAX_REPORTED, stored_end};
use crate::lifecycle::walk::{ChunkRole, Dependency, ItemPath, Walk, WalkItem, with_bases};
use crate::repo::Repository;
use walgit_format::chunk::ChunkRef;

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// A path, with its tree if that is not the tree of the default branch; or a
    /// description of something else.
    pub what: String,
    /// Description of the fault.
    pub why: String,
}

/// Names everything that depends on something faulty: at most [`MAX_REPORTED`] items, with
/// the total count.
pub(super) async fn affected(repository: &Repository, faults: &FaultTable) -> (Vec<Affected>, u64) {
    let (mut reported, mut count) = (Vec::new(), 0);
    let mut last: Option<Arc<ItemPath>> = None;
    let mut walk = Walk::of(repository);
    while let Some(batch) = walk.next().await {
        for found in batch {
            // One entry per file: its first faulty chunk.
            let is_same = last.as_ref().is_some_and(|it| Arc::ptr_eq(it, &found.path));
            let Some(why) = (!is_same)
                .then(|| why(&found, faults, repository))
                .flatten()
            else {
                continue;
            };
            count += 1;
            if reported.len() < MAX_REPORTED {
                reported.push(Affected {
                    what: found.path.to_string(),
                    why,
                });
            }
            last = Some(found.path);
        }
    }
    (reported, count)
}

fn why(found: &WalkItem, faults: &FaultTable, repository: &Repository) -> Option<String> {
    match &found.dependency {
        Dependency::Unreadable(why) => {
            Some(format!("it and everything below it cannot be read: {why}"))
        }
        Dependency::Whole(whole) => {
            let kind = faults.of_whole(whole)?;
            Some(format!("blob {} is {}", whole.blob, kind.describe()))
        }
        Dependency::Opened(blob) => {
            let kind = faults.of_blob(blob)?;
            Some(format!("blob {blob} is {}", kind.describe()))
        }
        Dependency::Perhaps(_) => None,
        Dependency::Chunk(chunk, role) => {
            // Bases of the chunk come first.
            with_bases(chunk, *role).find_map(|(it, as_what)| {
                let kind = faults.of_chunk(it, stored_end(repository, it))?;
                Some(of_chunk(it, as_what, kind))
            })
        }
    }
}

fn of_chunk(chunk: &ChunkRef, role: ChunkRole, kind: FaultKind) -> String {
    let what = match role {
        ChunkRole::Base => "a chunk that it is decoded with",
        ChunkRole::Directory => "its list of entries",
        ChunkRole::List => "the list of its chunks",
        ChunkRole::Content | ChunkRole::Attachment | ChunkRole::Objects => "some of it",
    };
    let kind = kind.describe();
    format!(
        "{what} is {kind} (chunk {} in blob {})",
        chunk.hash, chunk.location.blob
    )
}
