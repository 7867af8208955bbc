//! Simulated link: requests wait a round trip, then share the bandwidth.
//!
//! All requests in transfer get the same share, which TCP approximates; a demand
//! request does not overtake others. Bytes of a request arrive in order, so its
//! first file arrives before its last.

use super::super::file_index::FileId;
use super::super::scheduler::FetchId;

/// A request in progress.
#[derive(Clone, Debug)]
struct SimulatedTransfer {
    id: FetchId,
    /// Time of its first byte.
    first_byte_at: f64,
    /// Bytes that have arrived.
    arrived: f64,
    /// Files that have not arrived, in reverse order, with their end offsets in the
    /// request.
    files: Vec<(FileId, f64)>,
}

/// The link and its requests.
#[derive(Clone, Debug)]
pub(super) struct SimulatedLink {
    rtt: f64,
    /// Bytes per second.
    rate: f64,
    now: f64,
    transfers: Vec<SimulatedTransfer>,
}

/// Tolerance, absolute in seconds and relative to the total: a remainder below it
/// counts as arrived, because its time would not differ from the current one.
const TOLERANCE_S: f64 = 1e-9;
const RELATIVE_TOLERANCE: f64 = 1e-14;

impl SimulatedLink {
    pub(super) fn new(rtt: f64, rate: f64) -> Self {
        SimulatedLink {
            rtt,
            rate,
            now: 0.0,
            transfers: Vec::new(),
        }
    }

    /// Starts a request for files with the given end offsets.
    pub(super) fn begin(&mut self, id: FetchId, files: &[(FileId, u64)]) {
        let files = files.iter().rev().map(|&(file, end)| (file, end as f64));
        self.transfers.push(SimulatedTransfer {
            id,
            first_byte_at: self.now + self.rtt,
            arrived: 0.0,
            files: files.collect(),
        });
    }

    /// Cancels a request; returns the bytes that have arrived.
    pub(super) fn cancel(&mut self, id: FetchId) -> u64 {
        let found = self.transfers.iter().position(|it| it.id == id);
        found.map_or(0, |at| self.transfers.swap_remove(at).arrived as u64)
    }

    /// Returns the time of the next event; `None` without requests.
    pub(super) fn next(&self) -> Option<f64> {
        let share = self.share();
        let times = self.transfers.iter().map(|it| {
            if it.first_byte_at > self.now {
                return it.first_byte_at;
            }
            let end = it.files.last().map_or(0.0, |&(_, end)| end);
            self.now + (end - it.arrived).max(0.0) / share
        });
        times.min_by(f64::total_cmp)
    }

    /// Advances the time to `to`, which must not be later than
    /// [`next`](Self::next); returns the files that have arrived.
    pub(super) fn advance(&mut self, to: f64) -> Vec<FileId> {
        let bytes = (to - self.now).max(0.0) * self.share();
        let before = self.now;
        self.now = self.now.max(to);
        let mut complete = Vec::new();
        for transfer in &mut self.transfers {
            if transfer.first_byte_at <= before {
                transfer.arrived += bytes;
            }
            while transfer.first_byte_at <= self.now {
                let Some(&(file, end)) = transfer.files.last() else {
                    break;
                };
                let all = self.now * self.rate + end;
                if transfer.arrived + TOLERANCE_S * self.rate + RELATIVE_TOLERANCE * all < end {
                    break;
                }
                transfer.files.pop();
                complete.push(file);
            }
        }
        self.transfers.retain(|it| !it.files.is_empty());
        complete
    }

    fn share(&self) -> f64 {
        let active = self
            .transfers
            .iter()
            .filter(|it| it.first_byte_at <= self.now);
        self.rate / (active.count().max(1) as f64)
    }
}
