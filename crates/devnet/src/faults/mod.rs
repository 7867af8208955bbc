//! Configurable faults: an embedded Walrus that fails like the real network.
//!
//! A directory of blobs never fails as a network does. A [`Fault`] defines when a
//! failure happens and its effect: `status=503,rate=0.5,path=/v1/blobs`. Several faults
//! may be active; each is evaluated for every request, and their effects add up (one
//! delays all requests, another fails some).
//!
//! **All faults are reproducible.** Whether a fault with a `rate` fires, and which bit
//! is flipped, is derived from the seed, the index of the fault and the serial number of
//! the matching request; never from a clock. The same requests in the same order get
//! the same faults.
//!
//! Faults are set with `--fault` and can be changed while the server runs; see `admin`.

pub(super) mod apply;
mod spec;

use axum::http::Method;
use parking_lot::Mutex;

pub use spec::{BadFault, Fault};
pub(super) use spec::{FaultEffects, PutFault};

/// Active faults.
#[derive(Debug)]
pub(super) struct Faults {
    seed: u64,
    active: Mutex<Vec<ActiveFault>>,
}

#[derive(Clone, Debug)]
struct ActiveFault {
    fault: Fault,
    matched: u64,
    fired: u64,
}

impl ActiveFault {
    fn all(faults: Vec<Fault>) -> Vec<Self> {
        let active = |fault| ActiveFault {
            fault,
            matched: 0,
            fired: 0,
        };
        faults.into_iter().map(active).collect()
    }
}

/// Counts of a fault.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct FaultCounts {
    /// The fault, as written.
    pub(super) fault: String,
    /// Matching requests.
    pub(super) matched: u64,
    /// Requests that the fault was applied to.
    pub(super) fired: u64,
}

/// Effects on one request; the numbers select the flipped bit and the wrong blob.
pub(super) type FaultPlan = FaultEffects<Option<u64>>;

impl Faults {
    pub(super) fn new(seed: u64, faults: Vec<Fault>) -> Self {
        let active = Mutex::new(ActiveFault::all(faults));
        Faults { seed, active }
    }

    /// Replaces all faults; their counts start at zero.
    pub(super) fn set(&self, faults: Vec<Fault>) {
        *self.active.lock() = ActiveFault::all(faults);
    }

    pub(super) fn counts(&self) -> Vec<FaultCounts> {
        let active = self.active.lock();
        (active.iter())
            .map(|active| FaultCounts {
                fault: active.fault.to_string(),
                matched: active.matched,
                fired: active.fired,
            })
            .collect()
    }

    /// Returns the effects on the next request.
    pub(super) fn plan(&self, method: &Method, path: &str) -> FaultPlan {
        let mut plan = FaultPlan::default();
        let mut active = self.active.lock();
        for (index, active) in active.iter_mut().enumerate() {
            let condition = active.fault.condition();
            if !condition.matches(method, path) {
                continue;
            }
            let number = active.matched;
            active.matched += 1;
            let mut random = self.random_of(index as u64, number);
            if !condition.applies_to(number) || random.f64() >= condition.rate {
                continue;
            }
            active.fired += 1;
            plan.add(active.fault.effects(), &mut random);
        }
        plan
    }

    /// Random generator of a request, determined by seed, fault and serial number.
    fn random_of(&self, fault: u64, request: u64) -> fastrand::Rng {
        let text = format!("{} {fault} {request}", self.seed);
        let hash = blake3::hash(text.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        fastrand::Rng::with_seed(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl FaultPlan {
    /// Delays add up; for any other effect, the first fault counts.
    fn add(&mut self, effects: &FaultEffects<bool>, random: &mut fastrand::Rng) {
        let (number, share) = (random.u64(..), random.f64());
        self.delay += effects.delay + effects.jitter.mul_f64(share);
        self.bandwidth = self.bandwidth.or(effects.bandwidth);
        self.byte_delay = self.byte_delay.or(effects.byte_delay);
        self.wrong_blob = self.wrong_blob.or(effects.wrong_blob.then_some(number));
        self.hang |= effects.hang;
        self.reset |= effects.reset;
        if self.status.is_none() {
            self.status = effects.status;
            self.retry_after = effects.retry_after;
        }
        self.put = self.put.or(effects.put);
        self.truncate = self.truncate.or(effects.truncate);
        self.cut = self.cut.or(effects.cut);
        self.flip = self.flip.or(effects.flip.then_some(number));
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
            .map(|_| faults.plan(&Method::GET, "/v1/blobs/x").status.is_some())
            .collect()
    }

    #[test]
    fn a_rate_holds_and_a_seed_repeats_it() {
        let spec = &["status=503,rate=0.1"];
        let first_run = statuses(&faults(7, spec), 5000);
        let hit = first_run.iter().filter(|hit| **hit).count();
        assert!((400..600).contains(&hit), "{hit} of 5000");
        assert_eq!(first_run, statuses(&faults(7, spec), 5000));
        assert_ne!(first_run, statuses(&faults(8, spec), 5000));
    }

    #[test]
    fn matching_requests_are_counted() {
        let faults = faults(0, &["status=500,first=2,method=GET,path=/v1/blobs"]);
        assert!(faults.plan(&Method::PUT, "/v1/blobs").status.is_none());
        assert!(faults.plan(&Method::GET, "/status").status.is_none());
        assert_eq!(statuses(&faults, 3), [true, true, false]);
        let counts = faults.counts();
        assert_eq!((counts[0].matched, counts[0].fired), (3, 2));
    }

    #[test]
    fn jitter_differs_between_requests_and_is_the_same_for_a_seed() {
        let delays = |seed| -> Vec<Duration> {
            let faults = faults(seed, &["delay-ms=10,jitter-ms=20"]);
            (0..50)
                .map(|_| faults.plan(&Method::GET, "/").delay)
                .collect()
        };
        let first_run = delays(1);
        assert!(first_run.iter().all(|d| (10..=30).contains(&d.as_millis())));
        assert!(first_run.iter().max() > first_run.iter().min());
        assert_eq!(first_run, delays(1));
        assert_ne!(first_run, delays(2));
    }

    #[test]
    fn effects_of_several_faults_add_up() {
        let plan = faults(
            0,
            &["delay-ms=5", "delay-ms=7,flip", "status=429,retry-after=3"],
        );
        let plan = plan.plan(&Method::GET, "/");
        assert_eq!(plan.delay, Duration::from_millis(12));
        assert_eq!(plan.retry_after, Some(3));
        assert!(plan.flip.is_some() && plan.status == Some(StatusCode::TOO_MANY_REQUESTS));
    }
}
