//! Who lied, and for how long that is held against them.
//!
//! A lie is bytes that failed their check where somebody else's passed it: a
//! reference that is wrong makes liars of nobody, and bytes that break on the
//! way once are forgiven. Pure; time is handed in.

use std::time::{Duration, Instant};

/// Proven lies before a server is quarantined.
const LIES: u32 = 2;
/// A quarantine is doubled so often at most.
const DOUBLINGS: u32 = 7;

/// What is held against one server.
#[derive(Debug, Default)]
pub(super) struct Trust {
    lies: u32,
    quarantines: u32,
    until: Option<Instant>,
}

impl Trust {
    /// It lied; whether it is in quarantine from now on, for `first` the first
    /// time and twice as long each time.
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

    /// How long it is in quarantine yet; `None` if it is not.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.until?
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    pub(super) fn quarantined(&self, now: Instant) -> bool {
        self.left(now).is_some()
    }

    /// How often it lied.
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
        // However often, it stays a length of time.
        let mut now = later;
        for _ in 0..100 {
            now += first * 1000;
            trust.lied(first, now);
        }
        assert_eq!(trust.left(now), Some(first * 128));
    }
}
