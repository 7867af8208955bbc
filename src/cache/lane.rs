//! Backpressure for prefetches of all mounts together.
//!
//! Prefetches share the link with demand reads. Two round trips' worth of the
//! measured bandwidth keep the link busy without queueing, so that a demand read
//! waits behind little. More is requested only as earlier bytes arrive.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::fetch::IN_FLIGHT;
use walrus_client::BlobStore;

/// Bytes in flight without a measurement: two round trips of 50 ms at 100 Mbit/s.
const USUAL: u64 = 5 << 18;
/// Minimum bytes in flight: a few requests of some files, however slow the link is.
const LEAST: u64 = 128 << 10;
/// Maximum bytes in flight; leaves permits for demand reads.
const MOST: u64 = IN_FLIGHT / 4 * 3;
/// Minimum assumed round trip: a request costs more than a negligible round trip.
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(20);
/// Divisor of the limit below which a request does not wait: its turn would come
/// later than its bytes.
const SMALL_PART: u64 = 32;
/// Maximum bytes of one request: a read of its last chunk waits for all of it.
const LONGEST_REQUEST: u64 = 4 << 20;

/// Returns how many stored bytes may be prefetched concurrently from a store.
pub(super) fn most_ahead(store: &dyn BlobStore) -> u64 {
    let measured = store.conditions().and_then(|link| {
        let time = link.round_trip().max(LEAST_ROUND_TRIP);
        let window = (2.0 * link.bandwidth? as f64 * time.as_secs_f64()) as u64;
        // The capacity of a link is unknown until it has been saturated.
        Some(if link.was_full {
            window
        } else {
            window.max(USUAL)
        })
    });
    measured.unwrap_or(USUAL).clamp(LEAST, MOST)
}

/// Stored bytes per prefetch request: a few requests alternate on the link, so that
/// bytes arrive while the next one is sent.
pub fn request_bytes(store: &dyn BlobStore) -> u64 {
    (most_ahead(store) / 4).min(LONGEST_REQUEST)
}

/// Admission of prefetches in FIFO order.
#[derive(Debug, Default)]
pub(super) struct Lane {
    bytes: Mutex<u64>,
    freed: Notify,
}

/// Permit to prefetch a number of bytes.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    lane: &'a Lane,
    size: u64,
}

impl Lane {
    /// Waits until `size` bytes may be prefetched in addition to those in progress,
    /// which together hardly exceed `most`. A larger request is admitted alone.
    pub(super) async fn enter(&self, size: u64, most: impl Fn() -> u64) -> Pass<'_> {
        loop {
            // Register before checking, so that no notification is missed.
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
            // The next waiter may fit as well.
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
