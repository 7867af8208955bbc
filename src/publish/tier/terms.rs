//! The five terms of a score. Each is a function to 0..=1, where 1 is best.

use super::facts::{TierFacts, USUAL_MAX_INLINE_BYTES};
use crate::repo::Tier;

/// Size in bytes at which inline and chunked are rated equally. Every listing of the
/// directory fetches inline content.
const INLINE_MIDPOINT_BYTES: f64 = USUAL_MAX_INLINE_BYTES as f64;
/// Size in bytes at which chunked and separate blobs are rated equally.
const WALRUS_MIDPOINT_BYTES: f64 = (4u64 << 20) as f64;
/// Number of files whose chunks come with one request, as neighbours in a pack.
const FILES_PER_REQUEST: f64 = 8.0;

/// By file size in bytes: *inline* falls from 1 through 1/2 at 256 bytes, *walrus* rises
/// from 0 through 1/2 at 4 MiB, *chunked* is the remainder to 1.
pub(super) fn size(tier: Tier, bytes: u64) -> f64 {
    let bytes = bytes as f64;
    let inline = INLINE_MIDPOINT_BYTES / (INLINE_MIDPOINT_BYTES + bytes);
    let walrus = bytes / (bytes + WALRUS_MIDPOINT_BYTES);
    match tier {
        Tier::Inline => inline,
        Tier::Chunked => (1.0 - inline - walrus).max(0.0),
        Tier::Walrus => walrus,
    }
}

/// By the fraction of sessions that open the file, 0..=1: frequently opened files are
/// best fetched with their directory (*inline* is that fraction), rarely opened ones are
/// best kept apart from other content (*walrus* is 1 minus the fraction). *Chunked* is
/// always 1/2: neighbours are usually fetched together, but need not be.
pub(super) fn access(tier: Tier, part: f64) -> f64 {
    match tier {
        Tier::Inline => part,
        Tier::Chunked => 0.5,
        Tier::Walrus => 1.0 - part,
    }
}

/// By content: the fraction of bytes that compression saves ([`TierFacts::saving`]). *Walrus* falls
/// from 1 with the saving, because separate blobs are not compressed; *chunked* rises
/// from 1/2 with it, because chunks are compressed by class, possibly with a dictionary;
/// *inline* is 1/4, because a node is compressed fast and consists mostly of hashes.
pub(super) fn class(tier: Tier, facts: &TierFacts) -> f64 {
    let saving = facts.saving();
    match tier {
        Tier::Inline => 0.25,
        Tier::Chunked => 0.5 + saving / 2.0,
        Tier::Walrus => 1.0 - saving,
    }
}

/// By the time until the file is available, in seconds: a round trip divided by the sum
/// of a round trip and that time, which consists of the transfer and the request: none
/// beyond the directory's for *inline*, an eighth of one for *chunked*, because neighbours
/// share it, an entire one for *walrus*.
pub(super) fn network(tier: Tier, facts: &TierFacts) -> f64 {
    let (bytes, requests) = match tier {
        Tier::Inline => (facts.stored(), 0.0),
        Tier::Chunked => (facts.stored(), 1.0 / FILES_PER_REQUEST),
        Tier::Walrus => (facts.size, 1.0),
    };
    let trip = facts.round_trip.max(1e-6);
    let time = trip * requests + bytes as f64 / facts.bandwidth.max(1.0);
    trip / (trip + time)
}

/// By billed bytes: those of the cheapest possible tier divided by those of this tier; 1
/// for the cheapest.
pub(super) fn cost(billed: u64, cheapest: u64) -> f64 {
    match billed {
        0 => 1.0,
        billed => (cheapest as f64 / billed as f64).min(1.0),
    }
}
