//! How much is fetched ahead of readers at once, by all mounts together.
//!
//! Bytes that nobody waits for share the link with bytes that somebody does.
//! Two round trips' worth of what the link carries, as it is measured, keep it
//! busy without a queue in it: a reader's request then waits behind little.
//! What is more is asked for only when some of it has come.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::fetch::IN_FLIGHT;
use walrus_client::BlobStore;

/// Where nothing has been measured: two round trips of 50 ms at 100 Mbit/s.
const USUAL: u64 = 5 << 18;
/// A few requests of some files, however slow the link is.
const LEAST: u64 = 128 << 10;
/// Readers always find room.
const MOST: u64 = IN_FLIGHT / 4 * 3;
/// A request costs more than its round trip where that is nothing.
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(20);
/// A request of this part of what may be under way at once waits for nothing:
/// its turn would come later than its bytes.
const SMALL_PART: u64 = 32;
/// Whoever needs the last chunk of a request waits for all of it.
const LONGEST_REQUEST: u64 = 4 << 20;

/// Stored bytes that may be fetched ahead at once from a store.
pub(super) fn most_ahead(store: &dyn BlobStore) -> u64 {
    let measured = store.conditions().and_then(|link| {
        let time = link.round_trip().max(LEAST_ROUND_TRIP);
        let window = (2.0 * link.bandwidth? as f64 * time.as_secs_f64()) as u64;
        // A link that was never full has to be filled to be known.
        Some(if link.was_full {
            window
        } else {
            window.max(USUAL)
        })
    });
    measured.unwrap_or(USUAL).clamp(LEAST, MOST)
}

/// Stored bytes that one request ahead of readers should ask for: a few take
/// turns on the link, so that some flow while the next one is asked for.
pub fn request_bytes(store: &dyn BlobStore) -> u64 {
    (most_ahead(store) / 4).min(LONGEST_REQUEST)
}

/// Who may fetch ahead now, first come first served.
#[derive(Debug, Default)]
pub(super) struct Lane {
    bytes: Mutex<u64>,
    freed: Notify,
}

/// Leave to fetch some bytes ahead.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    lane: &'a Lane,
    size: u64,
}

impl Lane {
    /// Waits until `size` bytes may be fetched beside those that are, which
    /// together are hardly more than `most`. What is larger goes alone.
    pub(super) async fn enter(&self, size: u64, most: impl Fn() -> u64) -> Pass<'_> {
        loop {
            // Before looking, so that nothing is freed unnoticed in between.
            let freed = self.freed.notified();
            if let Some(pass) = self.try_enter(size, most()) {
                return pass;
            }
            freed.await;
        }
    }

    fn try_enter(&self, size: u64, most: u64) -> Option<Pass<'_>> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = *bytes == 0 || *bytes + size <= most || size <= most / SMALL_PART;
        if !fits {
            return None;
        }
        *bytes += size;
        let more = *bytes < most;
        drop(bytes);
        if more {
            // The next in line may fit as well.
            self.freed.notify_one();
        }
        Some(Pass { lane: self, size })
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut bytes = (self.lane.bytes.lock()).unwrap_or_else(PoisonError::into_inner);
        *bytes -= self.size;
        drop(bytes);
        self.lane.freed.notify_one();
    }
}
