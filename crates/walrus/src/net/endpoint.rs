//! State of one server, and admission of requests to it.
//!
//! All events of a request are reported to [`RequestGuard`]. They determine the network
//! conditions, the usual time of a read, the state of the breaker, the limit of
//! concurrent requests, and trust. A request that is not admitted is rejected without
//! delay.

use std::pin::pin;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::Url;
use tokio::sync::Notify;

use super::breaker::{Admission, Breaker, BreakerState};
use super::concurrency_limit::ConcurrencyLimit;
use super::conditions::{Conditions, ConditionsMeter};
use super::health::{EndpointHealth, Role};
use super::integrity::IntegrityRecord;
use super::latency::Latencies;
use super::ranking::{Availability, Candidate};
use super::request_guard::RequestGuard;
use crate::network::NetPolicy;

/// Longest wait of a request for another request's probe: enough for a server that has
/// recovered, and short for one that has not.
const PROBE_WAIT: Duration = Duration::from_secs(2);
/// Half-life of a failure in the ranking of servers, in seconds.
const FAILURE_HALF_LIFE_S: f64 = 60.0;
/// Least time between reports that a server is slow.
const SLOW_REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Weight of the latest read in the average time to an answer's head.
const LATEST_HEAD_WEIGHT: f64 = 0.2;

/// Reason that a request is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// The breaker is open after too many failures.
    BreakerOpen {
        /// Time until the next probe.
        probe_in: Duration,
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
pub(crate) struct Endpoint {
    url: Url,
    name: String,
    quarantine: Duration,
    pub(super) state: Mutex<EndpointState>,
    /// Signals a free slot or the end of a probe.
    pub(super) changed: Notify,
}

#[derive(Debug)]
pub(super) struct EndpointState {
    pub(super) meter: ConditionsMeter,
    pub(super) latencies: Latencies,
    pub(super) breaker: Breaker,
    pub(super) limit: ConcurrencyLimit,
    integrity: IntegrityRecord,
    /// Average time to the head of an answer, in seconds.
    head_time: Option<f64>,
    last_request: Option<Instant>,
    pub(super) last_failure: Option<(Instant, String)>,
    /// End of a pause that the server requested.
    paused_until: Option<Instant>,
    last_slow_report: Option<Instant>,
    /// Until when the server counts as ignoring ranges.
    ignores_ranges_until: Option<Instant>,
}

impl EndpointState {
    /// Records the time to the head of an answer.
    pub(super) fn record_head(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.head_time = Some(match self.head_time {
            // Limits the effect of an outlier.
            Some(usual) => usual + (took.min(usual * 4.0 + 0.05) - usual) * LATEST_HEAD_WEIGHT,
            None => took,
        });
    }
}

impl Endpoint {
    /// Creates a server without any measurements.
    pub(crate) fn new(url: Url, policy: &NetPolicy) -> Self {
        let state = EndpointState {
            meter: ConditionsMeter::default(),
            latencies: Latencies::default(),
            breaker: Breaker::new(policy),
            limit: ConcurrencyLimit::new(policy.concurrency),
            integrity: IntegrityRecord::default(),
            head_time: None,
            last_request: None,
            last_failure: None,
            paused_until: None,
            last_slow_report: None,
            ignores_ranges_until: None,
        };
        let mut shown = url.clone();
        // Fails only for a URL that cannot have credentials.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        Endpoint {
            url,
            name: shown.into(),
            quarantine: Duration::from_secs(policy.quarantine_s),
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// URL without credentials, for display.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits for a free slot among the concurrent requests; the caller may then send
    /// one.
    ///
    /// # Errors
    /// [`Unavailable`], usually without delay.
    pub(crate) async fn admit(&self) -> Result<RequestGuard<'_>, Unavailable> {
        let probe_end = tokio::time::Instant::now() + PROBE_WAIT;
        loop {
            let mut changed = pin!(self.changed.notified());
            // Later changes are not missed.
            changed.as_mut().enable();
            match self.try_admit()? {
                Ok(guard) => return Ok(guard),
                Err(Admission::Probing) => {
                    if tokio::time::timeout_at(probe_end, changed).await.is_err() {
                        return Err(Unavailable::Probing);
                    }
                }
                Err(_) => changed.await,
            }
        }
    }

    /// Admits a request, or returns the reason to wait.
    fn try_admit(&self) -> Result<Result<RequestGuard<'_>, Admission>, Unavailable> {
        let now = now();
        let mut state = self.state.lock();
        if let Some(pause) = (state.paused_until).and_then(|at| at.checked_duration_since(now))
            && !pause.is_zero()
        {
            return Err(Unavailable::Pausing(pause));
        }
        let admission = state.breaker.outlook(now);
        let probe = match admission {
            Admission::Free => false,
            Admission::Probe => true,
            Admission::Probing => return Ok(Err(admission)),
            Admission::NotBefore(at) => {
                let why = state.last_failure.as_ref().map(|(_, why)| why.clone());
                return Err(Unavailable::BreakerOpen {
                    probe_in: at.saturating_duration_since(now),
                    why: why.unwrap_or_default(),
                });
            }
        };
        if !state.limit.acquire() {
            return Ok(Err(admission));
        }
        state.breaker.admit(now);
        state.last_request = Some(now);
        let transfer = state.meter.sent(now);
        Ok(Ok(RequestGuard::new(self, transfer, now, probe)))
    }

    /// Network conditions; `None` before the first answer.
    pub(crate) fn conditions(&self) -> Option<Conditions> {
        self.state.lock().meter.conditions()
    }

    /// Whether the server has answered any request, with any status.
    pub(crate) fn has_answered(&self) -> bool {
        self.state.lock().head_time.is_some()
    }

    /// Time within which `percentile` of 100 reads of this size end; `None` without
    /// enough measurements.
    pub(crate) fn usual_time(&self, bytes: u64, percentile: u8) -> Option<Duration> {
        let state = self.state.lock();
        let measured = state.latencies.percentile(bytes, percentile);
        measured.or_else(|| {
            // A generous estimate from small reads and the bandwidth.
            let small = state.latencies.percentile(0, percentile)?;
            let bandwidth = state.meter.conditions()?.bandwidth?.max(1);
            let body = Duration::try_from_secs_f64(bytes as f64 / bandwidth as f64).ok()?;
            Some(small + body * 2)
        })
    }

    /// Records a pause that the server requested.
    pub(crate) fn pause(&self, pause: Duration) {
        let until = Some(now() + pause);
        let mut state = self.state.lock();
        state.paused_until = state.paused_until.max(until);
    }

    /// Records corrupt bytes where another server's bytes were accepted; returns whether
    /// this starts a quarantine.
    pub(crate) fn record_integrity_violation(&self) -> bool {
        let mut state = self.state.lock();
        state.integrity.record_violation(self.quarantine, now())
    }

    /// Records that the server did not answer before the deadline; returns whether this
    /// opened the breaker.
    pub(crate) fn record_timeout(&self, why: &str) -> bool {
        let now = now();
        let mut state = self.state.lock();
        let probe = state.breaker.state() == BreakerState::HalfOpen;
        state.last_failure = Some((now, why.to_owned()));
        state.breaker.failed(probe, now)
    }

    /// Whether to report that the server is slow: at most once a minute.
    pub(crate) fn should_report_slow(&self) -> bool {
        let now = now();
        let last = &mut self.state.lock().last_slow_report;
        let due = last.is_none_or(|at| now.saturating_duration_since(at) >= SLOW_REPORT_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }

    /// Records that the server ignored a range; returns whether this is new. Other
    /// servers take precedence for the length of a quarantine.
    pub(crate) fn record_ignored_range(&self) -> bool {
        let now = now();
        let until = now + self.quarantine;
        let before = self.state.lock().ignores_ranges_until.replace(until);
        before.is_none_or(|at| at <= now)
    }

    /// Makes an open breaker due for a probe after the machine woke up or changed
    /// networks.
    pub(crate) fn probe_now(&self) {
        self.state.lock().breaker.probe_now(now());
    }

    /// Whether the breaker would refuse a request now.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.state.lock();
        matches!(state.breaker.outlook(now()), Admission::NotBefore(_))
    }

    /// Returns the state of the server, for display.
    pub(crate) fn health(&self, role: Role) -> EndpointHealth {
        let now = now();
        let state = self.state.lock();
        EndpointHealth {
            url: self.name.clone(),
            role,
            // A publisher's response time includes encoding and certifying.
            conditions: (state.meter.conditions()).filter(|_| role == Role::Aggregator),
            breaker: state.breaker.state(),
            probe_in_s: state.breaker.probe_in(now).map(|left| left.as_secs()),
            quarantined_s: (state.integrity.quarantine_left(now)).map(|left| left.as_secs()),
            integrity_violations: state.integrity.violations(),
            concurrency_limit: state.limit.current(),
        }
    }

    /// Returns the server as a candidate for a read of `bytes` bytes.
    pub(super) fn candidate(&self, bytes: u64) -> Candidate {
        let now = now();
        let state = self.state.lock();
        let later = |at: Option<Instant>| at.is_some_and(|at| at > now);
        let availability = match state.breaker.outlook(now) {
            Admission::NotBefore(_) => Availability::BreakerOpen,
            _ if state.integrity.quarantined(now) => Availability::Quarantined,
            _ if later(state.paused_until) => Availability::Pausing,
            Admission::Probe | Admission::Probing => Availability::ProbeDue,
            Admission::Free if later(state.ignores_ranges_until) => Availability::IgnoresRanges,
            Admission::Free => Availability::Available,
        };
        let bandwidth = state.meter.conditions().and_then(|c| c.bandwidth);
        let body = bandwidth.map_or(0.0, |rate| bytes as f64 / rate.max(1) as f64);
        let since_failure = state.last_failure.as_ref().map_or(0.0, |(at, _)| {
            now.saturating_duration_since(*at).as_secs_f64()
        });
        Candidate {
            availability,
            expected: (state.head_time)
                .and_then(|head| Duration::try_from_secs_f64(head + body).ok()),
            loss: state.meter.loss() * 0.5f64.powf(since_failure / FAILURE_HALF_LIFE_S),
            last_request: state.last_request,
        }
    }
}

/// Present time by the runtime's clock, which tests can advance.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::super::request_guard::Outcome;
    use super::*;

    fn endpoint() -> Endpoint {
        endpoint_with(&NetPolicy::default())
    }

    fn endpoint_with(policy: &NetPolicy) -> Endpoint {
        Endpoint::new("http://127.0.0.1:1/".parse().unwrap(), policy)
    }

    async fn end(endpoint: &Endpoint, outcome: Outcome) -> bool {
        endpoint
            .admit()
            .await
            .unwrap()
            .ended(outcome, "it is broken")
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_server_gets_no_requests_and_the_error_has_its_reason() {
        let it = endpoint();
        for _ in 0..4 {
            assert!(!end(&it, Outcome::Failed).await);
        }
        assert!(end(&it, Outcome::Failed).await);
        let Unavailable::BreakerOpen { probe_in, why } = it.admit().await.unwrap_err() else {
            panic!("not open");
        };
        assert_eq!((probe_in.as_secs(), why.as_str()), (30, "it is broken"));
        assert!(it.is_open());
        it.probe_now();
        assert!(
            it.admit().await.is_ok(),
            "a machine that woke up looks at once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_during_a_probe_waits_for_its_outcome() {
        let it = endpoint();
        for _ in 0..5 {
            end(&it, Outcome::Failed).await;
        }
        tokio::time::advance(Duration::from_secs(31)).await;
        let probe = it.admit().await.unwrap();
        let (second, ()) = tokio::join!(it.admit(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            probe.ended(Outcome::Success, "");
        });
        second.unwrap().ended(Outcome::Success, "");
        let all = [it.admit().await, it.admit().await, it.admit().await];
        assert!(all.iter().all(Result::is_ok), "closed again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_probe_delays_other_requests_only_briefly() {
        let it = endpoint();
        for _ in 0..5 {
            end(&it, Outcome::Failed).await;
        }
        tokio::time::advance(Duration::from_secs(31)).await;
        let _probe = it.admit().await.unwrap();
        assert_eq!(it.admit().await.unwrap_err(), Unavailable::Probing);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_slots_and_overload_reduces_their_number() {
        let it = endpoint_with(&NetPolicy {
            concurrency: 2,
            ..NetPolicy::default()
        });
        let (one, two) = (it.admit().await.unwrap(), it.admit().await.unwrap());
        let (third, ()) = tokio::join!(it.admit(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(one);
        });
        two.ended(Outcome::Overloaded, "");
        assert_eq!(it.health(Role::Aggregator).concurrency_limit, 1);
        let more = tokio::time::timeout(Duration::from_secs(5), it.admit()).await;
        assert!(more.is_err(), "one at once now");
        drop(third);
        it.pause(Duration::from_secs(7));
        let pause = Duration::from_secs(7);
        assert_eq!(it.admit().await.unwrap_err(), Unavailable::Pausing(pause));
        tokio::time::advance(pause).await;
        assert!(it.admit().await.is_ok());
        assert!(!it.is_open(), "too much is not broken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_race_counts_as_slow() {
        let it = endpoint();
        let read = async |ms, outcome| {
            let mut guard = it.admit().await.unwrap();
            tokio::time::advance(Duration::from_millis(ms)).await;
            if outcome == Outcome::Success {
                guard.answered();
                guard.arrived(1000);
            }
            guard.ended(outcome, "");
        };
        for _ in 0..40 {
            read(10, Outcome::Success).await;
        }
        let before = it.candidate(1000).expected.unwrap();
        assert!(it.usual_time(1000, 95).unwrap() < Duration::from_millis(13));
        for _ in 0..10 {
            read(300, Outcome::LostRace(1000)).await;
        }
        assert!(it.candidate(1000).expected.unwrap() > before * 10);
        assert!(it.usual_time(1000, 95).unwrap() > Duration::from_millis(250));
    }
}
