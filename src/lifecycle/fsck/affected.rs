//! Names the files that depend on something faulty.

use std::sync::Arc;

use serde::Serialize;

use super::fault::{FaultKind, Faults};
use crate::lifecycle::walk::{Found, Need, Place, Role, Walk, with_bases};
use crate::repo::Repository;
use walgit_format::chunk::{ChunkRef, private_len};

/// Maximum number of affected items to name.
pub const MOST_TOLD: usize = 1000;

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// A path, with its tree if that is not the tree of the default branch; or a
    /// description of something else.
    pub what: String,
    /// Description of the fault.
    pub why: String,
}

/// Names everything that depends on something faulty: at most [`MOST_TOLD`] items, with
/// the total count.
pub(super) async fn affected(repository: &Repository, faults: &Faults) -> (Vec<Affected>, u64) {
    let private = repository.key().is_some();
    let (mut told, mut count) = (Vec::new(), 0);
    let mut last: Option<Arc<Place>> = None;
    let mut walk = Walk::of(repository);
    while let Some(stretch) = walk.next().await {
        for found in stretch {
            // One entry per file: its first faulty chunk.
            let again = last
                .as_ref()
                .is_some_and(|it| Arc::ptr_eq(it, &found.place));
            let Some(why) = (!again).then(|| why(&found, faults, private)).flatten() else {
                continue;
            };
            count += 1;
            if told.len() < MOST_TOLD {
                told.push(Affected {
                    what: found.place.to_string(),
                    why,
                });
            }
            last = Some(found.place);
        }
    }
    (told, count)
}

fn why(found: &Found, faults: &Faults, private: bool) -> Option<String> {
    match &found.need {
        Need::Unreadable(why) => Some(format!("it and all below it cannot be read: {why}")),
        Need::Whole(whole) => {
            let kind = faults.of_whole(whole)?;
            Some(format!("blob {} is {}", whole.blob, kind.word()))
        }
        Need::Opened(blob) => {
            let kind = faults.of_blob(blob)?;
            Some(format!("blob {blob} is {}", kind.word()))
        }
        Need::Perhaps(_) => None,
        Need::Chunk(chunk, role) => {
            // Bases of the chunk come first.
            with_bases(chunk, *role).find_map(|(it, as_what)| {
                let kind = faults.of_chunk(it, stored_end(it, private))?;
                Some(of_chunk(it, as_what, kind))
            })
        }
    }
}

fn of_chunk(chunk: &ChunkRef, role: Role, kind: FaultKind) -> String {
    let what = match role {
        Role::Base => "what it is decoded with",
        Role::Directory => "its list of entries",
        Role::List => "the list of its chunks",
        Role::Content | Role::Attachment | Role::Objects => "some of it",
    };
    let kind = kind.word();
    format!(
        "{what} is {kind} (chunk {} in blob {})",
        chunk.hash, chunk.location.blob
    )
}

/// Returns the end of a chunk in its blob as stored.
fn stored_end(chunk: &ChunkRef, private: bool) -> u64 {
    let end = chunk.range().end();
    match private {
        true => private_len(end).unwrap_or(u64::MAX),
        false => end,
    }
}
