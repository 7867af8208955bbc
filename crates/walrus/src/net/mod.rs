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
//! All decisions (breaker, limit, ranking, hedge, trust, latency, conditions) are pure
//! code that receives the time, one file each. Each file states why no crate is used.
//! All settings are in `[net]` of the config file ([`crate::network::NetPolicy`]).
//!
//! Independent of Walrus: callers classify their errors as [`Verdict`]s and
//! [`Outcome`]s. [`http`] and [`Tls`] are the common parts of HTTP clients. Has no
//! dependencies on other modules.

mod breaker;
mod conditions;
mod connections;
mod endpoint;
mod endpoints;
mod failures;
mod first_contact;
mod flight;
mod hedge;
pub mod http;
mod journal;
mod latency;
mod limit;
mod ranking;
mod report;
mod retry;
mod tls;
mod trust;

pub use breaker::{BreakerRules, Standing};
pub use conditions::Conditions;
pub use connections::Connections;
pub use endpoint::{Endpoint, EndpointRules, Knowledge, NotNow};
pub use endpoints::{Endpoints, Plan};
pub use failures::{Consequence, Done, Failure, FailureCount, FailureKind, FailureLog, Severity};
pub use first_contact::{FIRST_CONTACT, FirstContact};
pub use flight::{InFlight, Outcome};
pub use hedge::HedgeRules;
pub use http::cause;
pub use journal::Journal;
pub use report::{FailureGroup, FailureReport, STEPS, Wanted};
pub use retry::{Next, Retry, Verdict, attempts_told, jittered};
pub use tls::{BadCertificates, NoCertificates, Tls};
