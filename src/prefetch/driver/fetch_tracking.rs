//! Requests of a driver, from start to the last file.

use tokio::sync::mpsc;

use super::known_files::MAX_FILE_BYTES;
use super::state::{DriverEvent, FileContent};
use crate::cache::PrefetchGoal;
use crate::prefetch::requests;
use crate::repo::{PendingFetch, Snapshot};
use walgit_format::chunk::ChunkRef;
use walgit_prefetch::file_index::FileId;
use walgit_prefetch::scheduler::{Fetch, FetchId};

/// Starts the request of a fetch, before the waiting reader makes its own.
pub(super) fn start(
    snapshot: &Snapshot,
    contents: &[(FileId, FileContent)],
    fetch: &Fetch,
) -> Vec<PendingFetch> {
    let mut table: Vec<ChunkRef> = Vec::new();
    let mut demanded = None;
    for (file, content) in contents {
        if let FileContent::Chunks(chunks) = content {
            if fetch.demanded == Some(*file) {
                demanded = chunks.first().map(|chunk| chunk.hash);
            }
            table.extend_from_slice(chunks);
        }
    }
    table.sort_unstable_by_key(|chunk| chunk.location.offset);
    let at = table.iter().position(|chunk| Some(chunk.hash) == demanded);
    let goal = PrefetchGoal::Read;
    let first = at.and_then(|at| snapshot.begin_chunks(&table, at, fetch.len, goal));
    let missing = requests::missing(snapshot, table);
    let others = requests::begin(snapshot, &missing, fetch.len);
    first.into_iter().chain(others).collect()
}

/// Reports each file of a fetch as it arrives, and then its end. Stops early if the
/// worker has ended.
pub(super) async fn track(
    snapshot: Snapshot,
    contents: Vec<(FileId, FileContent)>,
    // Held to the end: dropping the handles would cancel the fetches.
    _pending: Vec<PendingFetch>,
    id: FetchId,
    events: mpsc::WeakSender<DriverEvent>,
) -> Option<()> {
    for (file, content) in contents {
        let is_cached = match &content {
            FileContent::Inline => true,
            FileContent::Whole(whole) => wait(snapshot.begin_whole(whole)).await,
            FileContent::Chunks(chunks) => {
                let mut is_cached = true;
                for at in 0..chunks.len() {
                    let goal = PrefetchGoal::Read;
                    let pending = snapshot.begin_chunks(chunks, at, MAX_FILE_BYTES, goal);
                    is_cached &= wait(pending).await;
                }
                is_cached
            }
        };
        let arrived = DriverEvent::Arrived(id, file, is_cached);
        events.upgrade()?.send(arrived).await.ok()?;
    }
    events.upgrade()?.send(DriverEvent::Ended(id)).await.ok()
}

/// Waits for a pending fetch, if any; returns whether the content is cached.
async fn wait(pending: Option<PendingFetch>) -> bool {
    match pending {
        Some(pending) => pending.completed().await.is_ok(),
        None => true,
    }
}
