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

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRules {
    /// Failures in a row that open the breaker; at least 1.
    pub failures: u32,
    /// Time it stays open before a probe.
    pub open: Duration,
    /// Successful probes in a row that close it; at least 1.
    pub successes: u32,
}

impl Default for BreakerRules {
    fn default() -> Self {
        BreakerRules {
            failures: 5,
            open: Duration::from_secs(30),
            successes: 2,
        }
    }
}

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

/// State of a breaker, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// All requests pass.
    Closed,
    /// No requests pass before this time.
    Open(Instant),
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
    rules: BreakerRules,
    state: State,
}

impl Breaker {
    pub(super) fn new(rules: BreakerRules) -> Self {
        Breaker {
            rules,
            state: State::Closed { failures: 0 },
        }
    }

    /// Decides whether a request may be sent now. At most one request at a time is an
    /// [`Admission::Probe`].
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Free,
            State::Open { until } if now < until => Admission::NotBefore(until),
            State::Open { .. } => {
                self.state = State::HalfOpen {
                    probing: true,
                    successes: 0,
                };
                Admission::Probe
            }
            State::HalfOpen { probing: true, .. } => Admission::Probing,
            State::HalfOpen { successes, .. } => {
                self.state = State::HalfOpen {
                    probing: true,
                    successes,
                };
                Admission::Probe
            }
        }
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
                self.state = match successes >= self.rules.successes {
                    true => State::Closed { failures: 0 },
                    false => State::HalfOpen {
                        probing: probing && !probe,
                        successes,
                    },
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
                *failures >= self.rules.failures
            }
            // A request from before the breaker opened is out of date.
            State::HalfOpen { .. } => probe,
            State::Open { .. } => false,
        };
        if opens {
            let until = now + self.rules.open;
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
    pub(super) fn look_again(&mut self, now: Instant) {
        if let State::Open { until } = &mut self.state {
            *until = (*until).min(now);
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.state {
            State::Closed { .. } => Standing::Closed,
            State::Open { until } => Standing::Open(until),
            State::HalfOpen { .. } => Standing::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> BreakerRules {
        BreakerRules::default()
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_two_probes_close_it() {
        let mut breaker = Breaker::new(rules());
        let now = Instant::now();
        for _ in 0..4 {
            assert!(!breaker.failed(false, now));
        }
        breaker.succeeded(false);
        for _ in 0..4 {
            assert!(!breaker.failed(false, now), "a success begins a new row");
        }
        assert!(breaker.failed(false, now));
        let due = now + rules().open;
        assert_eq!(breaker.admit(now), Admission::NotBefore(due));
        assert_eq!(breaker.admit(due), Admission::Probe);
        assert_eq!(breaker.admit(due), Admission::Probing);
        breaker.succeeded(true);
        assert_eq!(breaker.admit(due), Admission::Probe);
        breaker.succeeded(true);
        assert_eq!(breaker.admit(due), Admission::Free);
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_and_an_abandoned_one_is_followed_by_another() {
        let mut breaker = Breaker::new(rules());
        let now = Instant::now();
        (0..4).for_each(|_| assert!(!breaker.failed(false, now)));
        assert!(breaker.failed(false, now));
        let due = now + rules().open;
        assert_eq!(breaker.admit(due), Admission::Probe);
        breaker.abandoned(true);
        assert_eq!(breaker.admit(due), Admission::Probe);
        assert!(breaker.failed(true, due));
        assert_eq!(breaker.admit(due), Admission::NotBefore(due + rules().open));
        breaker.look_again(due);
        assert_eq!(breaker.admit(due), Admission::Probe);
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Ask,
        Succeed,
        Fail,
        Abandon,
        Wait(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => Just(Act::Ask),
            2 => Just(Act::Succeed),
            4 => Just(Act::Fail),
            1 => Just(Act::Abandon),
            2 => (0..40u64).prop_map(Act::Wait),
        ]
    }

    proptest! {
        /// Compares with a model that records the whole history.
        #[test]
        fn whatever_happens_its_promises_hold(acts in prop::collection::vec(act(), 1..300)) {
            let mut breaker = Breaker::new(rules());
            let mut now = Instant::now();
            // Requests in progress, oldest first: whether each is a probe.
            let mut flying: Vec<bool> = Vec::new();
            let mut row = 0;
            for act in acts {
                let closed = breaker.standing() == Standing::Closed;
                let half_open = breaker.standing() == Standing::HalfOpen;
                if !half_open {
                    // A former probe is now an ordinary request.
                    flying.fill(false);
                }
                match act {
                    Act::Wait(seconds) => now += Duration::from_secs(seconds),
                    Act::Ask => {
                        let outlook = breaker.outlook(now);
                        let told = breaker.admit(now);
                        prop_assert_eq!(outlook, told);
                        match told {
                            Admission::Free => flying.push(false),
                            Admission::Probe => {
                                prop_assert!(!flying.contains(&true), "two probes");
                                flying.push(true);
                            }
                            Admission::Probing => prop_assert!(flying.contains(&true)),
                            Admission::NotBefore(due) => {
                                prop_assert!(due > now && due <= now + rules().open);
                            }
                        }
                    }
                    Act::Succeed if !flying.is_empty() => {
                        breaker.succeeded(flying.remove(0));
                        row = 0;
                    }
                    Act::Fail if !flying.is_empty() => {
                        let probe = flying.remove(0);
                        row += 1;
                        let opened = breaker.failed(probe, now);
                        prop_assert_eq!(opened && closed, closed && row >= rules().failures);
                        if opened {
                            row = 0;
                            let due = now + rules().open;
                            prop_assert_eq!(breaker.standing(), Standing::Open(due));
                        }
                        prop_assert_eq!(half_open && probe, half_open && opened);
                    }
                    Act::Abandon if !flying.is_empty() => breaker.abandoned(flying.remove(0)),
                    _ => {}
                }
            }
            // In any state, the breaker eventually lets a request through.
            for probe in flying.drain(..) {
                breaker.abandoned(probe);
            }
            let later = now + rules().open;
            prop_assert!(matches!(breaker.admit(later), Admission::Free | Admission::Probe));
        }
    }
}
