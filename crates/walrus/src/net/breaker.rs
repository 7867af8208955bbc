//! Circuit breaker: stops requests to a failing server and probes whether it has
//! recovered.
//!
//! After several failures in a row, a server gets no requests for a while: each would
//! cost its time-out in vain. Then one request, the probe, is let through; after a few
//! successes in a row, all requests pass.
//!
//! ```text
//!           failures in a row                time passed
//!  Closed ────────────────────▶ Open ────────────────────▶ Half-open
//!    ▲                           ▲   ◀──────────────────────   │
//!    └───────────────────────────┼───── probe fails            │
//!              probes succeed    └──────────────────────────── ┘
//! ```
//!
//! Implemented here because `failsafe` counts by the call it wraps and lets every caller
//! through when half-open. Here one request may count for another's probe, dropped reads
//! do not count, and a refused caller learns when the next probe is due. It is forty
//! lines of a pure state machine; callers pass the time.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::network::NetPolicy;

/// Whether a request may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Send the request.
    Free,
    /// Send the request as the probe, and report its end with [`Breaker::succeeded`],
    /// [`Breaker::failed`] or [`Breaker::abandoned`].
    Probe,
    /// Another request is the probe; wait for its result.
    Probing,
    /// Do not send before this time.
    NotBefore(Instant),
}

/// State of a circuit breaker, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All requests pass.
    Closed,
    /// No requests pass, after several failures in a row.
    Open,
    /// A probe tests whether the server has recovered.
    HalfOpen,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { probing: bool, successes: u32 },
}

/// Circuit breaker of one server.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Failures in a row that open it.
    max_failures: u32,
    /// Time that it stays open before a probe.
    open_time: Duration,
    /// Successful probes in a row that close it.
    min_successes: u32,
    state: State,
}

impl Breaker {
    pub(super) fn new(policy: &NetPolicy) -> Self {
        Breaker {
            max_failures: policy.breaker_failures,
            open_time: Duration::from_millis(policy.breaker_open_ms),
            min_successes: policy.breaker_successes,
            state: State::Closed { failures: 0 },
        }
    }

    /// Decides whether a request may be sent now. At most one request at a time is an
    /// [`Admission::Probe`].
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let admission = self.outlook(now);
        if admission == Admission::Probe {
            let successes = match self.state {
                State::HalfOpen { successes, .. } => successes,
                _ => 0,
            };
            let probing = true;
            self.state = State::HalfOpen { probing, successes };
        }
        admission
    }

    /// Returns what [`Breaker::admit`] would, without changing the state.
    pub(super) fn outlook(&self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Free,
            State::Open { until } if now < until => Admission::NotBefore(until),
            State::HalfOpen { probing: true, .. } => Admission::Probing,
            State::Open { .. } | State::HalfOpen { .. } => Admission::Probe,
        }
    }

    /// Records an answered request. An answer to a request from before the breaker
    /// opened also shows that the server is alive.
    pub(super) fn succeeded(&mut self, probe: bool) {
        match self.state {
            State::Closed { .. } => self.state = State::Closed { failures: 0 },
            State::HalfOpen { successes, probing } => {
                let successes = successes + 1;
                self.state = if successes >= self.min_successes {
                    State::Closed { failures: 0 }
                } else {
                    let probing = probing && !probe;
                    State::HalfOpen { probing, successes }
                };
            }
            State::Open { .. } => {}
        }
    }

    /// Records a failed request; returns whether it opened the breaker.
    pub(super) fn failed(&mut self, probe: bool, now: Instant) -> bool {
        let opens = match &mut self.state {
            State::Closed { failures } => {
                *failures += 1;
                *failures >= self.max_failures
            }
            // A request from before the breaker opened is out of date.
            State::HalfOpen { .. } => probe,
            State::Open { .. } => false,
        };
        if opens {
            let until = now + self.open_time;
            self.state = State::Open { until };
        }
        opens
    }

    /// Records a request that ended without a result.
    pub(super) fn abandoned(&mut self, probe: bool) {
        if let State::HalfOpen { probing, .. } = &mut self.state
            && probe
        {
            *probing = false;
        }
    }

    /// Makes an open breaker due for a probe, because conditions have changed (for
    /// example, the machine woke up).
    pub(super) fn probe_now(&mut self, now: Instant) {
        if let State::Open { until } = &mut self.state {
            *until = (*until).min(now);
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Returns the time until the next probe, if the breaker is open.
    pub(super) fn probe_in(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN_TIME: Duration = Duration::from_secs(30);

    fn breaker() -> Breaker {
        Breaker::new(&NetPolicy::default())
    }

    #[test]
    fn five_consecutive_failures_open_the_breaker_and_two_probes_close_it() {
        let mut breaker = breaker();
        let now = Instant::now();
        for _ in 0..4 {
            assert!(!breaker.failed(false, now));
        }
        breaker.succeeded(false);
        for _ in 0..4 {
            assert!(!breaker.failed(false, now), "a success begins a new row");
        }
        assert!(breaker.failed(false, now));
        let due = now + OPEN_TIME;
        assert_eq!(breaker.admit(now), Admission::NotBefore(due));
        assert_eq!(breaker.admit(due), Admission::Probe);
        assert_eq!(breaker.admit(due), Admission::Probing);
        breaker.succeeded(true);
        assert_eq!(breaker.admit(due), Admission::Probe);
        breaker.succeeded(true);
        assert_eq!(breaker.admit(due), Admission::Free);
    }

    #[test]
    fn a_failed_probe_reopens_the_breaker_and_an_abandoned_one_is_repeated() {
        let mut breaker = breaker();
        let now = Instant::now();
        (0..4).for_each(|_| assert!(!breaker.failed(false, now)));
        assert!(breaker.failed(false, now));
        let due = now + OPEN_TIME;
        assert_eq!(breaker.admit(due), Admission::Probe);
        breaker.abandoned(true);
        assert_eq!(breaker.admit(due), Admission::Probe);
        assert!(breaker.failed(true, due));
        assert_eq!(breaker.admit(due), Admission::NotBefore(due + OPEN_TIME));
        breaker.probe_now(due);
        assert_eq!(breaker.admit(due), Admission::Probe);
    }

    #[derive(Clone, Copy, Debug)]
    enum BreakerAction {
        Ask,
        Succeed,
        Fail,
        Abandon,
        Wait(u64),
    }

    fn act() -> impl Strategy<Value = BreakerAction> {
        prop_oneof![
            4 => Just(BreakerAction::Ask),
            2 => Just(BreakerAction::Succeed),
            4 => Just(BreakerAction::Fail),
            1 => Just(BreakerAction::Abandon),
            2 => (0..40u64).prop_map(BreakerAction::Wait),
        ]
    }

    proptest! {
        /// Compares with a model that records the whole history.
        #[test]
        fn the_breaker_keeps_its_invariants_under_any_sequence(acts in prop::collection::vec(act(), 1..300)) {
            let mut breaker = breaker();
            let mut now = Instant::now();
            // Requests in progress, oldest first: whether each is a probe.
            let mut in_flight: Vec<bool> = Vec::new();
            let mut row = 0;
            for act in acts {
                let closed = breaker.state() == BreakerState::Closed;
                let half_open = breaker.state() == BreakerState::HalfOpen;
                if !half_open {
                    // A former probe is now an ordinary request.
                    in_flight.fill(false);
                }
                match act {
                    BreakerAction::Wait(seconds) => now += Duration::from_secs(seconds),
                    BreakerAction::Ask => {
                        let outlook = breaker.outlook(now);
                        let admission = breaker.admit(now);
                        prop_assert_eq!(outlook, admission);
                        match admission {
                            Admission::Free => in_flight.push(false),
                            Admission::Probe => {
                                prop_assert!(!in_flight.contains(&true), "two probes");
                                in_flight.push(true);
                            }
                            Admission::Probing => prop_assert!(in_flight.contains(&true)),
                            Admission::NotBefore(due) => {
                                prop_assert!(due > now && due <= now + OPEN_TIME);
                            }
                        }
                    }
                    BreakerAction::Succeed if !in_flight.is_empty() => {
                        breaker.succeeded(in_flight.remove(0));
                        row = 0;
                    }
                    BreakerAction::Fail if !in_flight.is_empty() => {
                        let probe = in_flight.remove(0);
                        row += 1;
                        let opened = breaker.failed(probe, now);
                        prop_assert_eq!(opened && closed, closed && row >= breaker.max_failures);
                        if opened {
                            row = 0;
                            prop_assert_eq!(breaker.state(), BreakerState::Open);
                            prop_assert_eq!(breaker.probe_in(now), Some(OPEN_TIME));
                        }
                        prop_assert_eq!(half_open && probe, half_open && opened);
                    }
                    BreakerAction::Abandon if !in_flight.is_empty() => breaker.abandoned(in_flight.remove(0)),
                    _ => {}
                }
            }
            // In any state, the breaker eventually lets a request through.
            for probe in in_flight.drain(..) {
                breaker.abandoned(probe);
            }
            let later = now + OPEN_TIME;
            prop_assert!(matches!(breaker.admit(later), Admission::Free | Admission::Probe));
        }
    }
}
