//! One policy around every request to somebody else's machine.
//!
//! [`Retry`] says how often and how long: only what may heal is tried again,
//! with growing pauses, never past the operation's deadline. [`FailureLog`]
//! remembers what went wrong, where, and how often. An [`Endpoint`] is one
//! server and what is known about it, such as the [`Conditions`] of the way to
//! it.
//!
//! Knows nothing of Walrus: callers classify their errors as [`Verdict`]s.
//! [`http`] is what their clients have in common. Touches nothing.

mod conditions;
mod endpoint;
mod failures;
pub mod http;
mod retry;

pub use conditions::{Conditions, Ended};
pub use endpoint::{Endpoint, InFlight};
pub use failures::{FailureCount, FailureKind, FailureLog};
pub use http::cause;
pub use retry::{Retry, Verdict, attempts, jittered};
