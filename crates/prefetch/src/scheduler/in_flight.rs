//! Requests in progress.

use std::collections::BTreeMap;

use super::super::file_index::FileId;
use super::action::{Fetch, FetchId, Seconds};
use super::link::RequestTiming;

#[derive(Debug)]
struct InFlightRequest {
    /// Files that have not arrived yet.
    files: Vec<FileId>,
    bytes: u64,
    is_prefetch: bool,
    /// The model expected one of its files.
    is_expected: bool,
    /// A task waits for one of its files.
    is_demanded: bool,
    started: Seconds,
    /// Time until its first file arrived, and the bytes of that file.
    first: Option<(Seconds, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct InFlightRequests {
    requests: BTreeMap<FetchId, InFlightRequest>,
    last_id: u64,
}

impl InFlightRequests {
    pub(super) fn next_id(&mut self) -> FetchId {
        self.last_id += 1;
        FetchId(self.last_id)
    }

    pub(super) fn start(&mut self, fetch: &Fetch, is_expected: bool, now: Seconds) {
        let request = InFlightRequest {
            files: fetch.files.clone(),
            bytes: fetch.len,
            is_prefetch: fetch.demanded.is_none(),
            is_expected,
            is_demanded: fetch.demanded.is_some(),
            started: now,
            first: None,
        };
        self.requests.insert(fetch.id, request);
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Number of prefetch requests.
    pub(super) fn prefetches(&self) -> usize {
        self.requests.values().filter(|it| it.is_prefetch).count()
    }

    /// Bytes of the prefetch requests.
    pub(super) fn prefetch_bytes(&self) -> u64 {
        let prefetches = self.requests.values().filter(|it| it.is_prefetch);
        prefetches.map(|it| it.bytes).fold(0, u64::saturating_add)
    }

    /// Returns whether a task waits.
    pub(super) fn any_demanded(&self) -> bool {
        self.requests.values().any(|it| it.is_demanded)
    }

    pub(super) fn is_prefetch(&self, id: FetchId) -> bool {
        self.requests.get(&id).is_some_and(|it| it.is_prefetch)
    }

    /// Records that a task waits for a file of a request.
    pub(super) fn set_demanded(&mut self, id: FetchId) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.is_demanded = true;
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
    ) -> Option<RequestTiming> {
        let request = self.requests.get_mut(&id)?;
        let last = now - request.started;
        let (first, first_bytes) = *request.first.get_or_insert((last, bytes));
        let bytes = request.bytes;
        self.failed(id, file).then_some(RequestTiming {
            first,
            last,
            first_bytes,
            bytes,
        })
    }

    /// Records that a file of a request will not arrive; returns whether it was the
    /// last.
    pub(super) fn failed(&mut self, id: FetchId, file: FileId) -> bool {
        let Some(request) = self.requests.get_mut(&id) else {
            return false;
        };
        request.files.retain(|&it| it != file);
        request.files.is_empty() && self.requests.remove(&id).is_some()
    }

    /// Returns prefetches with an expected file that started before `before`, have
    /// at least `bytes`, and are not demanded; with their missing files.
    pub(super) fn cancellable(&self, bytes: u64, before: Seconds) -> Vec<(FetchId, Vec<FileId>)> {
        let is_old = |it: &InFlightRequest| it.bytes >= bytes && it.started <= before;
        let requests = self
            .requests
            .iter()
            .filter(|(_, it)| it.is_prefetch && it.is_expected && !it.is_demanded && is_old(it));
        requests.map(|(&id, it)| (id, it.files.clone())).collect()
    }

    pub(super) fn cancel(&mut self, id: FetchId) {
        self.requests.remove(&id);
    }
}
