//! The five terms of a score. Each is a function to 0..=1, where 1 is best.

use super::Facts;
use crate::publish::analyze::{Class, Format};
use crate::repo::Tier;

/// Bytes that a reference to a chunk takes in the node of a directory.
pub(super) const REFERENCE: u64 = 45;

/// Bytes at which a file suits the node of its directory and a chunk alike.
/// Whoever lists the directory fetches it, wanted or not.
const INLINE_HALF: f64 = 256.0;
/// Bytes at which a file suits chunks and a blob of its own alike.
const WALRUS_HALF: f64 = (4u64 << 20) as f64;
/// Files whose chunks come with one request, as neighbours in a pack do.
const NEIGHBOURS: f64 = 8.0;

/// By the length of the file, in bytes: *inline* falls from 1 through 1/2 at 256
/// bytes, *walrus* rises from 0 through 1/2 at 4 MiB, *chunked* is what they
/// leave of 1.
pub(super) fn size(tier: Tier, bytes: u64) -> f64 {
    let bytes = bytes as f64;
    let inline = INLINE_HALF / (INLINE_HALF + bytes);
    let walrus = bytes / (bytes + WALRUS_HALF);
    match tier {
        Tier::Inline => inline,
        Tier::Chunked => (1.0 - inline - walrus).max(0.0),
        Tier::Walrus => walrus,
    }
}

/// By the part of the sessions that open the file, 0..=1: what many open is best
/// fetched with its directory (*inline* is that part), what few open is best out
/// of the way of everything else (*walrus* is the rest of 1). *Chunked* is 1/2
/// whatever it is: neighbours are fetched with each other, but need not be.
pub(super) fn access(tier: Tier, part: f64) -> f64 {
    match tier {
        Tier::Inline => part,
        Tier::Chunked => 0.5,
        Tier::Walrus => 1.0 - part,
    }
}

/// What compression is expected to save of a class, as a part of its bytes,
/// 0..=1: nothing where samples say that it does not shrink.
pub(super) fn saving(class: Class, shrinks: bool) -> f64 {
    match class {
        _ if !shrinks => 0.0,
        Class::Image | Class::Archive => 0.25,
        Class::Binary | Class::Unknown | Class::Structured(Format::Database) => 0.5,
        Class::Text | Class::Code(_) | Class::Structured(_) => 0.75,
    }
}

/// By what the file is: the part of its bytes that compression saves
/// ([`saving`]). *Walrus* falls with it from 1, for a blob that is a file is not
/// compressed; *chunked* rises with it from 1/2, for there it is compressed by
/// its class, perhaps with a dictionary; *inline* is 1/4, for a node is
/// compressed in haste and most of it are hashes.
pub(super) fn class(tier: Tier, facts: &Facts) -> f64 {
    let saving = saving(facts.class, facts.shrinks);
    match tier {
        Tier::Inline => 0.25,
        Tier::Chunked => 0.5 + saving / 2.0,
        Tier::Walrus => 1.0 - saving,
    }
}

/// By the time until the file is there, in seconds: a round trip divided by a
/// round trip and that time. It is the time of the bytes, and of a request where
/// it takes one: none beyond the directory's *inline*, an eighth of one
/// *chunked*, since neighbours share it, a whole one as *walrus*.
pub(super) fn network(tier: Tier, facts: &Facts) -> f64 {
    let (bytes, requests) = match tier {
        Tier::Inline => (facts.stored(), 0.0),
        Tier::Chunked => (facts.stored(), 1.0 / NEIGHBOURS),
        Tier::Walrus => (facts.size, 1.0),
    };
    let trip = facts.round_trip.max(1e-6);
    let time = trip * requests + bytes as f64 / facts.bandwidth.max(1.0);
    trip / (trip + time)
}

/// By the bytes that are billed for the file: those of the cheapest tier that is
/// possible, divided by them; 1 for the cheapest itself.
pub(super) fn cost(billed: u64, cheapest: u64) -> f64 {
    match billed {
        0 => 1.0,
        billed => (cheapest as f64 / billed as f64).min(1.0),
    }
}
