//! Quarantine of servers that returned corrupt bytes.
//!
//! Bytes count as corrupt if they failed verification while another server's bytes
//! passed: a wrong reference does not incriminate servers, and a single transmission
//! error is forgiven. Pure; callers pass the time.

use std::time::{Duration, Instant};

/// Corrupt answers before a quarantine.
const LIES: u32 = 2;
/// Most doublings of a quarantine.
const DOUBLINGS: u32 = 7;

/// Trust record of one server.
#[derive(Debug, Default)]
pub(super) struct Trust {
    lies: u32,
    quarantines: u32,
    until: Option<Instant>,
}

impl Trust {
    /// Records corrupt bytes; returns whether this starts a quarantine, of length
    /// `first` at first and twice as long each time.
    pub(super) fn lied(&mut self, first: Duration, now: Instant) -> bool {
        self.lies += 1;
        let convicted = self.lies >= LIES && !self.quarantined(now);
        if convicted {
            let length = first * 2u32.pow(self.quarantines.min(DOUBLINGS));
            self.quarantines += 1;
            self.until = Some(now + length);
        }
        convicted
    }

    /// Remaining time in quarantine; `None` if not in quarantine.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.until?
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    pub(super) fn quarantined(&self, now: Instant) -> bool {
        self.left(now).is_some()
    }

    /// Number of corrupt answers.
    pub(super) fn lies(&self) -> u32 {
        self.lies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lie_is_forgiven_and_each_quarantine_is_twice_as_long() {
        let mut trust = Trust::default();
        let (now, first) = (Instant::now(), Duration::from_secs(600));
        assert!(!trust.lied(first, now));
        assert!(trust.lied(first, now));
        assert!(!trust.lied(first, now), "it is in quarantine already");
        assert_eq!(trust.left(now), Some(first));
        let later = now + first;
        assert!(!trust.quarantined(later));
        assert!(trust.lied(first, later));
        assert_eq!(trust.left(later), Some(first * 2));
        assert_eq!(trust.lies(), 4);
        // The quarantine stays finite after any number.
        let mut now = later;
        for _ in 0..100 {
            now += first * 1000;
            trust.lied(first, now);
        }
        assert_eq!(trust.left(now), Some(first * 128));
    }
}
