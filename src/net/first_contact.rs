//! Bounds the wait for a store none of whose servers has answered yet.
//!
//! An operation on a mount may take as long as its deadline, because a server that
//! has answered before is likely to answer again. A command that reaches no server
//! at all should say so soon: until the first answer, an operation gives up after
//! [`FIRST_CONTACT`], and those that follow within [`COOLDOWN`] fail at once, so
//! that a command with many operations does not wait for each of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Retry;

/// The longest operation of a store that never answered: time for two retries,
/// or for a name lookup, a TCP and a TLS handshake over a link of 1.5 seconds.
pub const FIRST_CONTACT: Duration = Duration::from_secs(6);
/// How long operations fail at once after one that found no server.
const COOLDOWN: Duration = Duration::from_secs(10);

/// Whether operations on a store that never answered have failed lately.
#[derive(Debug, Default)]
pub struct FirstContact {
    failed: Mutex<Option<Instant>>,
}

impl FirstContact {
    /// How to retry an operation on a store none of whose servers has answered yet;
    /// `None` when it should fail at once, because another one just did.
    pub fn retry(&self, retry: &Retry) -> Option<Retry> {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some_and(|at| at.elapsed() < COOLDOWN) {
            return None;
        }
        let mut retry = retry.clone();
        retry.deadline = retry.deadline.min(FIRST_CONTACT);
        Some(retry)
    }

    /// An operation found no server that answers.
    pub fn failed(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn operations_fail_at_once_for_a_while_after_one_found_no_server() {
        let contact = FirstContact::default();
        let retry = contact.retry(&Retry::default()).unwrap();
        assert_eq!(retry.deadline, FIRST_CONTACT);
        contact.failed();
        assert!(contact.retry(&Retry::default()).is_none());
        tokio::time::advance(COOLDOWN).await;
        assert!(contact.retry(&Retry::default()).is_some());
    }

    #[test]
    fn a_shorter_deadline_is_kept() {
        let short = Retry {
            deadline: Duration::from_secs(3),
            ..Retry::default()
        };
        let retry = FirstContact::default().retry(&short).unwrap();
        assert_eq!(retry.deadline, short.deadline);
    }
}
