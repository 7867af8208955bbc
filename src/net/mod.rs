//! One policy around every request to somebody else's machine.
//!
//! [`Retry`] says how often and how long: only what may heal is tried again,
//! with growing pauses, never past the operation's deadline. [`FailureLog`]
//! remembers what went wrong, where, and how often. Circuit breakers, hedged
//! reads and measured network conditions belong here as well and will stand
//! beside these; today the order of endpoints is the one configured, and one
//! that fails or lies is followed by the next.
//!
//! Knows nothing of Walrus: callers classify their errors as [`Verdict`]s.
//! [`http`] is what their clients have in common. Touches nothing.

mod failures;
pub mod http;
mod retry;

pub use failures::{FailureCount, FailureKind, FailureLog};
pub use http::cause;
pub use retry::{Retry, Verdict, attempts, jittered};
