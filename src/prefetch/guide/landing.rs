//! Requests of a guide, from start to the last file.

use tokio::sync::mpsc;

use super::Event;
use super::inventory::{LARGE_FILE, Stored};
use crate::cache::PrefetchGoal;
use crate::prefetch::requests;
use crate::repo::{PendingFetch, Snapshot};
use walgit_format::chunk::ChunkRef;
use walgit_prefetch::catalogue::FileId;
use walgit_prefetch::scheduler::{Fetch, FetchId};

/// Starts the request of a fetch, before the waiting reader makes its own.
pub(super) fn begin(
    snapshot: &Snapshot,
    contents: &[(FileId, Stored)],
    fetch: &Fetch,
) -> Vec<PendingFetch> {
    let mut table: Vec<ChunkRef> = Vec::new();
    let mut demanded = None;
    for (file, content) in contents {
        if let Stored::Chunks(chunks) = content {
            if fetch.demanded == Some(*file) {
                demanded = chunks.first().map(|chunk| chunk.hash);
            }
            table.extend_from_slice(chunks);
        }
    }
    table.sort_unstable_by_key(|chunk| chunk.location.offset);
    let at = table.iter().position(|chunk| Some(chunk.hash) == demanded);
    let first = at.and_then(|at| snapshot.begin_chunks(&table, at, fetch.len, PrefetchGoal::Read));
    let missing = requests::missing(snapshot, table);
    let others = requests::begin(snapshot, &missing, fetch.len);
    first.into_iter().chain(others).collect()
}

/// Reports each file of a fetch as it arrives.
pub(super) async fn land(
    snapshot: Snapshot,
    contents: Vec<(FileId, Stored)>,
    // Held to the end: dropping the handles would cancel the fetches.
    _coming: Vec<PendingFetch>,
    id: FetchId,
    events: mpsc::WeakSender<Event>,
) {
    for (file, content) in contents {
        let here = match &content {
            Stored::Inline => true,
            Stored::Whole(whole) => is_landed(snapshot.begin_whole(whole)).await,
            Stored::Chunks(chunks) => {
                let mut here = true;
                for at in 0..chunks.len() {
                    here &= is_landed(snapshot.begin_chunks(
                        chunks,
                        at,
                        LARGE_FILE,
                        PrefetchGoal::Read,
                    ))
                    .await;
                }
                here
            }
        };
        if !send(&events, Event::Landed(id, file, here)).await {
            return;
        }
    }
    send(&events, Event::Ended(id)).await;
}

/// Waits for a pending fetch, if any; returns whether the content is cached.
async fn is_landed(coming: Option<PendingFetch>) -> bool {
    match coming {
        Some(coming) => coming.completed().await.is_ok(),
        None => true,
    }
}

/// Sends an event to the worker; returns whether it still runs.
async fn send(events: &mpsc::WeakSender<Event>, event: Event) -> bool {
    match events.upgrade() {
        Some(events) => events.send(event).await.is_ok(),
        None => false,
    }
}
