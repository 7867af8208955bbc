//! Failed requests: their error, whether to retry, and their effect on the endpoint.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt::Display;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::RETRY_AFTER;

use crate::StoreError;
use crate::net::{
    Consequence, Endpoint, Endpoints, FailureKind, RequestGuard, RequestOutcome, Unavailable,
    Verdict, cause, http,
};
use walgit_format::chunk::BlobId;

/// Most bytes of an error's body read for its message.
const MAX_ERROR_BYTES: usize = 8 << 10;
/// Longest pause that a server may request.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A failed request.
#[derive(Debug)]
pub(super) struct FailedRequest {
    error: Box<StoreError>,
    reason: Reason,
    /// Pause requested by the server.
    pause: Option<Duration>,
    /// Whether the request may have been carried out.
    ambiguous: bool,
    breaker_opened: bool,
    gave_up: bool,
}

/// Reason of a failure.
#[derive(Clone, Copy, Debug)]
enum Reason {
    /// The request failed.
    Request(FailureKind),
    /// The breaker is open for this long.
    BreakerOpen(Duration),
    /// The endpoint is not available at present.
    NotAdmitted,
}

impl FailedRequest {
    pub(super) fn new(kind: FailureKind, error: StoreError) -> Self {
        FailedRequest {
            ambiguous: matches!(kind, FailureKind::Timeout | FailureKind::Server),
            ..FailedRequest::with(Reason::Request(kind), error)
        }
    }

    fn with(reason: Reason, error: StoreError) -> Self {
        FailedRequest {
            error: Box::new(error),
            reason,
            pause: None,
            ambiguous: false,
            breaker_opened: false,
            gave_up: false,
        }
    }

    /// The endpoint gave no usable answer.
    pub(super) fn unavailable(kind: FailureKind, endpoint: &Endpoint, why: impl Display) -> Self {
        FailedRequest::new(kind, StoreError::unavailable(endpoint.name(), why))
    }

    /// The answer violates the API.
    pub(super) fn protocol(endpoint: &Endpoint, why: impl Display) -> Self {
        FailedRequest::unavailable(FailureKind::Protocol, endpoint, why)
    }

    /// The endpoint refused the request.
    pub(super) fn refused(endpoint: &Endpoint, status: u16, why: String) -> Self {
        let place = endpoint.name().to_owned();
        let error = StoreError::Refused { place, status, why };
        FailedRequest::new(FailureKind::Refused, error)
    }

    /// The endpoint does not have the blob.
    pub(super) fn not_found(endpoint: &Endpoint, blob: BlobId) -> Self {
        let place = endpoint.name().to_owned();
        FailedRequest::new(FailureKind::NotFound, StoreError::NotFound { blob, place })
    }

    /// The bytes are not the requested ones.
    pub(super) fn corrupt(endpoint: &Endpoint, blob: BlobId, why: String) -> Self {
        let error = StoreError::corrupt(blob, endpoint.name(), why);
        FailedRequest::new(FailureKind::Corrupt, error)
    }

    /// There is no answer, or it was interrupted.
    pub(super) fn broken(endpoint: &Endpoint, error: &reqwest::Error) -> Self {
        let kind = http::broken_kind(error);
        FailedRequest {
            // A request that did not reach the server was not carried out.
            ambiguous: !error.is_connect() && kind != FailureKind::Untrusted,
            ..FailedRequest::unavailable(kind, endpoint, cause(error))
        }
    }

    /// No request was sent.
    pub(super) fn not_admitted(endpoint: &Endpoint, unavailable: Unavailable) -> Self {
        let (reason, message, pause) = match unavailable {
            Unavailable::BreakerOpen { probe_in, why } => {
                let seconds = probe_in.as_secs().max(1);
                let message = format!(
                    "it failed several times in a row and is not asked for the next {seconds} s ({why})"
                );
                (Reason::BreakerOpen(probe_in), message, None)
            }
            Unavailable::Probing => (Reason::NotAdmitted, "it does not answer yet".into(), None),
            Unavailable::Pausing(pause) => {
                let message = "it asked for a pause".into();
                (Reason::NotAdmitted, message, Some(pause))
            }
        };
        let error = StoreError::unavailable(endpoint.name(), message);
        FailedRequest {
            pause,
            ..FailedRequest::with(reason, error)
        }
    }

    /// Failure for an unexpected answer.
    pub(super) async fn unexpected(endpoint: &Endpoint, mut response: Response) -> Self {
        let status = response.status();
        let pause = response.headers().get(RETRY_AFTER);
        let pause = pause.and_then(|value| http::retry_after(value.to_str().ok()?));
        let pause = pause.map(|pause| pause.min(MAX_PAUSE));
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            text.extend_from_slice(&chunk);
            if text.len() > MAX_ERROR_BYTES {
                break;
            }
        }
        let kind = http::refusal_kind(status);
        let why = message(&text).unwrap_or_else(|| status.to_string());
        let pause = pause.filter(|_| kind == FailureKind::Overloaded);
        if let Some(pause) = pause {
            endpoint.pause(pause);
        }
        let error = FailedRequest::refused(endpoint, status.as_u16(), why).into_error();
        FailedRequest {
            pause,
            ..FailedRequest::new(kind, error)
        }
    }

    /// Kind of the failure; `None` if no request was sent.
    pub(super) fn kind(&self) -> Option<FailureKind> {
        match self.reason {
            Reason::Request(kind) => Some(kind),
            Reason::BreakerOpen(_) | Reason::NotAdmitted => None,
        }
    }

    /// Whether the request may have been carried out.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// Error message without the place.
    pub(super) fn message(&self) -> Cow<'_, str> {
        match &*self.error {
            StoreError::Unavailable { why, .. } => why.as_str().into(),
            StoreError::Refused { status, why, .. } => format!("{status}: {why}").into(),
            StoreError::Corrupt { blob, why, .. } => format!("blob {blob}: {why}").into(),
            error => error.to_string().into(),
        }
    }

    pub(super) fn consequence(&self) -> Option<Consequence> {
        self.breaker_opened.then_some(Consequence::BreakerOpened)
    }

    /// The error without its context.
    pub(super) fn into_error(self) -> StoreError {
        *self.error
    }

    /// Whether the same request may succeed later, within the operation.
    fn may_heal(&self) -> bool {
        match self.reason {
            Reason::Request(kind) => match kind {
                FailureKind::Connect
                | FailureKind::Timeout
                | FailureKind::Overloaded
                | FailureKind::Server
                | FailureKind::Slow
                | FailureKind::NoRanges => true,
                FailureKind::Corrupt => !self.gave_up,
                FailureKind::Refused
                | FailureKind::Protocol
                | FailureKind::NotFound
                | FailureKind::Untrusted => false,
            },
            Reason::BreakerOpen(_) => false,
            Reason::NotAdmitted => true,
        }
    }

    /// Stops retries after corrupt bytes, if `now`: transmission damage may heal on a
    /// second try, a lying server does not.
    pub(super) fn give_up_if_corrupt(&mut self, now: bool) {
        self.gave_up |= now;
    }

    /// Rank of a failure among several; the highest is reported. Corrupt bytes rank
    /// first, then failures that may heal, then open breakers, the earliest probe first.
    /// Absence ranks last: another endpoint may still have the blob.
    fn rank(&self) -> (u8, Reverse<Duration>) {
        let none = Reverse(Duration::ZERO);
        match self.reason {
            Reason::Request(FailureKind::Corrupt) => (4, none),
            _ if self.may_heal() => (3, none),
            Reason::BreakerOpen(probe_in) => (2, Reverse(probe_in)),
            Reason::Request(FailureKind::NotFound) => (0, none),
            _ => (1, none),
        }
    }

    /// Outcome for the state of the endpoint.
    fn outcome(&self) -> RequestOutcome {
        match (self.kind(), &*self.error) {
            (Some(FailureKind::Overloaded), StoreError::Refused { status: 429, .. }) => {
                RequestOutcome::Overloaded
            }
            (
                Some(
                    FailureKind::Overloaded
                    | FailureKind::Connect
                    | FailureKind::Timeout
                    | FailureKind::Server
                    | FailureKind::Protocol
                    | FailureKind::Untrusted,
                ),
                _,
            ) => RequestOutcome::Failed,
            (Some(FailureKind::Refused | FailureKind::NotFound), _) => RequestOutcome::Refused,
            // Trust is independent of availability.
            (Some(FailureKind::Corrupt | FailureKind::Slow | FailureKind::NoRanges) | None, _) => {
                RequestOutcome::Success
            }
        }
    }

    /// Ends the request with this failure.
    pub(super) fn ends(mut self, guard: RequestGuard<'_>) -> Self {
        self.breaker_opened = guard.ended(self.outcome(), &self.message());
        self
    }
}

/// Verdict on a round over all `endpoints`, which are `role`s.
pub(super) fn verdict(
    failures: Vec<FailedRequest>,
    endpoints: &Endpoints,
    role: &'static str,
) -> Verdict<StoreError> {
    // With all breakers open, a pause cannot help.
    let may_heal = failures.iter().any(FailedRequest::may_heal) && !endpoints.all_open();
    let pause = failures.iter().filter_map(|failed| failed.pause).min();
    let worst = failures.into_iter().max_by_key(FailedRequest::rank);
    match worst {
        Some(failed) if may_heal => Verdict::MayHeal(*failed.error, pause),
        Some(failed) => Verdict::Final(*failed.error),
        None => Verdict::Final(StoreError::NoEndpoint(role)),
    }
}

/// Message of an error in the network's JSON format.
fn message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = value.get("error")?.get("message")?.as_str()?;
    Some(http::words(text))
}
