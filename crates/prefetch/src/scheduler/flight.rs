//! Requests in progress.

use std::collections::BTreeMap;

use super::super::catalogue::FileId;
use super::{Fetch, FetchId, Seconds};

#[derive(Debug)]
struct Flight {
    /// Files that have not arrived yet.
    files: Vec<FileId>,
    bytes: u64,
    ahead: bool,
    /// The model expected one of its files.
    expected: bool,
    /// A task waits for one of its files.
    awaited: bool,
    began: Seconds,
    first: Option<(Seconds, u64)>,
}

/// Timing of a completed request: seconds to its first and last file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) first: Seconds,
    pub(super) last: Seconds,
    pub(super) first_bytes: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Flights {
    flights: BTreeMap<FetchId, Flight>,
    next: u64,
}

impl Flights {
    /// Returns the ID of the next request.
    pub(super) fn number(&mut self) -> FetchId {
        self.next += 1;
        FetchId(self.next)
    }

    pub(super) fn begin(&mut self, fetch: &Fetch, expected: bool, now: Seconds) {
        let flight = Flight {
            files: fetch.files.clone(),
            bytes: fetch.len,
            ahead: fetch.demanded.is_none(),
            expected,
            awaited: fetch.demanded.is_some(),
            began: now,
            first: None,
        };
        self.flights.insert(fetch.id, flight);
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Number of prefetch requests.
    pub(super) fn ahead(&self) -> usize {
        self.flights.values().filter(|it| it.ahead).count()
    }

    /// Bytes of the prefetch requests.
    pub(super) fn bytes_ahead(&self) -> u64 {
        let ahead = self.flights.values().filter(|it| it.ahead);
        ahead.map(|it| it.bytes).fold(0, u64::saturating_add)
    }

    /// Returns whether a task waits.
    pub(super) fn awaiting(&self) -> bool {
        self.flights.values().any(|it| it.awaited)
    }

    pub(super) fn is_ahead(&self, id: FetchId) -> bool {
        self.flights.get(&id).is_some_and(|it| it.ahead)
    }

    /// Records that a task waits for a file of a request.
    pub(super) fn awaited(&mut self, id: FetchId) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.awaited = true;
        }
    }

    /// Records the arrival of a file; returns the timing of the request if it was
    /// the last.
    pub(super) fn arrived(
        &mut self,
        id: FetchId,
        file: FileId,
        bytes: u64,
        now: Seconds,
    ) -> Option<Done> {
        let flight = self.flights.get_mut(&id)?;
        flight.files.retain(|&it| it != file);
        let began = flight.began;
        let (first, first_bytes) = *flight.first.get_or_insert((now - began, bytes));
        if !flight.files.is_empty() {
            return None;
        }
        let bytes = flight.bytes;
        self.flights.remove(&id);
        Some(Done {
            first,
            last: now - began,
            first_bytes,
            bytes,
        })
    }

    /// Records that a file of a request will not arrive.
    pub(super) fn lost(&mut self, id: FetchId, file: FileId) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.files.retain(|&it| it != file);
            if flight.files.is_empty() {
                self.flights.remove(&id);
            }
        }
    }

    /// Returns prefetches with an expected file that started before `before`, have
    /// at least `bytes`, and are not awaited; with their missing files.
    pub(super) fn large_ahead(&self, bytes: u64, before: Seconds) -> Vec<(FetchId, Vec<FileId>)> {
        let stale = |it: &Flight| {
            it.ahead && it.expected && !it.awaited && it.bytes >= bytes && it.began <= before
        };
        let large = self.flights.iter().filter(|(_, it)| stale(it));
        large.map(|(&id, it)| (id, it.files.clone())).collect()
    }

    pub(super) fn cancel(&mut self, id: FetchId) {
        self.flights.remove(&id);
    }
}
