//! One operation over several attempts and endpoints: its failures and their handling.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::failed_request::FailedRequest;
use crate::StoreError;
use crate::net::{
    Consequence, Endpoint, Failure, FailureHandling, FailureKind, FailureLog, RetryObserver,
};

/// A running operation. A failure is logged once its handling is known; corrupt bytes
/// are logged once another endpoint's bytes were accepted.
pub(super) struct Operation<'a> {
    name: &'static str,
    log: &'a FailureLog,
    /// Endpoint to name if no request is in progress at the deadline.
    first: Option<&'a Endpoint>,
    /// Number of the attempt, from 1.
    attempt: AtomicU32,
    /// Whether the request may have been carried out in spite of a failure.
    ambiguous: AtomicBool,
    pending: Mutex<PendingAttempts<'a>>,
}

#[derive(Default)]
struct PendingAttempts<'a> {
    /// Endpoints with a request in progress.
    requests: Vec<&'a Endpoint>,
    failures: Vec<UnloggedFailure<'a>>,
    violations: Vec<UnloggedFailure<'a>>,
}

struct UnloggedFailure<'a> {
    endpoint: &'a Endpoint,
    kind: FailureKind,
    message: String,
    consequence: Option<Consequence>,
}

impl<'a> Operation<'a> {
    pub(super) fn new(name: &'static str, log: &'a FailureLog, endpoints: &'a [Endpoint]) -> Self {
        Operation {
            name,
            log,
            first: endpoints.first(),
            attempt: AtomicU32::new(1),
            ambiguous: AtomicBool::new(false),
            pending: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Number of the attempt, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed)
    }

    /// Runs a request to `endpoint`, and records that it is in progress.
    pub(super) async fn request<T>(
        &self,
        endpoint: &'a Endpoint,
        request: impl Future<Output = T>,
    ) -> T {
        self.pending.lock().requests.push(endpoint);
        let result = request.await;
        let requests = &mut self.pending.lock().requests;
        if let Some(index) = requests.iter().position(|it| std::ptr::eq(*it, endpoint)) {
            requests.swap_remove(index);
        }
        result
    }

    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Relaxed)
    }

    /// Records a failure of an endpoint, unless no request was sent.
    pub(super) fn failed(&self, endpoint: &'a Endpoint, failed: &FailedRequest) {
        if failed.is_ambiguous() {
            self.ambiguous.store(true, Ordering::Relaxed);
        }
        let Some(kind) = failed.kind() else {
            return;
        };
        let mut pending = self.pending.lock();
        let list = match kind {
            FailureKind::Corrupt => &mut pending.violations,
            _ => &mut pending.failures,
        };
        list.push(UnloggedFailure {
            endpoint,
            kind,
            message: failed.message().into_owned(),
            consequence: failed.consequence(),
        });
    }

    /// Logs the failures so far with this handling.
    pub(super) fn handled(&self, handling: FailureHandling) {
        let failures = std::mem::take(&mut self.pending.lock().failures);
        failures.iter().for_each(|it| self.log(it, handling));
        if handling == FailureHandling::GaveUp {
            let violations = std::mem::take(&mut self.pending.lock().violations);
            violations.iter().for_each(|it| self.log(it, handling));
        }
    }

    /// The bytes of `winner` were accepted, so the rejected bytes of others were
    /// corrupt.
    pub(super) fn accepted(&self, winner: &Endpoint) {
        let violations = std::mem::take(&mut self.pending.lock().violations);
        for mut violation in violations {
            let endpoint = violation.endpoint;
            if !std::ptr::eq(endpoint, winner) && endpoint.record_integrity_violation() {
                violation.consequence = Some(Consequence::Quarantined);
            }
            self.log(&violation, FailureHandling::FailedOver);
        }
    }

    /// `endpoint` was so slow that a hedged read was faster.
    pub(super) fn lost_race(&self, endpoint: &'a Endpoint, after: Duration) {
        if endpoint.should_report_slow() {
            let failure = UnloggedFailure {
                endpoint,
                kind: FailureKind::Slow,
                message: format!("no answer after {} ms", after.as_millis()),
                consequence: None,
            };
            self.log(&failure, FailureHandling::Hedged);
        }
    }

    fn log(&self, failure: &UnloggedFailure<'_>, handling: FailureHandling) {
        let (endpoint, kind) = (failure.endpoint.name(), failure.kind);
        let (attempt, message) = (self.attempt(), &failure.message);
        self.log.record(Failure {
            consequence: failure.consequence,
            ..Failure::now(endpoint, self.name, kind, attempt, handling, message)
        });
    }
}

impl RetryObserver<StoreError> for Operation<'_> {
    fn starts(&self, number: u32) {
        self.attempt.store(number, Ordering::Relaxed);
    }

    fn failed(&self, handling: FailureHandling) {
        self.handled(handling);
    }

    /// Also records the endpoints that did not answer.
    fn timed_out(&self, deadline: Duration) -> StoreError {
        let message = format!("no answer within {} s", deadline.as_secs_f64());
        self.handled(FailureHandling::GaveUp);
        let silent = std::mem::take(&mut self.pending.lock().requests);
        for &endpoint in &silent {
            let opened = endpoint.record_timeout(&message);
            let failure = UnloggedFailure {
                endpoint,
                kind: FailureKind::Timeout,
                message: message.clone(),
                consequence: opened.then_some(Consequence::BreakerOpened),
            };
            self.log(&failure, FailureHandling::GaveUp);
        }
        let place = silent.first().copied().or(self.first);
        StoreError::unavailable(place.map_or("", Endpoint::name), message)
    }
}

impl Drop for Operation<'_> {
    /// The caller dropped the operation; its failures remain failures.
    fn drop(&mut self) {
        self.handled(FailureHandling::GaveUp);
    }
}
