//! State of one server.
//!
//! All events of a request are reported to its [`RequestGuard`](super::RequestGuard). They
//! determine the network conditions, the usual time of a read, the state of the breaker, the
//! limit of concurrent requests, and trust.

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
use super::ranking::{Availability, EndpointCandidate};
use crate::network::NetPolicy;

/// Half-life of a failure in the ranking of servers, in seconds.
const FAILURE_HALF_LIFE_S: f64 = 60.0;
/// Least time between reports that a server is slow.
const SLOW_REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Weight of the latest read in the average time to an answer's head.
const LATEST_HEAD_WEIGHT: f64 = 0.2;

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
    pub(super) last_request: Option<Instant>,
    pub(super) last_failure: Option<(Instant, String)>,
    /// End of a pause that the server requested.
    pub(super) paused_until: Option<Instant>,
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
    pub(super) fn candidate(&self, bytes: u64) -> EndpointCandidate {
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
        EndpointCandidate {
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
