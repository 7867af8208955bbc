//! One policy around every request to somebody else's machine.
//!
//! - [`Retry`] says how often and how long: only what may heal is tried again,
//!   with growing pauses, never past the operation's deadline.
//! - An [`Endpoint`] is one server and all that is known about it: the
//!   [`Conditions`] of the way, the usual time of a read, its circuit breaker,
//!   how many requests it takes at once, whether it lied. Who is not to be
//!   asked is not asked, and that costs no time.
//! - [`Endpoints`] are several that can do the same, the one that is expected
//!   to be done soonest first; a read that takes too long is asked for a second
//!   time, within a budget.
//! - [`FirstContact`] bounds the wait while no server has answered at all.
//! - [`Connections`] are thrown away when they may be dead.
//! - [`FailureLog`] tells every failure and what was done about it; a
//!   [`Journal`] keeps them across sessions, a [`FailureReport`] groups them.
//!
//! What decides (breaker, limit, ranking, hedge, trust, latency, conditions)
//! is pure code that is handed the time, a file each. No crate does it for us:
//! each says why where it is. All is set in `[net]` of the config file
//! ([`crate::network::NetPolicy`]).
//!
//! Knows nothing of Walrus: callers classify their errors as [`Verdict`]s and
//! [`Outcome`]s. [`http`] and [`Tls`] are what their clients have in common.
//! Touches nothing.

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
