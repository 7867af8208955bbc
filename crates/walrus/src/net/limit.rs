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
const ONCE: Duration = Duration::from_secs(1);

/// The limit of one server.
#[derive(Debug)]
pub(super) struct Limit {
    most: f64,
    now: f64,
    flying: u32,
    lowered: Option<Instant>,
}

impl Limit {
    /// Creates a limit of at most `most` concurrent requests; at least 1.
    pub(super) fn new(most: u32) -> Self {
        let most = f64::from(most.max(1));
        Limit {
            most,
            now: most,
            flying: 0,
            lowered: None,
        }
    }

    /// Takes a slot; `false` if none is free.
    pub(super) fn enter(&mut self) -> bool {
        let free = self.flying < self.at_once();
        self.flying += u32::from(free);
        free
    }

    /// Releases a slot.
    pub(super) fn leave(&mut self) {
        self.flying = self.flying.saturating_sub(1);
    }

    /// Present limit.
    pub(super) fn at_once(&self) -> u32 {
        self.now as u32
    }

    /// Records a successful request.
    pub(super) fn went_well(&mut self) {
        self.now = (self.now + 1.0 / self.now).min(self.most);
    }

    /// Records that the server reported overload.
    pub(super) fn too_much(&mut self, now: Instant) {
        let again = self
            .lowered
            .is_none_or(|at| now.saturating_duration_since(at) >= ONCE);
        if again {
            self.now = (self.now / 2.0).max(1.0);
            self.lowered = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_stays_within_its_bounds_and_places_come_back(
            most in 1..64u32,
            acts in prop::collection::vec(0..4u8, 0..400),
        ) {
            let mut limit = Limit::new(most);
            let mut now = Instant::now();
            let mut flying = 0u32;
            for act in acts {
                now += Duration::from_millis(300);
                match act {
                    0 => {
                        let free = flying < limit.at_once();
                        prop_assert_eq!(limit.enter(), free);
                        flying += u32::from(free);
                    }
                    1 if flying > 0 => {
                        limit.leave();
                        flying -= 1;
                    }
                    2 => limit.went_well(),
                    3 => limit.too_much(now),
                    _ => {}
                }
                prop_assert!((1..=most).contains(&limit.at_once()));
            }
            (0..flying).for_each(|_| limit.leave());
            (0..limit.at_once()).for_each(|_| assert!(limit.enter()));
            prop_assert!(!limit.enter());
        }
    }

    #[test]
    fn it_halves_at_once_and_grows_slowly() {
        let mut limit = Limit::new(16);
        let now = Instant::now();
        limit.too_much(now);
        limit.too_much(now);
        assert_eq!(limit.at_once(), 8, "one storm counts once");
        limit.too_much(now + ONCE);
        assert_eq!(limit.at_once(), 4);
        (0..5).for_each(|_| limit.went_well());
        assert_eq!(limit.at_once(), 5, "one more after as many went well");
        (0..1000).for_each(|_| limit.went_well());
        assert_eq!(limit.at_once(), 16);
    }
}
