//! Whom to ask first.
//!
//! The server that is expected to be done soonest, by what was measured, where
//! one that fails costs a try for nothing. One that was not measured yet stands
//! where it was configured, behind those that were. Now and then another than
//! the best is asked first, so that one that recovered is found again.
//!
//! Pure.

use std::time::{Duration, Instant};

/// What a try that fails costs, in seconds, beside its own time: a pause, a
/// second try, a reader who waits.
const COST_OF_FAILURE: f64 = 2.0;
/// A server must be better by so much to take the place of the favourite:
/// connections and caches are warm there.
const STICKY: f64 = 0.8;
/// One read in so many asks another first.
pub(super) const EXPLORE: u64 = 32;

/// A server as a candidate for a read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Whether it can be asked at all now.
    pub(super) fitness: Fitness,
    /// How long the read is expected to take there; `None` before it was
    /// measured.
    pub(super) expected: Option<Duration>,
    /// Share of failed attempts, 0 to 1.
    pub(super) loss: f64,
    /// When it was asked last.
    pub(super) asked: Option<Instant>,
}

/// How fit a server is to be asked now. In order: who is further down is asked
/// only when nobody above is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    /// As any other.
    Fit,
    /// It sends whole blobs where parts are asked for.
    Wasteful,
    /// It failed, and it is time to see whether it is back.
    Due,
    /// It asked for a pause that is not over.
    Pausing,
    /// It lied.
    Quarantined,
    /// It is left alone.
    Open,
}

/// An order to ask in, as places in the list of candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Best first; if `explores`, but for the first.
    pub(super) places: Vec<usize>,
    /// Whether the first is there to be looked at rather than as the best.
    pub(super) explores: bool,
}

/// Ranks candidates. `favourite` is who was best last time, `number` the
/// how-manieth read this is.
pub(super) fn order(candidates: &[Candidate], favourite: usize, number: u64) -> Order {
    let score = |place: usize| {
        let candidate = &candidates[place];
        let failing = candidate.loss * COST_OF_FAILURE;
        let fond = if place == favourite { STICKY } else { 1.0 };
        let score = candidate.expected.map_or(0.0, |t| t.as_secs_f64()) + failing;
        (candidate.expected.is_none(), score * fond)
    };
    let mut places: Vec<usize> = (0..candidates.len()).collect();
    // Stable: equals stay as they were configured.
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

/// Who of those behind the first is to be looked at, as a position in `places`.
fn explored(candidates: &[Candidate], places: &[usize], number: u64) -> Option<usize> {
    let first = candidates[*places.first()?];
    if first.fitness != Fitness::Fit {
        return None;
    }
    let behind = || places.iter().enumerate().skip(1);
    // A breaker lets this happen rarely enough by itself.
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
