//! Predicted layout of a head after compaction, and the cost of the compaction. Pure.

use std::collections::HashSet;

use serde::Serialize;

use super::layout::{BlobUse, HeadLayout};
use crate::config::Weights;
use walgit_format::chunk::BlobId;
use walrus_encoding::Price;
use walrus_encoding::cost::Bill;

/// Bytes of a blob that are not content of a pack: header and padding.
const BLOB_OVERHEAD_BYTES: u64 = 4096;

/// Safety margin for the bytes to write: one part in this many.
const WRITE_MARGIN_DIVISOR: u64 = 8;

/// Figures of a layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LayoutFigures {
    /// Requests to read all trees completely.
    pub requests: u64,
    /// Needed blobs.
    pub blobs: u64,
    /// Bytes billed for these blobs.
    pub billed: u64,
}

/// Rating of a layout relative to the better of two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LayoutScore {
    /// Fewest requests divided by requests, 0..=1.
    pub network: f64,
    /// Lowest bill divided by the bill, 0..=1.
    pub cost: f64,
    /// Weighted sum of both, with the weights of `[tiers]`, 0..=1.
    pub score: f64,
}

/// The effect of a compaction.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactionPlan {
    /// Blobs that the new head no longer needs.
    pub leave: HashSet<BlobId>,
    /// Figures of the present layout.
    pub now: LayoutFigures,
    /// Figures of the new layout.
    pub then: LayoutFigures,
    /// Rating of the present layout.
    pub terms_now: LayoutScore,
    /// Rating of the new layout.
    pub terms_then: LayoutScore,
    /// Increase of the score; negative if the score gets worse.
    pub improvement: f64,
    /// Maximum number of bytes to write.
    pub write: u64,
    /// Cost of storage for all paid epochs, in the currency of the price.
    pub cost: f64,
}

/// Plans the compaction of a head into blobs of at most `max_body` bytes that are paid
/// for `epochs`.
///
/// Blobs with needed bytes of at least half of `max_body`, and blobs that are a single
/// file, stay: rewriting them would gain little. So the cost grows with the scattered
/// content, not with the repository.
pub(super) fn plan_compaction(
    layout: &HeadLayout,
    max_body: u64,
    weights: &Weights,
    (price, epochs): (&Price, u32),
) -> CompactionPlan {
    let is_retained = |held: &BlobUse| held.plain || held.live * 2 >= max_body;
    let (retained, left): (Vec<_>, Vec<_>) =
        layout.blobs.iter().partition(|(_, held)| is_retained(held));
    let leave: HashSet<BlobId> = left.iter().map(|(blob, _)| **blob).collect();
    let moved = layout.moves.1;
    let nodes: u64 = retained.iter().map(|(_, held)| held.nodes).sum();
    let live: u64 = left.iter().map(|(_, held)| held.live).sum();
    // A patch whose base is in one of these blobs is stored whole, and the base is
    // stored for the history.
    let patched = layout.patched.iter();
    let patched = patched.filter(|(base, _)| leave.contains(base));
    let expanded_patches: u64 = patched.map(|(_, bytes)| bytes).sum();
    let write = live + nodes + moved + expanded_patches + BLOB_OVERHEAD_BYTES;
    // Newly encoded content may take a little more space than before.
    let write = write + write / WRITE_MARGIN_DIVISOR;
    let packs = write.div_ceil(max_body.max(1)).max(1);
    let lens = (0..packs).map(|pack| (write - pack * max_body.min(write)).min(max_body));
    let new: Bill = lens.collect();
    let now: Bill = layout.blobs.values().map(|held| held.len).collect();
    let mut then = new;
    retained.iter().for_each(|(_, held)| then.add(held.len));
    let trees = layout.tree_bytes.max(1);
    let now = LayoutFigures {
        requests: layout.requests.max(1),
        blobs: now.blobs,
        billed: now.billed,
    };
    let then = LayoutFigures {
        // One request per 4 MiB, and one per blob that stays.
        requests: trees.div_ceil(4 << 20).max(packs) + retained.len() as u64,
        blobs: then.blobs,
        billed: then.billed,
    };
    let terms = |score: &LayoutFigures| {
        let part = |least: u64, it: u64| least as f64 / it.max(1) as f64;
        let network = part(now.requests.min(then.requests), score.requests);
        let cost = part(now.billed.min(then.billed), score.billed);
        let both = weights.network + weights.cost;
        let score = if both > 0.0 {
            (weights.network * network + weights.cost * cost) / both
        } else {
            (network + cost) / 2.0
        };
        LayoutScore {
            network,
            cost,
            score,
        }
    };
    let (terms_now, terms_then) = (terms(&now), terms(&then));
    CompactionPlan {
        leave,
        now,
        then,
        improvement: terms_then.score - terms_now.score,
        terms_now,
        terms_then,
        write,
        cost: new.price(price, epochs),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY_BYTES: u64 = 10 << 20;

    fn layout(blobs: &[(u64, u64)]) -> HeadLayout {
        let blobs = blobs.iter().zip(0u8..);
        let blobs: std::collections::BTreeMap<_, _> = blobs
            .map(|(&(live, len), n)| {
                let held = BlobUse {
                    live,
                    len: len.max(live),
                    ..BlobUse::default()
                };
                (BlobId::from_bytes([n; 32]), held)
            })
            .collect();
        HeadLayout {
            requests: blobs.len() as u64,
            tree_bytes: blobs.values().map(|held| held.live).sum(),
            blobs,
            moves: (0, 0),
            patched: Vec::new(),
        }
    }

    fn planned(blobs: &[(u64, u64)]) -> CompactionPlan {
        let price = (&Price::mainnet(), 1);
        plan_compaction(&layout(blobs), BODY_BYTES, &Weights::default(), price)
    }

    #[test]
    fn one_blob_gains_nothing_and_a_hundred_gain_much() {
        let one = planned(&[(1 << 20, 1 << 20)]);
        assert!(one.improvement < 0.05, "{one:?}");
        let many = planned(&vec![(10_000, 70_000); 100]);
        assert!(many.improvement > 0.9, "{many:?}");
        assert_eq!(many.leave.len(), 100);
        assert_eq!(many.then.blobs, 1);
        assert!(many.then.billed * 50 < many.now.billed);
    }

    #[test]
    fn full_blobs_are_not_rewritten() {
        let mut blobs = vec![(9 << 20, 10 << 20); 50];
        blobs.extend([(5000, 70_000); 20]);
        let plan = planned(&blobs);
        assert_eq!(plan.leave.len(), 20);
        assert!(plan.write < 200_000, "{plan:?}");
        assert_eq!(plan.then.blobs, 51);
    }

    proptest! {
        #[test]
        fn terms_are_fractions_and_written_bytes_equal_remaining_bytes(blobs in proptest::collection::vec((0u64..(10 << 20), 0u64..(10 << 20)), 1..60)) {
            let plan = planned(&blobs);
            for terms in [plan.terms_now, plan.terms_then] {
                for part in [terms.network, terms.cost, terms.score] {
                    prop_assert!((0.0..=1.0 + 1e-9).contains(&part), "{:?}", plan);
                }
            }
            let left: u64 = blobs.iter().map(|(live, _)| *live).filter(|live| live * 2 < BODY_BYTES).sum();
            let expected = left + BLOB_OVERHEAD_BYTES;
            prop_assert!((expected..=expected + expected / WRITE_MARGIN_DIVISOR).contains(&plan.write));
            prop_assert!(plan.cost > 0.0);
        }

        #[test]
        fn more_scattered_layouts_never_score_lower(count in 2usize..100) {
            let few = planned(&vec![(1000, 65_536); count]);
            let more = planned(&vec![(1000, 65_536); count + 1]);
            prop_assert!(more.improvement >= few.improvement);
        }
    }
}
