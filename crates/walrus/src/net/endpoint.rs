//! State of one server, and admission of requests to it.
//!
//! All events of a request are reported to [`InFlight`]. They determine the network
//! conditions, the usual time of a read, the state of the breaker, the limit of
//! concurrent requests, and trust. A request that is not admitted is rejected without
//! delay.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use tokio::sync::Notify;

use super::breaker::{Admission, Breaker, BreakerRules, Standing};
use super::conditions::{Conditions, Meter};
use super::flight::InFlight;
use super::latency::Latency;
use super::limit::Limit;
use super::ranking::{Candidate, Fitness};
use super::trust::Trust;
use crate::network::NetPolicy;

/// Longest wait of a request for another request's probe: enough for a server that has
/// recovered, and short for one that has not.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// Half-life of a failure in the ranking of servers, in seconds.
const FORGIVING: f64 = 60.0;
/// Least time between reports that a server is slow.
const TELL: Duration = Duration::from_secs(60);

/// Rules for every server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointRules {
    /// When to open the breaker.
    pub breaker: BreakerRules,
    /// Most concurrent requests; reduced when the server reports overload.
    pub concurrency: u32,
    /// Length of the quarantine after corrupt bytes; doubles each time.
    pub quarantine: Duration,
}

impl Default for EndpointRules {
    fn default() -> Self {
        EndpointRules {
            breaker: BreakerRules::default(),
            concurrency: 32,
            quarantine: Duration::from_secs(600),
        }
    }
}

impl EndpointRules {
    /// Takes the rules from the settings.
    pub fn of(policy: &NetPolicy) -> Self {
        EndpointRules {
            breaker: BreakerRules {
                failures: policy.breaker_failures,
                open: Duration::from_millis(policy.breaker_open_ms),
                successes: policy.breaker_successes,
            },
            concurrency: policy.concurrency,
            quarantine: Duration::from_secs(policy.quarantine_s),
        }
    }
}

/// Reason that a request is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// The breaker is open after too many failures.
    Open {
        /// Time until the next probe.
        due: Duration,
        /// The last failure.
        why: String,
    },
    /// A probe is in progress.
    Probing,
    /// The server requested a pause; holds its remaining time.
    Pausing(Duration),
}

/// A server that receives requests.
#[derive(Debug)]
pub struct Endpoint {
    url: Url,
    name: String,
    rules: EndpointRules,
    state: Mutex<State>,
    /// Signals a free slot or the end of a probe.
    pub(super) changed: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) meter: Meter,
    pub(super) latency: Latency,
    pub(super) breaker: Breaker,
    pub(super) limit: Limit,
    trust: Trust,
    /// Usual time to the head of an answer, in seconds.
    pub(super) usual: Option<f64>,
    asked: Option<Instant>,
    pub(super) failed: Option<(Instant, String)>,
    not_before: Option<Instant>,
    told: Option<Instant>,
    /// Until when the server counts as ignoring ranges.
    whole_until: Option<Instant>,
}

/// State of a server, for display.
#[derive(Clone, Debug, PartialEq)]
pub struct Knowledge {
    /// Network conditions.
    pub conditions: Option<Conditions>,
    /// State of the breaker.
    pub standing: Standing,
    /// Time until the next probe, if the breaker is open.
    pub probe_in: Option<Duration>,
    /// Remaining time in quarantine.
    pub quarantine: Option<Duration>,
    /// Proven corrupt answers.
    pub lies: u32,
    /// Limit of concurrent requests.
    pub at_once: u32,
}

impl Endpoint {
    /// Creates a server without any measurements.
    pub fn new(url: Url, rules: EndpointRules) -> Self {
        let state = State {
            meter: Meter::default(),
            latency: Latency::default(),
            breaker: Breaker::new(rules.breaker),
            limit: Limit::new(rules.concurrency),
            trust: Trust::default(),
            usual: None,
            asked: None,
            failed: None,
            not_before: None,
            told: None,
            whole_until: None,
        };
        let mut shown = url.clone();
        // Fails only for a URL that cannot have credentials.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        Endpoint {
            url,
            name: shown.into(),
            rules,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// URL of the server.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// URL without credentials, for display.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for a free slot among the concurrent requests; the caller may then send
    /// one.
    ///
    /// # Errors
    /// [`NotNow`], usually without delay.
    pub async fn enter(&self) -> Result<InFlight<'_>, NotNow> {
        let looked = tokio::time::Instant::now();
        loop {
            let mut changed = pin!(self.changed.notified());
            // Later changes are not missed.
            changed.as_mut().enable();
            let admission = match self.try_enter()? {
                Ok(flight) => return Ok(flight),
                Err(admission) => admission,
            };
            match admission {
                Admission::Probing => {
                    let end = looked + PROBE_PATIENCE;
                    if tokio::time::timeout_at(end, changed).await.is_err() {
                        return Err(NotNow::Probing);
                    }
                }
                _ => changed.await,
            }
        }
    }

    /// Admits a request, or returns the reason to wait.
    fn try_enter(&self) -> Result<Result<InFlight<'_>, Admission>, NotNow> {
        let now = now();
        let mut state = self.state();
        if let Some(pause) = (state.not_before).and_then(|at| at.checked_duration_since(now))
            && !pause.is_zero()
        {
            return Err(NotNow::Pausing(pause));
        }
        let admission = state.breaker.outlook(now);
        let probe = match admission {
            Admission::Free => false,
            Admission::Probe => true,
            Admission::Probing => return Ok(Err(admission)),
            Admission::NotBefore(at) => {
                return Err(NotNow::Open {
                    due: at.saturating_duration_since(now),
                    why: state
                        .failed
                        .as_ref()
                        .map_or_else(String::new, |f| f.1.clone()),
                });
            }
        };
        if !state.limit.enter() {
            return Ok(Err(admission));
        }
        state.breaker.admit(now);
        state.asked = Some(now);
        let transfer = state.meter.sent(now);
        Ok(Ok(InFlight::new(self, transfer, now, probe)))
    }

    /// Network conditions; `None` before the first answer.
    pub fn conditions(&self) -> Option<Conditions> {
        self.state().meter.conditions()
    }

    /// Whether the server has answered any request, with any status.
    pub fn has_answered(&self) -> bool {
        self.state().usual.is_some()
    }

    /// Time within which `percentile` of 100 reads of this size end; `None` without
    /// enough measurements.
    pub fn usual(&self, bytes: u64, percentile: u8) -> Option<Duration> {
        let state = self.state();
        let like_it = state.latency.percentile(bytes, percentile);
        like_it.or_else(|| {
            // A generous estimate from small reads and the bandwidth.
            let small = state.latency.percentile(0, percentile)?;
            let bandwidth = state.meter.conditions()?.bandwidth?.max(1);
            let body = Duration::try_from_secs_f64(bytes as f64 / bandwidth as f64).ok()?;
            Some(small + body * 2)
        })
    }

    /// Records a pause that the server requested.
    pub fn pause(&self, pause: Duration) {
        let until = now() + pause;
        let mut state = self.state();
        state.not_before = Some(state.not_before.map_or(until, |at| at.max(until)));
    }

    /// Records corrupt bytes where another server's bytes were accepted; returns whether
    /// this starts a quarantine.
    pub fn lied(&self) -> bool {
        let first = self.rules.quarantine;
        self.state().trust.lied(first, now())
    }

    /// Records that the server did not answer before the deadline; returns whether this
    /// opened the breaker.
    pub fn is_silent(&self, why: &str) -> bool {
        let now = now();
        let mut state = self.state();
        let probe = state.breaker.standing() == Standing::HalfOpen;
        state.failed = Some((now, why.to_owned()));
        state.breaker.failed(probe, now)
    }

    /// Whether to report that the server is slow: at most once a minute.
    pub fn tell_slow(&self) -> bool {
        let now = now();
        let mut state = self.state();
        let tell = (state.told).is_none_or(|at| now.saturating_duration_since(at) >= TELL);
        if tell {
            state.told = Some(now);
        }
        tell
    }

    /// Records that the server ignored a range; returns whether this is new. Other
    /// servers take precedence for the length of a quarantine.
    pub fn ignores_ranges(&self) -> bool {
        let now = now();
        let until = now + self.rules.quarantine;
        let known = self.state().whole_until.replace(until);
        known.is_none_or(|at| at <= now)
    }

    /// Makes an open breaker due for a probe after the machine woke up or changed
    /// networks.
    pub fn look_again(&self) {
        self.state().breaker.look_again(now());
    }

    /// Whether the breaker would refuse a request now.
    pub fn is_open(&self) -> bool {
        matches!(self.state().breaker.outlook(now()), Admission::NotBefore(_))
    }

    /// Returns the state of the server.
    pub fn knowledge(&self) -> Knowledge {
        let now = now();
        let state = self.state();
        let standing = state.breaker.standing();
        Knowledge {
            conditions: state.meter.conditions(),
            standing,
            probe_in: match standing {
                Standing::Open(due) => Some(due.saturating_duration_since(now)),
                _ => None,
            },
            quarantine: state.trust.left(now),
            lies: state.trust.lies(),
            at_once: state.limit.at_once(),
        }
    }

    /// Returns the server as a candidate for a read of `bytes` bytes.
    pub(super) fn candidate(&self, bytes: u64) -> Candidate {
        let now = now();
        let state = self.state();
        let fitness = match state.breaker.outlook(now) {
            Admission::NotBefore(_) => Fitness::Open,
            _ if state.trust.quarantined(now) => Fitness::Quarantined,
            _ if state.not_before.is_some_and(|at| at > now) => Fitness::Pausing,
            Admission::Probe | Admission::Probing => Fitness::Due,
            Admission::Free if state.whole_until.is_some_and(|at| at > now) => Fitness::Wasteful,
            Admission::Free => Fitness::Fit,
        };
        let bandwidth = state.meter.conditions().and_then(|c| c.bandwidth);
        let body = bandwidth.map_or(0.0, |rate| bytes as f64 / rate.max(1) as f64);
        let expected = (state.usual).and_then(|head| Duration::try_from_secs_f64(head + body).ok());
        let since = state.failed.as_ref().map_or(0.0, |(at, _)| {
            now.saturating_duration_since(*at).as_secs_f64()
        });
        Candidate {
            fitness,
            expected,
            loss: state.meter.loss() * 0.5f64.powf(since / FORGIVING),
            asked: state.asked,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Present time by the runtime's clock, which tests can advance.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::super::flight::Outcome;
    use super::*;

    fn endpoint(rules: EndpointRules) -> Endpoint {
        Endpoint::new("http://127.0.0.1:1/".parse().unwrap(), rules)
    }

    async fn end(endpoint: &Endpoint, outcome: Outcome) -> bool {
        endpoint
            .enter()
            .await
            .unwrap()
            .ended(outcome, "it is broken")
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_failed_is_left_alone_and_says_why() {
        let it = endpoint(EndpointRules::default());
        for _ in 0..4 {
            assert!(!end(&it, Outcome::Failed).await);
        }
        assert!(end(&it, Outcome::Failed).await);
        let NotNow::Open { due, why } = it.enter().await.unwrap_err() else {
            panic!("not open");
        };
        assert_eq!((due.as_secs(), why.as_str()), (30, "it is broken"));
        assert!(it.is_open());
        it.look_again();
        assert!(
            it.enter().await.is_ok(),
            "a machine that woke up looks at once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_it_is_probed_waits_for_the_outcome() {
        let it = endpoint(EndpointRules::default());
        for _ in 0..5 {
            end(&it, Outcome::Failed).await;
        }
        tokio::time::advance(Duration::from_secs(31)).await;
        let probe = it.enter().await.unwrap();
        let (second, ()) = tokio::join!(it.enter(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            probe.ended(Outcome::Well, "");
        });
        second.unwrap().ended(Outcome::Well, "");
        let all = [it.enter().await, it.enter().await, it.enter().await];
        assert!(all.iter().all(Result::is_ok), "closed again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_holds_nobody_up_for_long() {
        let it = endpoint(EndpointRules::default());
        for _ in 0..5 {
            end(&it, Outcome::Failed).await;
        }
        tokio::time::advance(Duration::from_secs(31)).await;
        let _probe = it.enter().await.unwrap();
        assert_eq!(it.enter().await.unwrap_err(), NotNow::Probing);
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_waited_for_and_fewer_after_too_much() {
        let it = endpoint(EndpointRules {
            concurrency: 2,
            ..EndpointRules::default()
        });
        let (one, two) = (it.enter().await.unwrap(), it.enter().await.unwrap());
        let (third, ()) = tokio::join!(it.enter(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(one);
        });
        two.ended(Outcome::TooMuch, "");
        assert_eq!(it.knowledge().at_once, 1);
        let more = tokio::time::timeout(Duration::from_secs(5), it.enter()).await;
        assert!(more.is_err(), "one at once now");
        drop(third);
        it.pause(Duration::from_secs(7));
        let pause = Duration::from_secs(7);
        assert_eq!(it.enter().await.unwrap_err(), NotNow::Pausing(pause));
        tokio::time::advance(pause).await;
        assert!(it.enter().await.is_ok());
        assert!(!it.is_open(), "too much is not broken");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_outrun_is_known_to_be_slow() {
        let it = endpoint(EndpointRules::default());
        let read = async |ms, outcome| {
            let mut flight = it.enter().await.unwrap();
            tokio::time::advance(Duration::from_millis(ms)).await;
            if outcome == Outcome::Well {
                flight.answered();
                flight.arrived(1000);
            }
            flight.ended(outcome, "");
        };
        for _ in 0..40 {
            read(10, Outcome::Well).await;
        }
        let before = it.candidate(1000).expected.unwrap();
        assert!(it.usual(1000, 95).unwrap() < Duration::from_millis(13));
        for _ in 0..10 {
            read(300, Outcome::Outrun(1000)).await;
        }
        assert!(it.candidate(1000).expected.unwrap() > before * 10);
        assert!(it.usual(1000, 95).unwrap() > Duration::from_millis(250));
    }
}
