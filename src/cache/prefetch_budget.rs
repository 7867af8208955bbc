//! Backpressure for prefetches of all mounts together.
//!
//! Prefetches share the link with demand reads. Two round trips' worth of the
//! measured bandwidth keep the link busy without queueing, so that a demand read
//! waits behind little. More is requested only as earlier bytes arrive.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::limits::MAX_IN_FLIGHT_BYTES;
use walrus_client::BlobStore;

/// Bytes in flight without a measurement: two round trips of 50 ms at 100 Mbit/s.
const DEFAULT_BYTES: u64 = 5 << 18;
/// Minimum bytes in flight: a few requests of some files, however slow the link is.
const MIN_BYTES: u64 = 128 << 10;
/// Maximum bytes in flight; leaves permits for demand reads.
const MAX_BYTES: u64 = MAX_IN_FLIGHT_BYTES / 4 * 3;
/// Minimum assumed round trip: a request costs more than a negligible round trip.
const MIN_ROUND_TRIP: Duration = Duration::from_millis(20);
/// Divisor of the limit below which a request does not wait: its turn would come
/// later than its bytes.
const SMALL_REQUEST_DIVISOR: u64 = 32;
/// Maximum bytes of one request: a read of its last chunk waits for all of it.
const MAX_REQUEST_BYTES: u64 = 4 << 20;

/// Returns how many stored bytes may be prefetched concurrently from a store.
pub(super) fn concurrent_bytes(store: &dyn BlobStore) -> u64 {
    let measured = store.conditions().and_then(|link| {
        let time = link.round_trip().max(MIN_ROUND_TRIP);
        let window = (2.0 * link.bandwidth? as f64 * time.as_secs_f64()) as u64;
        // The capacity of a link is unknown until it has been saturated.
        let least = if link.was_full { 0 } else { DEFAULT_BYTES };
        Some(window.max(least))
    });
    measured
        .unwrap_or(DEFAULT_BYTES)
        .clamp(MIN_BYTES, MAX_BYTES)
}

/// Stored bytes per prefetch request: a few requests alternate on the link, so that
/// bytes arrive while the next one is sent.
pub fn request_bytes(store: &dyn BlobStore) -> u64 {
    (concurrent_bytes(store) / 4).min(MAX_REQUEST_BYTES)
}

/// Admission of prefetches in FIFO order.
#[derive(Debug, Default)]
pub(super) struct PrefetchBudget {
    used: Mutex<u64>,
    released: Notify,
}

/// Permit to prefetch a number of bytes.
#[derive(Debug)]
pub(super) struct PrefetchPermit<'a> {
    budget: &'a PrefetchBudget,
    bytes: u64,
}

impl PrefetchBudget {
    /// Waits until `bytes` may be prefetched in addition to those in progress, which
    /// together hardly exceed `limit`. A larger request is admitted alone.
    pub(super) async fn acquire(&self, bytes: u64, limit: impl Fn() -> u64) -> PrefetchPermit<'_> {
        loop {
            // Register before checking, so that no notification is missed.
            let released = self.released.notified();
            if let Some(permit) = self.try_acquire(bytes, limit()) {
                return permit;
            }
            released.await;
        }
    }

    fn try_acquire(&self, bytes: u64, limit: u64) -> Option<PrefetchPermit<'_>> {
        let mut used = self.used.lock();
        if *used != 0 && *used + bytes > limit && bytes > limit / SMALL_REQUEST_DIVISOR {
            return None;
        }
        *used += bytes;
        if *used < limit {
            // The next waiter may fit as well.
            self.released.notify_one();
        }
        let budget = self;
        Some(PrefetchPermit { budget, bytes })
    }
}

impl Drop for PrefetchPermit<'_> {
    fn drop(&mut self) {
        *self.budget.used.lock() -= self.bytes;
        self.budget.released.notify_one();
    }
}
