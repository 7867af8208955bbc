//! A request under way, and what its end tells of the server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::conditions::{Ended, Transfer};
use super::endpoint::{Endpoint, State, now};

/// Weight of the latest read in the usual time to an answer's head.
const LATEST: f64 = 0.2;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With what was asked for.
    Well,
    /// With a no: the server lives.
    Refused,
    /// The server says that it is too much for it.
    TooMuch,
    /// With no answer, or one that shows a server in trouble.
    Failed,
    /// Another server was faster with these many bytes.
    Outrun(u64),
    /// Nobody wants to know any more.
    Abandoned,
}

/// A request under way. One that is dropped before it ended was abandoned,
/// which says nothing about the server.
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

    /// It may be dropped because another one is faster; then the bytes that
    /// one brought are in `race`.
    pub fn in_race(&mut self, race: &'a AtomicU64) {
        self.race = Some(race);
    }

    /// The head of the answer is there.
    pub fn answered(&mut self) {
        let now = now();
        let mut state = self.endpoint.state();
        state.meter.answered(&mut self.transfer, now);
        state.note_head(now.saturating_duration_since(self.sent));
    }

    /// A part of its body is there.
    pub fn arrived(&mut self, bytes: usize) {
        let mut state = self.endpoint.state();
        (state.meter).arrived(&mut self.transfer, bytes as u64, now());
    }

    /// It is over. `why` it failed is told to whoever is refused because of it.
    /// Whether its server is left alone from now on.
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
            // It lives, and cannot be used: neither a success nor a failure.
            Outcome::TooMuch => {
                state.breaker.abandoned(self.probe);
                state.limit.too_much(now);
            }
            Outcome::Failed => {
                opened = state.breaker.failed(self.probe, now);
                state.failed = Some((now, why.to_owned()));
            }
            // It would have taken longer yet: so much is known.
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
            // One that took for ever is not what is usual.
            Some(usual) => usual + (took.min(usual * 4.0 + 0.05) - usual) * LATEST,
            None => took,
        });
    }
}
