//! Selection of a file's tier: in the node of its directory (*inline*), in chunks that
//! share packs (*chunked*), or as a separate blob (*walrus*).
//!
//! Five terms from 0 to 1 rate each tier for the file ([`terms`]) and are summed with
//! weights ([`Weights`]). The possible tier with the highest sum is proposed.
//!
//! Then **cost takes precedence**. The bill is exact and the other terms are not, so a
//! tier that is billed noticeably more than the cheapest is ruled out regardless of its
//! sum. Fixed thresholds fail here: every blob is billed 64 MB in addition to its length,
//! so with packs of 10 MiB a file of 4 MiB costs 84 MB as a separate blob and 44 MB in
//! packs, and one of 2 MiB 74 MB and 22 MB. The difference is small only from about 8 MiB
//! on; in a repository that fits into one pack, never.
//!
//! The decision is a pure function: equal facts and settings give the same verdict on
//! every machine. A publish does not know how often and from where a file is read, so it
//! uses the values of the settings (see [`Tiers`](crate::config::Tiers) for the reason).

mod facts;
mod terms;

pub use facts::TierFacts;
pub(super) use facts::USUAL_MAX_INLINE_BYTES;

use serde::Serialize;

use crate::config::Weights;
use crate::repo::Tier;
use walrus_encoding::cost;

/// All tiers, the simplest first: it wins ties.
pub const TIERS: [Tier; 3] = [Tier::Inline, Tier::Chunked, Tier::Walrus];

/// Threshold for ruling out a tier: a multiple of the cheapest cost, and at least one
/// step of the encoding.
const MAX_COST_RATIO: f64 = 1.125;

/// A term of a score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Term {
    /// Its name.
    pub term: &'static str,
    /// Rating of the tier, 0..=1.
    pub value: f64,
    /// Weight, 0..=1.
    pub weight: f64,
    /// Contribution to the sum.
    pub contribution: f64,
}

/// Rating of a tier for a file.
#[derive(Clone, Debug, PartialEq)]
pub struct TierScore {
    /// The tier.
    pub tier: Tier,
    /// Size, access, class, network, cost.
    pub terms: [Term; 5],
    /// Sum of the contributions, 0..=1.
    pub sum: f64,
    /// Bytes billed for the file in this tier, with shared costs divided.
    pub billed: u64,
    /// Reason for ruling the tier out, if any.
    pub ruled_out: Option<RuledOut>,
}

/// Reason for ruling out a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuledOut {
    /// The format does not permit the file in it.
    Impossible,
    /// It costs noticeably more than another tier.
    Cost,
}

/// The tier of a file, and the reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct TierDecision {
    /// The chosen tier.
    pub tier: Tier,
    /// The tier with the highest sum, regardless of cost.
    pub proposed: Tier,
    /// Scores of all [`TIERS`].
    pub scores: [TierScore; 3],
}

/// Selects the tier of a file.
pub fn choose(facts: &TierFacts, weights: &Weights) -> TierDecision {
    let weights = weights.normal();
    let possible = TIERS.into_iter().filter(|tier| facts.is_possible(*tier));
    let cheapest = possible.map(|tier| facts.billed(tier)).min().unwrap_or(0);
    let scores = TIERS.map(|tier| {
        let billed = facts.billed(tier);
        let term = |term, value: f64, weight: f64| Term {
            term,
            value,
            weight,
            contribution: value * weight,
        };
        let terms = [
            term("size", terms::size(tier, facts.size), weights.size),
            term("access", terms::access(tier, facts.access), weights.access),
            term("class", terms::class(tier, facts), weights.class),
            term("network", terms::network(tier, facts), weights.network),
            term("cost", terms::cost(billed, cheapest), weights.cost),
        ];
        let too_expensive = billed as f64 > cheapest as f64 * MAX_COST_RATIO
            && billed > cheapest.saturating_add(cost::BILLED_INCREMENT);
        TierScore {
            tier,
            sum: terms.iter().map(|term| term.contribution).sum(),
            terms,
            billed,
            ruled_out: match (facts.is_possible(tier), too_expensive) {
                (false, _) => Some(RuledOut::Impossible),
                (true, true) => Some(RuledOut::Cost),
                (true, false) => None,
            },
        }
    });
    let best = |fits: fn(&TierScore) -> bool| {
        let fitting = scores.iter().filter(|score| fits(score));
        // The first one wins ties.
        let best = fitting.reduce(|best, next| if next.sum > best.sum { next } else { best });
        best.map_or(Tier::Chunked, |score| score.tier)
    };
    TierDecision {
        tier: best(|score| score.ruled_out.is_none()),
        proposed: best(|score| score.ruled_out != Some(RuledOut::Impossible)),
        scores,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Tiers;
    use crate::publish::analyze::{Class, Language};

    const PACK_BYTES: u64 = 10 << 20;

    fn noise(size: u64) -> TierFacts {
        let bounds = (PACK_BYTES, None);
        TierFacts::published(size, (Class::Archive, false), bounds, &Tiers::default())
    }

    fn tier(facts: &TierFacts) -> Tier {
        choose(facts, &Weights::default()).tier
    }

    #[test]
    fn tiny_files_are_inline_small_ones_chunked_and_nearly_full_blobs_separate() {
        for class in [
            (Class::Text, true),
            (Class::Code(Language::Rust), true),
            (Class::Archive, false),
        ] {
            let at =
                |size| TierFacts::published(size, class, (PACK_BYTES, None), &Tiers::default());
            assert_eq!(tier(&at(0)), Tier::Inline);
            assert_eq!(tier(&at(150)), Tier::Inline, "{class:?}");
            assert_eq!(tier(&at(500)), Tier::Chunked, "{class:?}");
            assert_eq!(tier(&at(1 << 20)), Tier::Chunked, "{class:?}");
            assert_eq!(tier(&at(PACK_BYTES + 1)), Tier::Chunked, "{class:?}");
        }
        assert_eq!(tier(&noise(9 << 20)), Tier::Walrus);
        let text = TierFacts {
            class: Class::Text,
            shrinks: true,
            ..noise(9 << 20)
        };
        assert_eq!(tier(&text), Tier::Chunked);
    }

    #[test]
    fn cost_overrules_usual_thresholds() {
        // The former threshold was 4 MiB; those of WalGit are 2 and 64 MiB.
        let decision = choose(&noise(5 << 20), &Weights::default());
        assert_eq!(decision.proposed, Tier::Walrus);
        assert_eq!(decision.tier, Tier::Chunked);
        assert_eq!(decision.scores[2].ruled_out, Some(RuledOut::Cost));
        // Even with all weight on size.
        let size = Weights {
            size: 1.0,
            access: 0.0,
            class: 0.0,
            network: 0.0,
            cost: 0.0,
        };
        assert_eq!(choose(&noise(5 << 20), &size).tier, Tier::Chunked);
        // If one blob is needed anyway, a second one never pays.
        let small = TierFacts {
            total: Some(PACK_BYTES),
            ..noise(9 << 20)
        };
        assert_eq!(tier(&small), Tier::Chunked);
        // With larger blobs, 32 MiB is equivalent to 64.
        let long = TierFacts {
            max_blob: 64 << 20,
            ..noise(63 << 20)
        };
        assert_eq!(tier(&long), Tier::Walrus);
        let mebibytes = |n: u64| {
            let facts = noise(n << 20);
            let billed = |tier| facts.billed(tier) / 1_000_000;
            (billed(Tier::Walrus), billed(Tier::Chunked))
        };
        // The figures of the module docs and the README.
        assert_eq!(mebibytes(2), (74, 22));
        assert_eq!(mebibytes(4), (84, 44));
        assert_eq!(mebibytes(8), (102, 88));
        assert_eq!(mebibytes(9), (108, 100));
    }

    fn facts() -> impl Strategy<Value = TierFacts> {
        let size = prop_oneof![0u64..5000, 0u64..(20 << 20), 0u64..(1 << 32)];
        let class = prop_oneof![
            Just(Class::Text),
            Just(Class::Image),
            Just(Class::Archive),
            Just(Class::Binary),
            Just(Class::Code(Language::Rust))
        ];
        (
            (size, class, any::<bool>(), 0.0..=1.0f64),
            (1e-5..10.0f64, 1e3..1e10f64, (1u64 << 20)..(1 << 30)),
            proptest::option::of(0u64..(1 << 33)),
        )
            .prop_map(|(file, net, total)| TierFacts {
                size: file.0,
                class: file.1,
                shrinks: file.2,
                access: file.3,
                round_trip: net.0,
                bandwidth: net.1,
                max_blob: net.2,
                total,
            })
    }

    proptest! {
        #[test]
        fn terms_are_between_0_and_1_and_the_decision_is_possible_and_affordable(facts in facts(), weights in proptest::array::uniform5(0.0..10.0f64)) {
            let [size, access, class, network, cost] = weights;
            let weights = Weights { size: size + 1e-3, access, class, network, cost };
            let decision = choose(&facts, &weights);
            for score in &decision.scores {
                for term in &score.terms {
                    prop_assert!((0.0..=1.0).contains(&term.value), "{:?} {:?}", score.tier, term);
                }
                prop_assert!((-1e-9..=1.0 + 1e-9).contains(&score.sum));
            }
            let chosen = decision.scores.iter().find(|score| score.tier == decision.tier).unwrap();
            prop_assert_eq!(chosen.ruled_out, None);
            for other in decision.scores.iter().filter(|score| score.ruled_out.is_none()) {
                prop_assert!(other.sum <= chosen.sum);
            }
            prop_assert_eq!(&choose(&facts, &weights), &decision);
        }

        #[test]
        fn billed_bytes_grow_with_the_size(facts in facts(), more in 0u64..(1 << 30)) {
            let larger = TierFacts { size: facts.size + more, ..facts };
            for tier in TIERS {
                prop_assert!(larger.billed(tier) >= facts.billed(tier));
            }
        }

        #[test]
        fn larger_or_rarer_files_are_never_rated_higher_for_inline(facts in facts(), more in 0u64..(1 << 30), rarer in 0.0..=1.0f64) {
            let size = facts.size + more;
            prop_assert!(terms::size(Tier::Inline, size) <= terms::size(Tier::Inline, facts.size));
            prop_assert!(terms::size(Tier::Walrus, size) >= terms::size(Tier::Walrus, facts.size));
            let access = facts.access * rarer;
            prop_assert!(terms::access(Tier::Inline, access) <= terms::access(Tier::Inline, facts.access));
            prop_assert!(terms::access(Tier::Walrus, access) >= terms::access(Tier::Walrus, facts.access));
        }

        #[test]
        fn the_network_term_falls_with_bytes_and_rises_with_bandwidth(facts in facts(), more in 0u64..(1 << 30), wider in 1.0..100.0f64) {
            for tier in TIERS {
                let now = terms::network(tier, &facts);
                let larger = TierFacts { size: facts.size + more, ..facts };
                prop_assert!(terms::network(tier, &larger) <= now + 1e-12);
                let fast = TierFacts { bandwidth: facts.bandwidth * wider, ..facts };
                prop_assert!(terms::network(tier, &fast) + 1e-12 >= now);
            }
            let inline = terms::network(Tier::Inline, &facts);
            let walrus = terms::network(Tier::Walrus, &facts);
            prop_assert!(inline >= walrus, "another request is never better");
        }

        #[test]
        fn the_cost_term_is_best_for_the_cheapest_and_falls_with_the_bill(cheapest in 0u64..(1 << 40), more in 0u64..(1 << 40), most in 0u64..(1 << 40)) {
            prop_assert_eq!(terms::cost(cheapest, cheapest), 1.0);
            let more_expensive = terms::cost(cheapest + more, cheapest);
            prop_assert!(terms::cost(cheapest + more + most, cheapest) <= more_expensive);
        }

        #[test]
        fn compressible_files_are_rated_lower_for_separate_blobs(facts in facts()) {
            let incompressible = terms::class(Tier::Walrus, &TierFacts { shrinks: false, ..facts });
            let compressible = terms::class(Tier::Walrus, &TierFacts { shrinks: true, ..facts });
            prop_assert!(compressible <= incompressible);
        }
    }
}
