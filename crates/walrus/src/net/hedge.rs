//! A second request for a read that takes too long: when, and how many.
//!
//! Most reads that are slow are so by chance: a busy server, a lost packet, a
//! connection that died while the machine slept. Asking somebody else for the
//! same bytes cuts them off. Asked at the 95th percentile, few reads cost a
//! second request; a budget sees to it that they stay few when everything is
//! slow, since then a second request makes it slower.
//!
//! Own code rather than `tower`'s hedge layer: that one asks the same service
//! again and takes the first answer; here it is another server, and the first
//! answer whose bytes are good.

use crate::network::NetPolicy;

/// When and how often a read is asked for a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeRules {
    /// A read slower than so many of 100 of its server is.
    pub percentile: u8,
    /// Most of 100 reads; 0 for never.
    pub percent: u8,
}

impl Default for HedgeRules {
    fn default() -> Self {
        HedgeRules {
            percentile: 95,
            percent: 5,
        }
    }
}

impl HedgeRules {
    /// As the settings say.
    pub fn of(policy: &NetPolicy) -> Self {
        HedgeRules {
            percentile: policy.hedge_percentile,
            percent: policy.hedge_percent,
        }
    }
}

/// Second requests that were not made may be made up for later, but so many
/// at most: a long good time must not pay for a storm.
const SAVED: u32 = 5;

/// How many second requests may be made. Counts in hundredths of one.
#[derive(Debug)]
pub(super) struct HedgeBudget {
    percent: u32,
    saved: u32,
}

impl HedgeBudget {
    pub(super) fn new(rules: HedgeRules) -> Self {
        HedgeBudget {
            percent: u32::from(rules.percent),
            // The first read that hangs is as bad as any later one.
            saved: if rules.percent > 0 { 100 } else { 0 },
        }
    }

    /// A read was begun.
    pub(super) fn earn(&mut self) {
        self.saved = (self.saved + self.percent).min(SAVED * 100);
    }

    /// Whether a second request may be made; then it is counted.
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
        /// However the reads and the wishes for more are mixed.
        #[test]
        fn the_extra_load_is_bounded(
            percent in 0..=100u8,
            acts in prop::collection::vec(prop::bool::weighted(0.5), 1..2000),
        ) {
            let mut budget = HedgeBudget::new(HedgeRules { percentile: 95, percent });
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
    fn what_was_saved_is_little() {
        let mut budget = HedgeBudget::new(HedgeRules::default());
        (0..10_000).for_each(|_| budget.earn());
        let storm = (0..1000).filter(|_| budget.spend()).count();
        assert_eq!(storm, SAVED as usize);
    }
}
