//! Hedged reads: when to send a second request for a slow read, and how often.
//!
//! Most slow reads are slow by chance: a busy server, a lost packet, a connection that
//! died while the machine slept. A request to another server for the same bytes cuts
//! these delays off. Hedged at the 95th percentile, few reads cost a second request. A
//! budget bounds their number when everything is slow, because second requests then add
//! to the load.
//!
//! Implemented here because `tower`'s hedge layer repeats the request at the same
//! service and takes the first answer. Here another server is asked, and the first
//! answer with valid bytes wins.

/// Most unused hedged reads that are saved for later: a long good period must not allow
/// a burst.
const MAX_SAVED_HEDGES: u32 = 5;

/// Budget of hedged reads, in hundredths of one.
#[derive(Debug)]
pub(super) struct HedgeBudget {
    percent: u32,
    saved: u32,
}

impl HedgeBudget {
    /// Creates a budget of `percent` hedged reads per 100 reads.
    pub(super) fn new(percent: u8) -> Self {
        HedgeBudget {
            percent: percent.into(),
            // The first read may already hang.
            saved: if percent > 0 { 100 } else { 0 },
        }
    }

    /// Records the start of a read.
    pub(super) fn earn(&mut self) {
        self.saved = (self.saved + self.percent).min(MAX_SAVED_HEDGES * 100);
    }

    /// Takes a hedged read from the budget; `false` if the budget is spent.
    pub(super) fn spend(&mut self) -> bool {
        let enough = self.saved >= 100;
        if enough {
            self.saved -= 100;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// For any sequence of reads and hedges.
        #[test]
        fn the_extra_load_is_bounded(
            percent in 0..=100u8,
            acts in prop::collection::vec(prop::bool::weighted(0.5), 1..2000),
        ) {
            let mut budget = HedgeBudget::new(percent);
            let (mut reads, mut extra) = (0u32, 0u32);
            for act in acts {
                match act {
                    true => {
                        budget.earn();
                        reads += 1;
                    }
                    false => extra += u32::from(budget.spend()),
                }
                prop_assert!(extra * 100 <= reads * u32::from(percent) + 100);
                prop_assert!(percent > 0 || extra == 0);
            }
        }
    }

    #[test]
    fn few_unused_hedges_are_saved() {
        let mut budget = HedgeBudget::new(5);
        (0..10_000).for_each(|_| budget.earn());
        let storm = (0..1000).filter(|_| budget.spend()).count();
        assert_eq!(storm, MAX_SAVED_HEDGES as usize);
    }
}
