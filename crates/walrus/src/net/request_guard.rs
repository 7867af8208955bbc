//! Admission of a request to a server, and the effect of its outcome on the server's state.
//!
//! A request that is not admitted is rejected without delay.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::breaker::Admission;
use super::conditions::{Transfer, TransferEnd};
use super::endpoint::{Endpoint, now};

/// Longest wait of a request for another request's probe: enough for a server that has
/// recovered, and short for one that has not.
const PROBE_WAIT: Duration = Duration::from_secs(2);

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

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
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

impl Endpoint {
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
}

impl<'a> RequestGuard<'a> {
    fn new(endpoint: &'a Endpoint, transfer: Transfer, sent: Instant, probe: bool) -> Self {
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
    pub(crate) fn ended(mut self, outcome: RequestOutcome, why: &str) -> bool {
        self.end(outcome, why)
    }

    fn end(&mut self, outcome: RequestOutcome, why: &str) -> bool {
        if std::mem::replace(&mut self.ended, true) {
            return false;
        }
        let now = now();
        let took = now.saturating_duration_since(self.sent);
        let mut state = self.endpoint.state.lock();
        state.limit.release();
        let end = match outcome {
            RequestOutcome::Success | RequestOutcome::Refused => TransferEnd::Answered,
            RequestOutcome::Overloaded | RequestOutcome::Failed => TransferEnd::Lost,
            RequestOutcome::LostRace(_) | RequestOutcome::Abandoned => TransferEnd::Abandoned,
        };
        state.meter.ended(&self.transfer, end, now);
        let mut opened = false;
        match outcome {
            RequestOutcome::Success | RequestOutcome::Refused => {
                state.breaker.succeeded(self.probe);
                state.limit.succeeded();
                if self.transfer.bytes() > 0 {
                    state.latencies.record(self.transfer.bytes(), took);
                }
            }
            // The server is alive but unusable: neither a success nor a failure.
            RequestOutcome::Overloaded => {
                state.breaker.abandoned(self.probe);
                state.limit.overloaded(now);
            }
            RequestOutcome::Failed => {
                opened = state.breaker.failed(self.probe, now);
                state.last_failure = Some((now, why.to_owned()));
            }
            // The elapsed time is a lower bound of the read time.
            RequestOutcome::LostRace(bytes) => {
                state.breaker.abandoned(self.probe);
                state.latencies.record(bytes, took);
                if !self.transfer.is_answered() {
                    state.record_head(took);
                }
            }
            RequestOutcome::Abandoned => state.breaker.abandoned(self.probe),
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
            0 => RequestOutcome::Abandoned,
            bytes => RequestOutcome::LostRace(bytes),
        };
        self.end(outcome, "");
    }
}

#[cfg(test)]
mod tests {
    use super::super::health::Role;
    use super::*;
    use crate::network::NetPolicy;

    fn endpoint() -> Endpoint {
        endpoint_with(&NetPolicy::default())
    }

    fn endpoint_with(policy: &NetPolicy) -> Endpoint {
        Endpoint::new("http://127.0.0.1:1/".parse().unwrap(), policy)
    }

    async fn end(endpoint: &Endpoint, outcome: RequestOutcome) -> bool {
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
            assert!(!end(&it, RequestOutcome::Failed).await);
        }
        assert!(end(&it, RequestOutcome::Failed).await);
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
            end(&it, RequestOutcome::Failed).await;
        }
        tokio::time::advance(Duration::from_secs(31)).await;
        let probe = it.admit().await.unwrap();
        let (second, ()) = tokio::join!(it.admit(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            probe.ended(RequestOutcome::Success, "");
        });
        second.unwrap().ended(RequestOutcome::Success, "");
        let all = [it.admit().await, it.admit().await, it.admit().await];
        assert!(all.iter().all(Result::is_ok), "closed again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_probe_delays_other_requests_only_briefly() {
        let it = endpoint();
        for _ in 0..5 {
            end(&it, RequestOutcome::Failed).await;
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
        two.ended(RequestOutcome::Overloaded, "");
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
            if outcome == RequestOutcome::Success {
                guard.answered();
                guard.arrived(1000);
            }
            guard.ended(outcome, "");
        };
        for _ in 0..40 {
            read(10, RequestOutcome::Success).await;
        }
        let before = it.candidate(1000).expected.unwrap();
        assert!(it.usual_time(1000, 95).unwrap() < Duration::from_millis(13));
        for _ in 0..10 {
            read(300, RequestOutcome::LostRace(1000)).await;
        }
        assert!(it.candidate(1000).expected.unwrap() > before * 10);
        assert!(it.usual_time(1000, 95).unwrap() > Duration::from_millis(250));
    }
}
