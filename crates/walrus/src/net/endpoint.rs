//! One server: what is known about it, and who may ask it now.
//!
//! Everything that happens to a request is told ([`InFlight`]), and from it
//! follow the conditions of the way, the usual time of a read, whether its
//! breaker is open, how many requests it gets at once, and whether it is
//! trusted. A request that is not let through costs nobody any time.

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

/// How long a request waits for somebody else's probe of a server that was
/// gone: enough for one that is back, and soon over for one that is not.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// A failure is half forgotten after so long, when servers are compared.
const FORGIVING: f64 = 60.0;
/// How often at most it is told that a server is slow.
const TELL: Duration = Duration::from_secs(60);

/// How any server is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointRules {
    /// When it is left alone.
    pub breaker: BreakerRules,
    /// Most requests at once; fewer when it says that it is too much.
    pub concurrency: u32,
    /// How long it is asked last after it lied; doubles each time.
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
    /// As the settings say.
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

/// Why a request is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// It failed too often; it is asked again in so long.
    Open {
        /// Until the next probe.
        due: Duration,
        /// What it failed with last.
        why: String,
    },
    /// It is being looked whether it is back.
    Probing,
    /// It asked not to be asked for so long.
    Pausing(Duration),
}

/// A server that requests go to.
#[derive(Debug)]
pub struct Endpoint {
    url: Url,
    name: String,
    rules: EndpointRules,
    state: Mutex<State>,
    /// A place became free, or a probe is over.
    pub(super) changed: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) meter: Meter,
    pub(super) latency: Latency,
    pub(super) breaker: Breaker,
    pub(super) limit: Limit,
    trust: Trust,
    /// Usual seconds to the head of an answer.
    pub(super) usual: Option<f64>,
    asked: Option<Instant>,
    pub(super) failed: Option<(Instant, String)>,
    not_before: Option<Instant>,
    told: Option<Instant>,
    /// Until when it is taken to ignore ranges.
    whole_until: Option<Instant>,
}

/// What is known about a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Knowledge {
    /// The way to it.
    pub conditions: Option<Conditions>,
    /// Whether it is asked.
    pub standing: Standing,
    /// Until the next probe, where its breaker is open.
    pub probe_in: Option<Duration>,
    /// How long it is in quarantine yet.
    pub quarantine: Option<Duration>,
    /// Proven lies.
    pub lies: u32,
    /// How many requests it gets at once.
    pub at_once: u32,
}

impl Endpoint {
    /// A server nothing is known about yet.
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
        // Only a URL that cannot have them refuses to lose them.
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

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Its URL as it may be shown: without a password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for a place among the requests to it; then one may be sent.
    ///
    /// # Errors
    /// [`NotNow`], mostly at once.
    pub async fn enter(&self) -> Result<InFlight<'_>, NotNow> {
        let looked = tokio::time::Instant::now();
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on a change is not missed.
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

    /// Goes in, or tells what there is to wait for.
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

    /// What the way to it is like; `None` before its first answer.
    pub fn conditions(&self) -> Option<Conditions> {
        self.state().meter.conditions()
    }

    /// Whether it has answered a request since it is known, with whatever status.
    pub fn has_answered(&self) -> bool {
        self.state().usual.is_some()
    }

    /// How long `percentile` of 100 reads of so many bytes take at most; `None`
    /// before enough were seen.
    pub fn usual(&self, bytes: u64, percentile: u8) -> Option<Duration> {
        let state = self.state();
        let like_it = state.latency.percentile(bytes, percentile);
        like_it.or_else(|| {
            // From small reads and the width of the link, generously.
            let small = state.latency.percentile(0, percentile)?;
            let bandwidth = state.meter.conditions()?.bandwidth?.max(1);
            let body = Duration::try_from_secs_f64(bytes as f64 / bandwidth as f64).ok()?;
            Some(small + body * 2)
        })
    }

    /// It asked not to be asked for so long.
    pub fn pause(&self, pause: Duration) {
        let until = now() + pause;
        let mut state = self.state();
        state.not_before = Some(state.not_before.map_or(until, |at| at.max(until)));
    }

    /// It gave bytes that failed where another's were good; whether it is in
    /// quarantine from now on.
    pub fn lied(&self) -> bool {
        let first = self.rules.quarantine;
        self.state().trust.lied(first, now())
    }

    /// It gave no answer until whoever asked had no time left; whether it is
    /// left alone from now on.
    pub fn is_silent(&self, why: &str) -> bool {
        let now = now();
        let mut state = self.state();
        let probe = state.breaker.standing() == Standing::HalfOpen;
        state.failed = Some((now, why.to_owned()));
        state.breaker.failed(probe, now)
    }

    /// Whether to tell that it is slow: once a minute will do.
    pub fn tell_slow(&self) -> bool {
        let now = now();
        let mut state = self.state();
        let tell = (state.told).is_none_or(|at| now.saturating_duration_since(at) >= TELL);
        if tell {
            state.told = Some(now);
        }
        tell
    }

    /// It ignored a range; whether that is news. Others are asked before it for
    /// as long as a server is in quarantine.
    pub fn ignores_ranges(&self) -> bool {
        let now = now();
        let until = now + self.rules.quarantine;
        let known = self.state().whole_until.replace(until);
        known.is_none_or(|at| at <= now)
    }

    /// The machine woke up, or changed networks: look again.
    pub fn look_again(&self) {
        self.state().breaker.look_again(now());
    }

    /// Whether a request would be refused now because it failed too often.
    pub fn is_open(&self) -> bool {
        matches!(self.state().breaker.outlook(now()), Admission::NotBefore(_))
    }

    /// What is known about it.
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

    /// It as a candidate for a read of so many bytes.
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

/// The runtime's clock, which a test can turn.
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
