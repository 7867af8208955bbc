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
const FAILURE_COST_S: f64 = 2.0;
/// Factor by which a server must be better to replace the favourite, whose connections
/// and caches are warm.
const FAVOURITE_FACTOR: f64 = 0.8;
/// One read in this many asks another server first.
pub(super) const EXPLORE_INTERVAL: u64 = 32;

/// A server as a candidate for a read.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndpointCandidate {
    /// Whether the server can be asked now.
    pub(super) availability: Availability,
    /// Expected time of the read; `None` before the first measurement.
    pub(super) expected: Option<Duration>,
    /// Share of failed attempts, 0 to 1.
    pub(super) loss: f64,
    /// Time of the last request.
    pub(super) last_request: Option<Instant>,
}

/// Availability of a server, in order: a server is asked only when none with a better
/// value is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Availability {
    Available,
    /// Available, but sends whole blobs when parts are requested.
    IgnoresRanges,
    /// Failed, and due for a probe.
    ProbeDue,
    /// In a pause that the server requested.
    Pausing,
    /// In quarantine after corrupt bytes.
    Quarantined,
    BreakerOpen,
}

/// Order of requests, as indices into the list of candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranking {
    /// Best first; if `explores`, from the second on.
    pub(super) indices: Vec<usize>,
    /// Whether the first is explored rather than the best.
    pub(super) explores: bool,
}

/// Ranks candidates. `favourite` is the best of the last read, `number` the serial
/// number of this read.
pub(super) fn rank(candidates: &[EndpointCandidate], favourite: usize, number: u64) -> Ranking {
    let score = |index: usize| {
        let candidate = &candidates[index];
        let failing = candidate.loss * FAILURE_COST_S;
        let fond = if index == favourite {
            FAVOURITE_FACTOR
        } else {
            1.0
        };
        let score = candidate.expected.map_or(0.0, |t| t.as_secs_f64()) + failing;
        (candidate.expected.is_none(), score * fond)
    };
    let mut indices: Vec<usize> = (0..candidates.len()).collect();
    // Stable: ties keep their configured order.
    indices.sort_by(|a, b| {
        let availability = candidates[*a]
            .availability
            .cmp(&candidates[*b].availability);
        let ((unknown_a, a), (unknown_b, b)) = (score(*a), score(*b));
        availability
            .then(unknown_a.cmp(&unknown_b))
            .then(a.total_cmp(&b))
    });
    let explored = find_explored(candidates, &indices, number);
    if let Some(position) = explored {
        let index = indices.remove(position);
        indices.insert(0, index);
    }
    Ranking {
        indices,
        explores: explored.is_some(),
    }
}

/// Selects a server behind the first to explore, as a position in `indices`.
fn find_explored(
    candidates: &[EndpointCandidate],
    indices: &[usize],
    number: u64,
) -> Option<usize> {
    let first = candidates[*indices.first()?];
    if first.availability != Availability::Available {
        return None;
    }
    let behind = || indices.iter().enumerate().skip(1);
    // The breaker makes this rare enough.
    let due =
        behind().find(|(_, index)| candidates[**index].availability == Availability::ProbeDue);
    if let Some((position, _)) = due {
        return Some(position);
    }
    if !number.is_multiple_of(EXPLORE_INTERVAL) {
        return None;
    }
    let fit =
        behind().filter(|(_, index)| candidates[**index].availability == Availability::Available);
    let longest_ago = fit.min_by_key(|(_, index)| candidates[**index].last_request)?;
    Some(longest_ago.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fit(ms: Option<u64>, loss: f64) -> EndpointCandidate {
        EndpointCandidate {
            availability: Availability::Available,
            expected: ms.map(Duration::from_millis),
            loss,
            last_request: None,
        }
    }

    fn indices(candidates: &[EndpointCandidate], favourite: usize) -> Vec<usize> {
        rank(candidates, favourite, 1).indices
    }

    #[test]
    fn the_fastest_that_works_is_first() {
        let [slow, fast, lossy] = [fit(Some(200), 0.0), fit(Some(50), 0.0), fit(Some(20), 0.3)];
        assert_eq!(indices(&[slow, fast, lossy], 0), [1, 0, 2]);
        let unknown = fit(None, 0.0);
        assert_eq!(indices(&[unknown, unknown], 0), [0, 1], "as configured");
        assert_eq!(indices(&[unknown, slow], 0), [1, 0]);
        assert_eq!(indices(&[fit(None, 1.0), unknown], 0), [1, 0], "it failed");
        let hardly_faster = fit(Some(180), 0.0);
        assert_eq!(
            indices(&[slow, hardly_faster], 0),
            [0, 1],
            "not for so little"
        );
    }

    #[test]
    fn unavailable_servers_rank_last() {
        let with = |availability| EndpointCandidate {
            availability,
            ..fit(Some(1), 0.0)
        };
        let all = [
            with(Availability::BreakerOpen),
            with(Availability::Quarantined),
            with(Availability::Pausing),
            with(Availability::IgnoresRanges),
            fit(Some(500), 0.5),
        ];
        assert_eq!(indices(&all, 0), [4, 3, 2, 1, 0]);
        assert_eq!(indices(&all[..3], 0), [2, 1, 0]);
    }

    #[test]
    fn other_servers_are_explored_periodically_and_when_a_probe_is_due() {
        let mut all = [fit(Some(50), 0.0), fit(Some(90), 0.0), fit(Some(80), 0.0)];
        all[2].last_request = Some(Instant::now());
        let exploration = rank(&all, 0, EXPLORE_INTERVAL);
        assert_eq!((exploration.indices[0], exploration.explores), (1, true));
        assert!(!rank(&all, 0, EXPLORE_INTERVAL + 1).explores);
        all[2].availability = Availability::ProbeDue;
        let exploration = rank(&all, 0, 1);
        assert_eq!((exploration.indices[0], exploration.explores), (2, true));
        all[1].availability = Availability::Quarantined;
        all[2].availability = Availability::BreakerOpen;
        assert!(
            !rank(&all, 0, EXPLORE_INTERVAL).explores,
            "a liar is not looked at"
        );
    }

    fn candidate() -> impl Strategy<Value = EndpointCandidate> {
        let availability = prop_oneof![
            Just(Availability::Available),
            Just(Availability::IgnoresRanges),
            Just(Availability::ProbeDue),
            Just(Availability::Pausing),
            Just(Availability::Quarantined),
            Just(Availability::BreakerOpen),
        ];
        let expected = prop::option::of(1..10_000u64);
        (availability, expected, 0.0..1.0f64).prop_map(|(availability, ms, loss)| {
            EndpointCandidate {
                availability,
                ..fit(ms, loss)
            }
        })
    }

    proptest! {
        #[test]
        fn every_server_is_ranked_once_and_available_ones_first(
            all in prop::collection::vec(candidate(), 0..6),
            favourite in 0..6usize,
            number in 0..100u64,
        ) {
            let ranking = rank(&all, favourite, number);
            let mut indices = ranking.indices.clone();
            let behind = &indices[usize::from(ranking.explores)..];
            prop_assert!(behind.is_sorted_by_key(|index| all[*index].availability));
            if ranking.explores {
                prop_assert!(all[indices[0]].availability <= Availability::ProbeDue);
            }
            indices.sort_unstable();
            prop_assert_eq!(indices, (0..all.len()).collect::<Vec<_>>());
        }
    }
}
