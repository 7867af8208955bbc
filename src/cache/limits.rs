//! Limits that several parts of the cache share.

/// Maximum bytes that are being fetched, decoded or written. Each fetch counts with
/// its stored or plain bytes, whichever is larger.
pub(super) const MAX_IN_FLIGHT_BYTES: u64 = 32 << 20;

/// Maximum gap in bytes between two chunks that is fetched and discarded instead of
/// splitting the read: at 20 Mbit/s it costs 2 ms, a separate request a round trip.
pub const MAX_GAP_BYTES: u64 = 4096;
