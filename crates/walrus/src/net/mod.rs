//! Policy for all requests to remote servers.
//!
//! - [`Retry`] defines how often and how long: only failures that may heal are retried,
//!   with growing pauses, never past the operation's deadline.
//! - An [`Endpoint`] is one server and its state: network [`Conditions`], the usual time
//!   of a read, its circuit breaker, the limit of concurrent requests, proven corrupt
//!   answers. Requests that it would refuse are skipped without delay.
//! - [`Endpoints`] are several equivalent servers, the one expected to be fastest first;
//!   slow reads are hedged, within a budget.
//! - [`FirstContact`] bounds the wait while no server has answered at all.
//! - [`Connections`] are dropped when they may be dead.
//! - [`FailureLog`] records every failure and its handling; a [`Journal`] persists them,
//!   a [`FailureReport`] groups them.
//!
//! All decisions (breaker, limit, ranking, hedge, integrity, latency, conditions) are pure
//! code that receives the time, one file each. Each file states why no crate is used.
//! All settings are in `[net]` of the config file ([`crate::network::NetPolicy`]).
//!
//! Callers classify their errors as [`Verdict`]s and [`RequestOutcome`]s. [`http`] and [`Tls`] are
//! the common parts of HTTP clients.
//!
//! May depend on: `network` (the settings), `clock`.

mod breaker;
mod concurrency_limit;
mod conditions;
mod connections;
mod endpoint;
mod endpoints;
mod failure_log;
mod failures;
mod first_contact;
mod health;
mod hedge;
pub mod http;
mod integrity;
mod journal;
mod latency;
mod ranking;
mod report;
mod request_guard;
mod retry;
mod tls;

pub use breaker::BreakerState;
pub use conditions::Conditions;
pub(crate) use connections::Connections;
pub(crate) use endpoint::Endpoint;
pub(crate) use endpoints::Endpoints;
pub use failure_log::{FailureCount, FailureLog};
pub use failures::{Consequence, Failure, FailureHandling, FailureKind, Severity};
pub use first_contact::FIRST_CONTACT_TIMEOUT;
pub(crate) use first_contact::FirstContact;
pub use health::{EndpointHealth, Role};
pub use http::cause;
pub use journal::Journal;
pub use report::{FailureFilter, FailureGroup, FailureReport, REPORT_STEPS};
pub(crate) use request_guard::{RequestGuard, RequestOutcome, Unavailable};
pub use retry::{Attempts, Retry, RetryObserver, Verdict, jittered};
pub use tls::{BadCertificates, NoCertificates, Tls};
