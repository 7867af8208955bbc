//! Configurable faults: an embedded Walrus that fails like the real network.
//!
//! A directory of blobs never fails as a network does. A [`Fault`] defines when a
//! failure happens and its effect: `status=503,rate=0.5,path=/v1/blobs`. Several faults
//! may be active; each is evaluated for every request, and their effects add up (one
//! delays all requests, another fails some).
//!
//! **All faults are reproducible.** Whether a fault with a `rate` fires, and which bit
//! is flipped, is derived from the seed, the index of the fault and the serial number of
//! the matching request; never from a clock. The same requests in the same order meet
//! the same faults.
//!
//! - [`spec`]: syntax and meaning of the words;
//! - [`spoil`]: applies faults to a response;
//! - this module: the active faults, and their selection for a request.
//!
//! Faults are set with `--fault` and can be changed while the server runs; see `admin`.

pub(super) mod apply;
mod spec;

use std::sync::{Mutex, PoisonError};

use axum::http::Method;

pub use spec::{BadFault, Fault};
pub(super) use spec::{Effects, PutFault};

/// Active faults.
#[derive(Debug)]
pub(super) struct Faults {
    seed: u64,
    armed: Mutex<Vec<Armed>>,
}

#[derive(Clone, Debug)]
struct Armed {
    fault: Fault,
    matched: u64,
    fired: u64,
}

/// Counts of a fault.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Tally {
    /// The fault, as written.
    pub(super) fault: String,
    /// Matching requests.
    pub(super) matched: u64,
    /// Requests that the fault was applied to.
    pub(super) fired: u64,
}

/// Effects on one request; the numbers select the flipped bit and the wrong blob.
pub(super) type Plan = Effects<Option<u64>>;

impl Faults {
    pub(super) fn new(seed: u64, faults: Vec<Fault>) -> Self {
        let these = Faults {
            seed,
            armed: Mutex::default(),
        };
        these.set(faults);
        these
    }

    /// Replaces all faults; their counts start at zero.
    pub(super) fn set(&self, faults: Vec<Fault>) {
        let armed = faults.into_iter().map(|fault| Armed {
            fault,
            matched: 0,
            fired: 0,
        });
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = armed.collect();
    }

    pub(super) fn tally(&self) -> Vec<Tally> {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        (armed.iter())
            .map(|armed| Tally {
                fault: armed.fault.to_string(),
                matched: armed.matched,
                fired: armed.fired,
            })
            .collect()
    }

    /// Returns the effects on the next request.
    pub(super) fn meet(&self, method: &Method, path: &str) -> Plan {
        let mut plan = Plan::default();
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, armed) in armed.iter_mut().enumerate() {
            let when = armed.fault.when();
            if !when.matches(method, path) {
                continue;
            }
            let number = armed.matched;
            armed.matched += 1;
            let mut draw = self.draws(place as u64, number);
            if !when.counts(number) || draw.f64() >= when.rate {
                continue;
            }
            armed.fired += 1;
            plan.add(armed.fault.what(), &mut draw);
        }
        plan
    }

    /// Random generator of a request, determined by seed, fault and serial number.
    fn draws(&self, fault: u64, request: u64) -> fastrand::Rng {
        let text = format!("{} {fault} {request}", self.seed);
        let hash = blake3::hash(text.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        fastrand::Rng::with_seed(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl Plan {
    /// Delays add up; for any other effect, the first fault counts.
    fn add(&mut self, what: &Effects<bool>, draw: &mut fastrand::Rng) {
        let (number, share) = (draw.u64(..), draw.f64());
        self.delay += what.delay + what.jitter.mul_f64(share);
        self.bandwidth = self.bandwidth.or(what.bandwidth);
        self.drip = self.drip.or(what.drip);
        self.wrong_blob = self.wrong_blob.or(what.wrong_blob.then_some(number));
        self.hang |= what.hang;
        self.reset |= what.reset;
        if self.status.is_none() {
            self.status = what.status;
            self.retry_after = what.retry_after;
        }
        self.put = self.put.or(what.put);
        self.truncate = self.truncate.or(what.truncate);
        self.cut = self.cut.or(what.cut);
        self.flip = self.flip.or(what.flip.then_some(number));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::StatusCode;

    use super::*;

    fn faults(seed: u64, specs: &[&str]) -> Faults {
        Faults::new(
            seed,
            specs.iter().map(|spec| spec.parse().unwrap()).collect(),
        )
    }

    fn statuses(faults: &Faults, count: usize) -> Vec<bool> {
        (0..count)
            .map(|_| faults.meet(&Method::GET, "/v1/blobs/x").status.is_some())
            .collect()
    }

    #[test]
    fn a_rate_is_kept_and_a_seed_repeats_it() {
        let spec = &["status=503,rate=0.1"];
        let one = statuses(&faults(7, spec), 5000);
        let hit = one.iter().filter(|hit| **hit).count();
        assert!((400..600).contains(&hit), "{hit} of 5000");
        assert_eq!(one, statuses(&faults(7, spec), 5000));
        assert_ne!(one, statuses(&faults(8, spec), 5000));
    }

    #[test]
    fn the_first_requests_it_is_about_are_counted() {
        let faults = faults(0, &["status=500,first=2,method=GET,path=/v1/blobs"]);
        assert!(faults.meet(&Method::PUT, "/v1/blobs").status.is_none());
        assert!(faults.meet(&Method::GET, "/status").status.is_none());
        assert_eq!(statuses(&faults, 3), [true, true, false]);
        let tally = faults.tally();
        assert_eq!((tally[0].matched, tally[0].fired), (3, 2));
    }

    #[test]
    fn a_jitter_is_drawn_anew_for_each_request_and_the_same_for_a_seed() {
        let delays = |seed| -> Vec<Duration> {
            let faults = faults(seed, &["delay-ms=10,jitter-ms=20"]);
            (0..50)
                .map(|_| faults.meet(&Method::GET, "/").delay)
                .collect()
        };
        let one = delays(1);
        assert!(one.iter().all(|d| (10..=30).contains(&d.as_millis())));
        assert!(one.iter().max() > one.iter().min());
        assert_eq!(one, delays(1));
        assert_ne!(one, delays(2));
    }

    #[test]
    fn several_add_up() {
        let plan = faults(
            0,
            &["delay-ms=5", "delay-ms=7,flip", "status=429,retry-after=3"],
        );
        let plan = plan.meet(&Method::GET, "/");
        assert_eq!(plan.delay, Duration::from_millis(12));
        assert_eq!(plan.retry_after, Some(3));
        assert!(plan.flip.is_some() && plan.status == Some(StatusCode::TOO_MANY_REQUESTS));
    }
}
