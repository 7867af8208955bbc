//! A request in progress, and the effect of its outcome on the server's state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::conditions::{Transfer, TransferEnd};
use super::endpoint::{Endpoint, now};

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// The server is alive and refused.
    Refused,
    Overloaded,
    /// No answer, or a server error.
    Failed,
    /// Another server was faster; holds the number of bytes it delivered.
    LostRace(u64),
    /// Cancelled by the caller.
    Abandoned,
}

/// A request in progress. Dropping it before its end counts as abandoned, which does not
/// affect the server's state.
#[derive(Debug)]
pub(crate) struct RequestGuard<'a> {
    endpoint: &'a Endpoint,
    transfer: Transfer,
    sent: Instant,
    probe: bool,
    ended: bool,
    race: Option<&'a AtomicU64>,
}

impl<'a> RequestGuard<'a> {
    pub(super) fn new(
        endpoint: &'a Endpoint,
        transfer: Transfer,
        sent: Instant,
        probe: bool,
    ) -> Self {
        RequestGuard {
            endpoint,
            transfer,
            sent,
            probe,
            ended: false,
            race: None,
        }
    }

    /// Marks the request as one that is dropped if another is faster; `race` then holds
    /// the bytes delivered by the other.
    pub(crate) fn in_race(&mut self, race: &'a AtomicU64) {
        self.race = Some(race);
    }

    /// Records the head of the answer.
    pub(crate) fn answered(&mut self) {
        let now = now();
        let mut state = self.endpoint.state.lock();
        state.meter.answered(&mut self.transfer, now);
        state.record_head(now.saturating_duration_since(self.sent));
    }

    /// Records a part of the body.
    pub(crate) fn arrived(&mut self, bytes: usize) {
        let mut state = self.endpoint.state.lock();
        (state.meter).arrived(&mut self.transfer, bytes as u64, now());
    }

    /// Ends the request and returns whether this opened the breaker. `why` is the reason
    /// shown to requests that the breaker refuses.
    pub(crate) fn ended(mut self, outcome: Outcome, why: &str) -> bool {
        self.end(outcome, why)
    }

    fn end(&mut self, outcome: Outcome, why: &str) -> bool {
        if std::mem::replace(&mut self.ended, true) {
            return false;
        }
        let now = now();
        let took = now.saturating_duration_since(self.sent);
        let mut state = self.endpoint.state.lock();
        state.limit.release();
        let end = match outcome {
            Outcome::Success | Outcome::Refused => TransferEnd::Answered,
            Outcome::Overloaded | Outcome::Failed => TransferEnd::Lost,
            Outcome::LostRace(_) | Outcome::Abandoned => TransferEnd::Abandoned,
        };
        state.meter.ended(&self.transfer, end, now);
        let mut opened = false;
        match outcome {
            Outcome::Success | Outcome::Refused => {
                state.breaker.succeeded(self.probe);
                state.limit.succeeded();
                if self.transfer.bytes() > 0 {
                    state.latencies.record(self.transfer.bytes(), took);
                }
            }
            // The server is alive but unusable: neither a success nor a failure.
            Outcome::Overloaded => {
                state.breaker.abandoned(self.probe);
                state.limit.overloaded(now);
            }
            Outcome::Failed => {
                opened = state.breaker.failed(self.probe, now);
                state.last_failure = Some((now, why.to_owned()));
            }
            // The elapsed time is a lower bound of the read time.
            Outcome::LostRace(bytes) => {
                state.breaker.abandoned(self.probe);
                state.latencies.record(bytes, took);
                if !self.transfer.is_answered() {
                    state.record_head(took);
                }
            }
            Outcome::Abandoned => state.breaker.abandoned(self.probe),
        }
        drop(state);
        self.endpoint.changed.notify_waiters();
        opened
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        let delivered = self.race.map_or(0, |race| race.load(Ordering::Relaxed));
        let outcome = match delivered {
            0 => Outcome::Abandoned,
            bytes => Outcome::LostRace(bytes),
        };
        self.end(outcome, "");
    }
}
