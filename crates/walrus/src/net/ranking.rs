//! Ranking of servers.
//!
//! The server expected to be fastest by measurement comes first; a failed try counts as
//! lost time. Unmeasured servers follow in configured order. Now and then a server other
//! than the best is asked first, to detect recovery.
//!
//! Pure.

use std::time::{Duration, Instant};

/// Cost of a failed try, in seconds, in addition to its own time: a pause, a second try,
/// a waiting reader.
const COST_OF_FAILURE: f64 = 2.0;
/// Factor by which a server must be better to replace the favourite, whose connections
/// and caches are warm.
const STICKY: f64 = 0.8;
/// One read in this many asks another server first.
pub(super) const EXPLORE: u64 = 32;

/// A server as a candidate for a read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Whether the server can be asked now.
    pub(super) fitness: Fitness,
    /// Expected time of the read; `None` before the first measurement.
    pub(super) expected: Option<Duration>,
    /// Share of failed attempts, 0 to 1.
    pub(super) loss: f64,
    /// Time of the last request.
    pub(super) asked: Option<Instant>,
}

/// Availability of a server, in order: a server is asked only when none with a better
/// value is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    /// Available.
    Fit,
    /// Available, but sends whole blobs when parts are requested.
    Wasteful,
    /// Failed, and due for a probe.
    Due,
    /// In a pause that the server requested.
    Pausing,
    /// In quarantine after corrupt bytes.
    Quarantined,
    /// Its breaker is open.
    Open,
}

/// Order of requests, as indices into the list of candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Best first; if `explores`, from the second on.
    pub(super) places: Vec<usize>,
    /// Whether the first is explored rather than the best.
    pub(super) explores: bool,
}

/// Ranks candidates. `favourite` is the best of the last read, `number` the serial
/// number of this read.
pub(super) fn order(candidates: &[Candidate], favourite: usize, number: u64) -> Order {
    let score = |place: usize| {
        let candidate = &candidates[place];
        let failing = candidate.loss * COST_OF_FAILURE;
        let fond = if place == favourite { STICKY } else { 1.0 };
        let score = candidate.expected.map_or(0.0, |t| t.as_secs_f64()) + failing;
        (candidate.expected.is_none(), score * fond)
    };
    let mut places: Vec<usize> = (0..candidates.len()).collect();
    // Stable: ties keep their configured order.
    places.sort_by(|a, b| {
        let fitness = candidates[*a].fitness.cmp(&candidates[*b].fitness);
        let ((unknown_a, a), (unknown_b, b)) = (score(*a), score(*b));
        fitness
            .then(unknown_a.cmp(&unknown_b))
            .then(a.total_cmp(&b))
    });
    let explored = explored(candidates, &places, number);
    if let Some(position) = explored {
        let place = places.remove(position);
        places.insert(0, place);
    }
    Order {
        places,
        explores: explored.is_some(),
    }
}

/// Selects a server behind the first to explore, as a position in `places`.
fn explored(candidates: &[Candidate], places: &[usize], number: u64) -> Option<usize> {
    let first = candidates[*places.first()?];
    if first.fitness != Fitness::Fit {
        return None;
    }
    let behind = || places.iter().enumerate().skip(1);
    // The breaker makes this rare enough.
    let due = behind().find(|(_, place)| candidates[**place].fitness == Fitness::Due);
    if let Some((position, _)) = due {
        return Some(position);
    }
    if !number.is_multiple_of(EXPLORE) {
        return None;
    }
    let fit = behind().filter(|(_, place)| candidates[**place].fitness == Fitness::Fit);
    let longest_ago = fit.min_by_key(|(_, place)| candidates[**place].asked)?;
    Some(longest_ago.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fit(ms: Option<u64>, loss: f64) -> Candidate {
        Candidate {
            fitness: Fitness::Fit,
            expected: ms.map(Duration::from_millis),
            loss,
            asked: None,
        }
    }

    fn places(candidates: &[Candidate], favourite: usize) -> Vec<usize> {
        order(candidates, favourite, 1).places
    }

    #[test]
    fn the_fastest_that_works_is_first() {
        let [slow, fast, lossy] = [fit(Some(200), 0.0), fit(Some(50), 0.0), fit(Some(20), 0.3)];
        assert_eq!(places(&[slow, fast, lossy], 0), [1, 0, 2]);
        let unknown = fit(None, 0.0);
        assert_eq!(places(&[unknown, unknown], 0), [0, 1], "as configured");
        assert_eq!(places(&[unknown, slow], 0), [1, 0]);
        assert_eq!(places(&[fit(None, 1.0), unknown], 0), [1, 0], "it failed");
        let hardly_faster = fit(Some(180), 0.0);
        assert_eq!(
            places(&[slow, hardly_faster], 0),
            [0, 1],
            "not for so little"
        );
    }

    #[test]
    fn who_is_unfit_is_asked_last_but_asked() {
        let with = |fitness| Candidate {
            fitness,
            ..fit(Some(1), 0.0)
        };
        let all = [
            with(Fitness::Open),
            with(Fitness::Quarantined),
            with(Fitness::Pausing),
            with(Fitness::Wasteful),
            fit(Some(500), 0.5),
        ];
        assert_eq!(places(&all, 0), [4, 3, 2, 1, 0]);
        assert_eq!(places(&all[..3], 0), [2, 1, 0]);
    }

    #[test]
    fn now_and_then_another_is_looked_at_and_at_once_when_it_is_due() {
        let mut all = [fit(Some(50), 0.0), fit(Some(90), 0.0), fit(Some(80), 0.0)];
        all[2].asked = Some(Instant::now());
        let looked = order(&all, 0, EXPLORE);
        assert_eq!((looked.places[0], looked.explores), (1, true));
        assert!(!order(&all, 0, EXPLORE + 1).explores);
        all[2].fitness = Fitness::Due;
        let looked = order(&all, 0, 1);
        assert_eq!((looked.places[0], looked.explores), (2, true));
        all[1].fitness = Fitness::Quarantined;
        all[2].fitness = Fitness::Open;
        assert!(!order(&all, 0, EXPLORE).explores, "a liar is not looked at");
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        let fitness = prop_oneof![
            Just(Fitness::Fit),
            Just(Fitness::Wasteful),
            Just(Fitness::Due),
            Just(Fitness::Pausing),
            Just(Fitness::Quarantined),
            Just(Fitness::Open),
        ];
        let expected = prop::option::of(1..10_000u64);
        (fitness, expected, 0.0..1.0f64).prop_map(|(fitness, ms, loss)| Candidate {
            fitness,
            ..fit(ms, loss)
        })
    }

    proptest! {
        #[test]
        fn everybody_is_in_it_once_and_the_fit_before_the_unfit(
            all in prop::collection::vec(candidate(), 0..6),
            favourite in 0..6usize,
            number in 0..100u64,
        ) {
            let order = order(&all, favourite, number);
            let mut places = order.places.clone();
            let behind = &places[usize::from(order.explores)..];
            prop_assert!(behind.is_sorted_by_key(|place| all[*place].fitness));
            if order.explores {
                prop_assert!(all[places[0]].fitness <= Fitness::Due);
            }
            places.sort_unstable();
            prop_assert_eq!(places, (0..all.len()).collect::<Vec<_>>());
        }
    }
}
