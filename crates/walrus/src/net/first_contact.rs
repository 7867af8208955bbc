//! Bounds the wait for a store that has not received any answer yet.
//!
//! An operation on a mount may take as long as its deadline, because a server that has
//! answered before is likely to answer again. A command that reaches no server at all
//! should fail early: until the first answer, an operation gives up after
//! [`FIRST_CONTACT_TIMEOUT`]. Of the operations that follow within [`COOLDOWN`], the first
//! [`MAX_COOLDOWN_PROBES`] get [`COOLDOWN_PROBE_TIMEOUT`] each, and the others fail at once,
//! so that a command with many operations does not wait for each of them.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Retry;

/// Time limit of an operation before the first answer: time for two retries, or for a
/// name lookup, a TCP and a TLS handshake over a link of 1.5 seconds.
pub const FIRST_CONTACT_TIMEOUT: Duration = Duration::from_secs(6);
/// Time for which a failed operation shortens later ones.
const COOLDOWN: Duration = Duration::from_secs(10);
/// Operations within the cooldown that still ask a server.
const MAX_COOLDOWN_PROBES: u8 = 2;
/// Time limit of such an operation.
const COOLDOWN_PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether operations on a store that never answered have failed lately.
#[derive(Debug, Default)]
pub(crate) struct FirstContact {
    last: Mutex<Option<Failed>>,
}

/// A failed operation before the first answer.
#[derive(Debug)]
struct Failed {
    at: Instant,
    /// Operations that have asked a server since.
    probes: u8,
}

impl FirstContact {
    /// Returns the retry policy before the first answer; `None` if the operation should
    /// fail at once.
    pub(crate) fn retry(&self, retry: &Retry) -> Option<Retry> {
        let mut last = self.last.lock();
        let limit = match &mut *last {
            Some(failed) if failed.at.elapsed() < COOLDOWN => {
                if failed.probes >= MAX_COOLDOWN_PROBES {
                    return None;
                }
                failed.probes += 1;
                COOLDOWN_PROBE_TIMEOUT
            }
            _ => FIRST_CONTACT_TIMEOUT,
        };
        let deadline = retry.deadline.min(limit);
        Some(Retry { deadline, ..*retry })
    }

    /// Records that an operation got no answer from any server.
    pub(crate) fn failed(&self) {
        let mut last = self.last.lock();
        if last.as_ref().is_none_or(|it| it.at.elapsed() >= COOLDOWN) {
            let at = Instant::now();
            *last = Some(Failed { at, probes: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetPolicy;

    fn policy(deadline_s: u64) -> Retry {
        Retry::of(&NetPolicy::default(), Duration::from_secs(deadline_s))
    }

    #[tokio::test(start_paused = true)]
    async fn operations_fail_fast_after_one_reached_no_server() {
        let contact = FirstContact::default();
        let deadline = || contact.retry(&policy(30)).map(|retry| retry.deadline);
        assert_eq!(deadline(), Some(FIRST_CONTACT_TIMEOUT));
        contact.failed();
        for _ in 0..MAX_COOLDOWN_PROBES {
            assert_eq!(deadline(), Some(COOLDOWN_PROBE_TIMEOUT));
            contact.failed();
        }
        assert_eq!(deadline(), None);
        tokio::time::advance(COOLDOWN).await;
        assert_eq!(deadline(), Some(FIRST_CONTACT_TIMEOUT));
    }

    #[test]
    fn a_shorter_deadline_is_not_extended() {
        let short = policy(3);
        let retry = FirstContact::default().retry(&short).unwrap();
        assert_eq!(retry.deadline, short.deadline);
    }
}
