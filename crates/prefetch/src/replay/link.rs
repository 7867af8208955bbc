//! A simulated link: requests wait a round trip, then share the bandwidth.
//!
//! All requests whose bytes flow get the same share; that is what TCP tends
//! to, and nothing here lets a demanded request overtake. Bytes of a request
//! come in order, so its first file is there before its last.

use super::super::catalogue::FileId;
use super::super::scheduler::FetchId;

/// A request under way.
#[derive(Clone, Debug)]
struct Transfer {
    id: FetchId,
    /// When its first byte comes.
    flows_at: f64,
    /// Bytes that have come.
    came: f64,
    /// Files yet to come, the last first, with where they end in the request.
    files: Vec<(FileId, f64)>,
}

/// The link and what is on it.
#[derive(Clone, Debug)]
pub(super) struct SimulatedLink {
    rtt: f64,
    /// Bytes a second.
    rate: f64,
    now: f64,
    transfers: Vec<Transfer>,
}

/// What is less than so many seconds, or such a part of all, away is here: the
/// time of it could not be told from now.
const CLOSE_S: f64 = 1e-9;
const CLOSE_PART: f64 = 1e-14;

impl SimulatedLink {
    pub(super) fn new(rtt: f64, rate: f64) -> Self {
        SimulatedLink {
            rtt,
            rate,
            now: 0.0,
            transfers: Vec::new(),
        }
    }

    /// Begins a request for files that end so many bytes into it.
    pub(super) fn begin(&mut self, id: FetchId, files: &[(FileId, u64)]) {
        let files = files.iter().rev().map(|&(file, end)| (file, end as f64));
        self.transfers.push(Transfer {
            id,
            flows_at: self.now + self.rtt,
            came: 0.0,
            files: files.collect(),
        });
    }

    /// Ends a request; the bytes of it that have come.
    pub(super) fn cancel(&mut self, id: FetchId) -> u64 {
        let found = self.transfers.iter().position(|it| it.id == id);
        found.map_or(0, |at| self.transfers.swap_remove(at).came as u64)
    }

    /// When something happens next; `None` when nothing is under way.
    pub(super) fn next(&self) -> Option<f64> {
        let share = self.share();
        let times = self.transfers.iter().map(|it| {
            if it.flows_at > self.now {
                return it.flows_at;
            }
            let end = it.files.last().map_or(0.0, |&(_, end)| end);
            self.now + (end - it.came).max(0.0) / share
        });
        times.min_by(f64::total_cmp)
    }

    /// Lets time pass up to `to`, which must not be later than
    /// [`next`](Self::next); the files that are there then.
    pub(super) fn advance(&mut self, to: f64) -> Vec<FileId> {
        let bytes = (to - self.now).max(0.0) * self.share();
        let before = self.now;
        self.now = self.now.max(to);
        let mut there = Vec::new();
        for transfer in &mut self.transfers {
            if transfer.flows_at <= before {
                transfer.came += bytes;
            }
            while transfer.flows_at <= self.now {
                let Some(&(file, end)) = transfer.files.last() else {
                    break;
                };
                let all = self.now * self.rate + end;
                if transfer.came + CLOSE_S * self.rate + CLOSE_PART * all < end {
                    break;
                }
                transfer.files.pop();
                there.push(file);
            }
        }
        self.transfers.retain(|it| !it.files.is_empty());
        there
    }

    fn share(&self) -> f64 {
        let flowing = self.transfers.iter().filter(|it| it.flows_at <= self.now);
        self.rate / (flowing.count().max(1) as f64)
    }
}
