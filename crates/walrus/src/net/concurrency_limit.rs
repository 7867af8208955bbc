//! Limit of concurrent requests to a server: lowered on overload, raised on success.
//!
//! Additive increase, multiplicative decrease, as in TCP: an answer of 429 halves the
//! limit, and each full set of successful requests raises it by one. `tower` and
//! `governor` offer only fixed limits (a rate, a number); this one follows the server's
//! answers.
//!
//! Pure; [`super::Endpoint`] handles waiting.

use std::time::{Duration, Instant};

/// A server under load refuses all requests in progress: these refusals count once.
const OVERLOAD_WINDOW: Duration = Duration::from_secs(1);

/// The limit of one server.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    max: f64,
    current: f64,
    in_use: u32,
    lowered_at: Option<Instant>,
}

impl ConcurrencyLimit {
    /// Creates a limit of at most `max` concurrent requests; at least 1.
    pub(super) fn new(max: u32) -> Self {
        let max = f64::from(max.max(1));
        ConcurrencyLimit {
            max,
            current: max,
            in_use: 0,
            lowered_at: None,
        }
    }

    /// Takes a slot; `false` if none is free.
    pub(super) fn acquire(&mut self) -> bool {
        let free = self.in_use < self.current();
        self.in_use += u32::from(free);
        free
    }

    /// Releases a slot.
    pub(super) fn release(&mut self) {
        self.in_use = self.in_use.saturating_sub(1);
    }

    /// Present limit.
    pub(super) fn current(&self) -> u32 {
        self.current as u32
    }

    /// Records a successful request.
    pub(super) fn succeeded(&mut self) {
        self.current = (self.current + 1.0 / self.current).min(self.max);
    }

    /// Records that the server reported overload.
    pub(super) fn overloaded(&mut self, now: Instant) {
        let lower = self
            .lowered_at
            .is_none_or(|at| now.saturating_duration_since(at) >= OVERLOAD_WINDOW);
        if lower {
            self.current = (self.current / 2.0).max(1.0);
            self.lowered_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_limit_stays_within_bounds_and_permits_are_returned(
            max in 1..64u32,
            acts in prop::collection::vec(0..4u8, 0..400),
        ) {
            let mut limit = ConcurrencyLimit::new(max);
            let mut now = Instant::now();
            let mut in_use = 0u32;
            for act in acts {
                now += Duration::from_millis(300);
                match act {
                    0 => {
                        let free = in_use < limit.current();
                        prop_assert_eq!(limit.acquire(), free);
                        in_use += u32::from(free);
                    }
                    1 if in_use > 0 => {
                        limit.release();
                        in_use -= 1;
                    }
                    2 => limit.succeeded(),
                    3 => limit.overloaded(now),
                    _ => {}
                }
                prop_assert!((1..=max).contains(&limit.current()));
            }
            (0..in_use).for_each(|_| limit.release());
            (0..limit.current()).for_each(|_| assert!(limit.acquire()));
            prop_assert!(!limit.acquire());
        }
    }

    #[test]
    fn the_limit_halves_at_once_and_grows_slowly() {
        let mut limit = ConcurrencyLimit::new(16);
        let now = Instant::now();
        limit.overloaded(now);
        limit.overloaded(now);
        assert_eq!(limit.current(), 8, "one storm counts once");
        limit.overloaded(now + OVERLOAD_WINDOW);
        assert_eq!(limit.current(), 4);
        (0..5).for_each(|_| limit.succeeded());
        assert_eq!(limit.current(), 5, "one more after as many went well");
        (0..1000).for_each(|_| limit.succeeded());
        assert_eq!(limit.current(), 16);
    }
}
