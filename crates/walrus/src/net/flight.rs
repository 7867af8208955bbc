//! A request in progress, and the effect of its outcome on the server's state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::conditions::{Ended, Transfer};
use super::endpoint::{Endpoint, State, now};

/// Weight of the latest read in the average time to an answer's head.
const LATEST: f64 = 0.2;

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success.
    Well,
    /// The server is alive and refused.
    Refused,
    /// The server reported overload.
    TooMuch,
    /// No answer, or a server error.
    Failed,
    /// Another server was faster; holds the number of bytes it delivered.
    Outrun(u64),
    /// Cancelled by the caller.
    Abandoned,
}

/// A request in progress. Dropping it before its end counts as abandoned, which does not
/// affect the server's state.
#[derive(Debug)]
pub struct InFlight<'a> {
    endpoint: &'a Endpoint,
    transfer: Transfer,
    sent: Instant,
    probe: bool,
    ended: bool,
    race: Option<&'a AtomicU64>,
}

impl<'a> InFlight<'a> {
    pub(super) fn new(
        endpoint: &'a Endpoint,
        transfer: Transfer,
        sent: Instant,
        probe: bool,
    ) -> Self {
        InFlight {
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
    pub fn in_race(&mut self, race: &'a AtomicU64) {
        self.race = Some(race);
    }

    /// Records the head of the answer.
    pub fn answered(&mut self) {
        let now = now();
        let mut state = self.endpoint.state();
        state.meter.answered(&mut self.transfer, now);
        state.note_head(now.saturating_duration_since(self.sent));
    }

    /// Records a part of the body.
    pub fn arrived(&mut self, bytes: usize) {
        let mut state = self.endpoint.state();
        (state.meter).arrived(&mut self.transfer, bytes as u64, now());
    }

    /// Ends the request and returns whether this opened the breaker. `why` is the reason
    /// shown to requests that the breaker refuses.
    pub fn ended(mut self, outcome: Outcome, why: &str) -> bool {
        self.end(outcome, why)
    }

    fn end(&mut self, outcome: Outcome, why: &str) -> bool {
        if std::mem::replace(&mut self.ended, true) {
            return false;
        }
        let now = now();
        let took = now.saturating_duration_since(self.sent);
        let mut state = self.endpoint.state();
        state.limit.leave();
        let counts = match outcome {
            Outcome::Well | Outcome::Refused => Ended::Answered,
            Outcome::TooMuch | Outcome::Failed => Ended::Lost,
            Outcome::Outrun(_) | Outcome::Abandoned => Ended::Abandoned,
        };
        state.meter.ended(&self.transfer, counts, now);
        let mut opened = false;
        match outcome {
            Outcome::Well | Outcome::Refused => {
                state.breaker.succeeded(self.probe);
                state.limit.went_well();
                if self.transfer.bytes() > 0 {
                    state.latency.note(self.transfer.bytes(), took);
                }
            }
            // The server is alive but unusable: neither a success nor a failure.
            Outcome::TooMuch => {
                state.breaker.abandoned(self.probe);
                state.limit.too_much(now);
            }
            Outcome::Failed => {
                opened = state.breaker.failed(self.probe, now);
                state.failed = Some((now, why.to_owned()));
            }
            // The elapsed time is a lower bound of the read time.
            Outcome::Outrun(bytes) => {
                state.breaker.abandoned(self.probe);
                state.latency.note(bytes, took);
                if !self.transfer.is_answered() {
                    state.note_head(took);
                }
            }
            Outcome::Abandoned => state.breaker.abandoned(self.probe),
        }
        drop(state);
        self.endpoint.changed.notify_waiters();
        opened
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let brought = self.race.map_or(0, |race| race.load(Ordering::Relaxed));
        let outcome = match brought {
            0 => Outcome::Abandoned,
            bytes => Outcome::Outrun(bytes),
        };
        self.end(outcome, "");
    }
}

impl State {
    fn note_head(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.usual = Some(match self.usual {
            // Limits the effect of an outlier.
            Some(usual) => usual + (took.min(usual * 4.0 + 0.05) - usual) * LATEST,
            None => took,
        });
    }
}
