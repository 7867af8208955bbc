//! Failed exchanges: their error, whether to retry, and their effect on the endpoint.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::RETRY_AFTER;

use crate::StoreError;
use crate::net::{
    Consequence, Endpoint, Endpoints, FailureKind, InFlight, NoCertificates, NotNow, Outcome,
    Verdict, cause, http,
};
use walgit_format::chunk::BlobId;

/// Most bytes of an error's body read for its message.
const MAX_ERROR_BODY: usize = 8 << 10;
/// Longest pause that a server may request.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A failed exchange.
#[derive(Debug)]
pub(super) struct Failed {
    error: Box<StoreError>,
    why: Why,
    /// Pause requested by the server.
    pause: Option<Duration>,
    /// Whether the request may have been carried out.
    ambiguous: bool,
    opened: bool,
    given_up: bool,
}

/// Reason of a failure.
#[derive(Debug)]
enum Why {
    /// The request failed.
    Asked(FailureKind),
    /// The breaker is open for this long.
    Open(Duration),
    /// The endpoint is not available at present.
    Later,
}

impl Failed {
    pub(super) fn new(kind: FailureKind, error: StoreError) -> Self {
        Failed {
            error: Box::new(error),
            why: Why::Asked(kind),
            pause: None,
            ambiguous: matches!(kind, FailureKind::Timeout | FailureKind::Server),
            opened: false,
            given_up: false,
        }
    }

    pub(super) fn not_asked(endpoint: &Endpoint, not_now: NotNow) -> Self {
        let (why, said, pause) = match not_now {
            NotNow::Open { due, why } => {
                let seconds = due.as_secs().max(1);
                let said = format!(
                    "it failed several times in a row and is not asked for the next {seconds} s ({why})"
                );
                (Why::Open(due), said, None)
            }
            NotNow::Probing => (Why::Later, "it does not answer yet".into(), None),
            NotNow::Pausing(pause) => (Why::Later, "it asked for a pause".into(), Some(pause)),
        };
        let place = endpoint.name().to_owned();
        Failed {
            error: Box::new(StoreError::Unavailable { place, why: said }),
            why,
            pause,
            ambiguous: false,
            opened: false,
            given_up: false,
        }
    }

    /// The bytes are not the requested ones.
    pub(super) fn corrupt(endpoint: &Endpoint, blob: BlobId, why: String) -> Self {
        let place = endpoint.name().to_owned();
        Failed::new(
            FailureKind::Corrupt,
            StoreError::Corrupt { blob, place, why },
        )
    }

    /// Kind of the failure; `None` if no request was sent.
    pub(super) fn kind(&self) -> Option<FailureKind> {
        match &self.why {
            Why::Asked(kind) => Some(*kind),
            Why::Open(_) | Why::Later => None,
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
        self.opened.then_some(Consequence::BreakerOpened)
    }

    /// The error without its context.
    pub(super) fn into_error(self) -> StoreError {
        *self.error
    }

    /// Whether the same request may succeed later, within the operation.
    fn heals(&self) -> bool {
        match &self.why {
            Why::Asked(
                FailureKind::Connect
                | FailureKind::Timeout
                | FailureKind::Overloaded
                | FailureKind::Server
                | FailureKind::Slow
                | FailureKind::NoRanges,
            ) => true,
            Why::Asked(FailureKind::Corrupt) => !self.given_up,
            Why::Asked(
                FailureKind::Refused
                | FailureKind::Protocol
                | FailureKind::NotFound
                | FailureKind::Untrusted,
            ) => false,
            Why::Open(_) => false,
            Why::Later => true,
        }
    }

    /// Stops retries after corrupt bytes, if `now`: transmission damage may heal on a
    /// second try, a lying server does not.
    pub(super) fn give_up_if_corrupt(&mut self, now: bool) {
        self.given_up |= now;
    }

    /// Rank of a failure among several; the highest is reported. Corrupt bytes rank
    /// first, then failures that may heal, then open breakers, the earliest probe first.
    /// Absence ranks last: another endpoint may still have the blob.
    fn weight(&self) -> (u8, Reverse<Duration>) {
        let none = Reverse(Duration::ZERO);
        match &self.why {
            Why::Asked(FailureKind::Corrupt) => (4, none),
            _ if self.heals() => (3, none),
            Why::Open(due) => (2, Reverse(*due)),
            Why::Asked(FailureKind::NotFound) => (0, none),
            _ => (1, none),
        }
    }

    /// Outcome for the state of the endpoint.
    fn outcome(&self) -> Outcome {
        match self.kind() {
            Some(FailureKind::Overloaded) => match &*self.error {
                StoreError::Refused { status: 429, .. } => Outcome::TooMuch,
                _ => Outcome::Failed,
            },
            Some(
                FailureKind::Connect
                | FailureKind::Timeout
                | FailureKind::Server
                | FailureKind::Protocol
                | FailureKind::Untrusted,
            ) => Outcome::Failed,
            Some(FailureKind::Refused | FailureKind::NotFound) => Outcome::Refused,
            // Trust is independent of availability.
            Some(FailureKind::Corrupt | FailureKind::Slow | FailureKind::NoRanges) | None => {
                Outcome::Well
            }
        }
    }

    /// Ends the request with this failure.
    pub(super) fn ends(mut self, flight: InFlight<'_>) -> Self {
        self.opened = flight.ended(self.outcome(), &self.message());
        self
    }
}

/// Verdict on a round over all endpoints.
pub(super) fn verdict(failures: Vec<Failed>, endpoints: &Endpoints) -> Verdict<StoreError> {
    // With all breakers open, a pause cannot help.
    let heals = failures.iter().any(Failed::heals) && !endpoints.all_open();
    let pause = failures.iter().filter_map(|failed| failed.pause).min();
    let worst = failures.into_iter().max_by_key(Failed::weight);
    match worst {
        Some(failed) if heals => Verdict::MayHeal(*failed.error, pause),
        Some(failed) => Verdict::Final(*failed.error),
        None => Verdict::Final(StoreError::NoEndpoint("aggregator")),
    }
}

pub(super) fn absent(endpoint: &Endpoint, blob: BlobId) -> Failed {
    let place = endpoint.name().to_owned();
    Failed::new(FailureKind::NotFound, StoreError::NotFound { blob, place })
}

pub(super) fn protocol(endpoint: &Endpoint, why: &str) -> Failed {
    let error = StoreError::Unavailable {
        place: endpoint.name().to_owned(),
        why: why.into(),
    };
    Failed::new(FailureKind::Protocol, error)
}

/// The server cannot be verified.
pub(super) fn no_certificates(endpoint: &Endpoint, error: &NoCertificates) -> Failed {
    let place = endpoint.name().to_owned();
    let why = error.to_string();
    let error = StoreError::Unavailable { place, why };
    Failed::new(FailureKind::Untrusted, error)
}

pub(super) fn refusal(endpoint: &Endpoint, status: u16, why: String) -> Failed {
    let place = endpoint.name().to_owned();
    Failed::new(
        FailureKind::Refused,
        StoreError::Refused { place, status, why },
    )
}

/// Failure for an unexpected answer.
pub(super) async fn refused(endpoint: &Endpoint, mut response: Response) -> Failed {
    let status = response.status();
    let pause = response.headers().get(RETRY_AFTER);
    let pause = pause.and_then(|value| http::retry_after(value.to_str().ok()?));
    let pause = pause.map(|pause| pause.min(MAX_PAUSE));
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_ERROR_BODY {
            break;
        }
    }
    let kind = http::refusal_kind(status);
    let why = message(&text).unwrap_or_else(|| status.to_string());
    let mut failed = refusal(endpoint, status.as_u16(), why);
    failed.why = Why::Asked(kind);
    failed.ambiguous = matches!(kind, FailureKind::Timeout | FailureKind::Server);
    if let Some(pause) = pause.filter(|_| kind == FailureKind::Overloaded) {
        endpoint.pause(pause);
        failed.pause = Some(pause);
    }
    failed
}

/// Message of an error in the network's JSON format.
fn message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = value.get("error")?.get("message")?.as_str()?;
    Some(http::words(text))
}

pub(super) fn broken(endpoint: &Endpoint, error: &reqwest::Error) -> Failed {
    let kind = http::breach_kind(error);
    let error_of = StoreError::Unavailable {
        place: endpoint.name().to_owned(),
        why: cause(error),
    };
    let mut failed = Failed::new(kind, error_of);
    // A request that did not reach the server was not carried out.
    failed.ambiguous = !error.is_connect() && kind != FailureKind::Untrusted;
    failed
}
