//! Failures: kind, endpoint and handling.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::unix_seconds;

/// Longest message kept, in characters.
const MAX_MESSAGE_CHARS: usize = 200;

/// Kinds of failures that a user can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No connection, or a broken one.
    Connect,
    /// No answer in time.
    Timeout,
    /// The server is overloaded (429, 503).
    Overloaded,
    /// The server failed (other 5xx).
    Server,
    /// The server refuses (4xx).
    Refused,
    /// The bytes failed verification.
    Corrupt,
    /// The answer violates the API.
    Protocol,
    /// The server does not have the blob (404).
    NotFound,
    /// The certificate is not trusted.
    Untrusted,
    /// The answer was so late that a hedged read was faster.
    Slow,
    /// The server sends whole blobs although a part was requested.
    NoRanges,
}

impl FailureKind {
    /// Name in files, metrics and tables.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// Advice for the user.
    pub fn advice(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            FailureKind::Connect => (
                "connect",
                "check the network connection and the URL; behind a proxy, set HTTPS_PROXY; \
                 doctor tests every endpoint",
            ),
            FailureKind::Timeout => (
                "timeout",
                "the server or the connection is slow: add another aggregator, or raise \
                 [mount] deadline_s",
            ),
            FailureKind::Overloaded => (
                "overloaded",
                "the limit of concurrent requests adapts; add another endpoint, or lower \
                 [net] concurrency",
            ),
            FailureKind::Server => (
                "server",
                "the fault is on the server: add another endpoint, or inform its operator",
            ),
            FailureKind::Refused => (
                "refused",
                "the message has the reason: credentials, a limit, or an unsupported request",
            ),
            FailureKind::Corrupt => (
                "corrupt",
                "no corrupt bytes were used; if another endpoint returns valid bytes, remove \
                 this one from the profile",
            ),
            FailureKind::Protocol => (
                "protocol",
                "this is no aggregator or publisher, or a device in between answers for it \
                 (a sign-in page, a proxy); check the URL",
            ),
            FailureKind::NotFound => (
                "not_found",
                "check the network; a blob is gone when its epochs have ended",
            ),
            FailureKind::Untrusted => (
                "untrusted",
                "without CA certificates, install the package ca-certificates; if your own proxy \
                 signs for it, set [net] ca to its certificate; otherwise somebody intercepts the \
                 connection",
            ),
            FailureKind::Slow => (
                "slow",
                "harmless if rare; remove an endpoint that is often slow",
            ),
            FailureKind::NoRanges => (
                "no_ranges",
                "reads work, but each transfers a blob from its start; have its operator enable \
                 HTTP range requests, or add another aggregator",
            ),
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Severity of a failure for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Caused no delay.
    Notice,
    /// Caused a delay.
    Warning,
    /// The operation failed, or a server returned corrupt bytes.
    Error,
}

/// Handling of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureHandling {
    /// The request was repeated after a pause.
    Retried,
    /// Another endpoint was asked.
    FailedOver,
    /// Another endpoint was asked concurrently.
    Hedged,
    /// The blob turned out to be stored in spite of the failure.
    Certified,
    /// The requested part was cut out of the answer.
    Tolerated,
    /// The operation failed.
    GaveUp,
}

/// Consequence of a failure for its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// The breaker opened.
    BreakerOpened,
    /// Repeated corrupt bytes: the endpoint is asked last for a while.
    Quarantined,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Time in seconds since 1970.
    pub time: u64,
    /// URL of the endpoint.
    pub endpoint: String,
    /// Operation: `read`, `len`, `put`; `object` of a Sui node.
    pub operation: Cow<'static, str>,
    /// Kind of failure.
    pub kind: FailureKind,
    /// Severity.
    pub severity: Severity,
    /// Attempt of the operation, from 1.
    pub attempt: u32,
    /// Handling.
    #[serde(rename = "done")]
    pub handling: FailureHandling,
    /// Consequence for the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consequence: Option<Consequence>,
    /// Error message.
    pub message: String,
}

impl Failure {
    /// Creates a failure with the present time.
    pub fn now(
        endpoint: &str,
        operation: &'static str,
        kind: FailureKind,
        attempt: u32,
        handling: FailureHandling,
        message: &str,
    ) -> Self {
        let severity = match (kind, handling) {
            (FailureKind::Corrupt | FailureKind::Untrusted, _) | (_, FailureHandling::GaveUp) => {
                Severity::Error
            }
            (FailureKind::Slow | FailureKind::NotFound | FailureKind::NoRanges, _) => {
                Severity::Notice
            }
            _ => Severity::Warning,
        };
        Failure {
            time: unix_seconds(),
            endpoint: endpoint.into(),
            operation: operation.into(),
            kind,
            severity,
            attempt,
            handling,
            consequence: None,
            message: message.chars().take(MAX_MESSAGE_CHARS).collect(),
        }
    }
}
