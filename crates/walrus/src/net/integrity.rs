//! Quarantine of servers that returned corrupt bytes.
//!
//! Bytes count as corrupt if they failed verification while another server's bytes
//! passed: a wrong reference does not incriminate servers, and a single transmission
//! error is forgiven. Pure; callers pass the time.

use std::time::{Duration, Instant};

/// Corrupt answers before a quarantine.
const MIN_VIOLATIONS: u32 = 2;
/// Most doublings of a quarantine.
const MAX_DOUBLINGS: u32 = 7;

/// Integrity record of one server.
#[derive(Debug, Default)]
pub(super) struct IntegrityRecord {
    violations: u32,
    quarantines: u32,
    quarantined_until: Option<Instant>,
}

impl IntegrityRecord {
    /// Records corrupt bytes; returns whether this starts a quarantine, of length
    /// `first` at first and twice as long each time.
    pub(super) fn record_violation(&mut self, first: Duration, now: Instant) -> bool {
        self.violations += 1;
        let starts = self.violations >= MIN_VIOLATIONS && !self.quarantined(now);
        if starts {
            let length = first * 2u32.pow(self.quarantines.min(MAX_DOUBLINGS));
            self.quarantines += 1;
            self.quarantined_until = Some(now + length);
        }
        starts
    }

    /// Remaining time in quarantine; `None` if not in quarantine.
    pub(super) fn quarantine_left(&self, now: Instant) -> Option<Duration> {
        self.quarantined_until?
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    pub(super) fn quarantined(&self, now: Instant) -> bool {
        self.quarantine_left(now).is_some()
    }

    /// Number of corrupt answers.
    pub(super) fn violations(&self) -> u32 {
        self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_violation_is_forgiven_and_each_quarantine_is_twice_as_long() {
        let mut record = IntegrityRecord::default();
        let (now, first) = (Instant::now(), Duration::from_secs(600));
        assert!(!record.record_violation(first, now));
        assert!(record.record_violation(first, now));
        assert!(
            !record.record_violation(first, now),
            "it is in quarantine already"
        );
        assert_eq!(record.quarantine_left(now), Some(first));
        let later = now + first;
        assert!(!record.quarantined(later));
        assert!(record.record_violation(first, later));
        assert_eq!(record.quarantine_left(later), Some(first * 2));
        assert_eq!(record.violations(), 4);
        // The quarantine stays finite after any number.
        let mut now = later;
        for _ in 0..100 {
            now += first * 1000;
            record.record_violation(first, now);
        }
        assert_eq!(record.quarantine_left(now), Some(first * 128));
    }
}
