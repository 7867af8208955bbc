//! Which blobs are paid for longer, and which are not. Pure.

use serde::Serialize;

use walgit_format::chunk::BlobId;
use walrus_client::network::MAX_EPOCHS;
use walrus_encoding::Price;
use walrus_encoding::cost::encoded_size;

/// A blob that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Which.
    pub blob: BlobId,
    /// Its length in bytes.
    pub len: u64,
    /// First epoch in which it may be gone; `None` where nobody knows.
    pub end: Option<u32>,
    /// The Sui object that owns its storage, where that is known.
    pub object_id: Option<String>,
    /// Whether it may be deleted before it ends.
    pub deletable: bool,
}

/// How to renew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// What ends within so many epochs is renewed.
    pub margin: u32,
    /// Until so many epochs from now; 1 to 53.
    pub epochs: u32,
    /// What may be spent, in the price's currency; `None` for any amount.
    pub budget: Option<f64>,
}

/// A blob that is to be paid for longer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Renewal {
    /// Which.
    pub blob: BlobId,
    /// Its length in bytes.
    pub len: u64,
    /// First epoch in which it may be gone now.
    pub end: u32,
    /// The same, afterwards.
    pub new_end: u32,
    /// What that costs, in the price's currency.
    pub cost: f64,
    /// The object to extend, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    /// Whether it may be deleted before it ends.
    pub deletable: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// What is renewed, the most urgent first.
    pub renew: Vec<Renewal>,
    /// What the budget does not allow.
    pub over_budget: Vec<Renewal>,
    /// Blobs of which nobody knows until when they are paid for.
    pub unknown: Vec<BlobId>,
    /// What is gone already.
    pub gone: Vec<BlobId>,
    /// How many are paid for long enough.
    pub later: u64,
}

impl Plan {
    /// What it costs, in the price's currency.
    pub fn cost(&self) -> f64 {
        self.renew.iter().map(|renewal| renewal.cost).sum()
    }
}

/// Plans renewals in epoch `epoch`. What ends first comes first, and of what ends
/// together the smallest, so that a budget keeps as much as it can.
pub fn plan(needed: &[Needed], epoch: u32, terms: &Terms, price: &Price) -> Plan {
    let mut plan = Plan::default();
    let new_end = epoch.saturating_add(terms.epochs.clamp(1, MAX_EPOCHS));
    let mut due = Vec::new();
    for one in needed {
        match one.end {
            None => plan.unknown.push(one.blob),
            Some(end) if end <= epoch => plan.gone.push(one.blob),
            Some(end) if end > epoch.saturating_add(terms.margin) || end >= new_end => {
                plan.later += 1;
            }
            Some(end) => {
                let gb = encoded_size(one.len) as f64 / 1e9;
                due.push(Renewal {
                    blob: one.blob,
                    len: one.len,
                    end,
                    new_end,
                    cost: gb * price.storage * f64::from(new_end - end),
                    object_id: one.object_id.clone(),
                    deletable: one.deletable,
                });
            }
        }
    }
    due.sort_by_key(|renewal| (renewal.end, renewal.len, renewal.blob));
    let mut left = terms.budget.unwrap_or(f64::INFINITY);
    for renewal in due {
        match renewal.cost <= left {
            true => {
                left -= renewal.cost;
                plan.renew.push(renewal);
            }
            false => plan.over_budget.push(renewal),
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needed() -> impl Strategy<Value = Vec<Needed>> {
        let one = (
            any::<[u8; 32]>(),
            1u64..(10 << 20),
            proptest::option::of(0u32..40),
        );
        let one = one.prop_map(|(id, len, end)| Needed {
            blob: BlobId::from_bytes(id),
            len,
            end,
            object_id: None,
            deletable: true,
        });
        proptest::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn everything_is_told_of_once_and_what_is_due_is_renewed_within_the_budget(needed in needed(), epoch in 1u32..20, margin in 0u32..10, epochs in 1u32..60, budget in proptest::option::of(0.0..0.1f64)) {
            let terms = Terms { margin, epochs, budget };
            let plan = plan(&needed, epoch, &terms, &Price::mainnet());
            let told = plan.renew.len() + plan.over_budget.len() + plan.unknown.len() + plan.gone.len() + plan.later as usize;
            prop_assert_eq!(told, needed.len());
            prop_assert!(plan.cost() <= budget.unwrap_or(f64::INFINITY) + 1e-12);
            for renewal in plan.renew.iter().chain(&plan.over_budget) {
                prop_assert!(renewal.end > epoch && renewal.end <= epoch + margin);
                prop_assert!(renewal.new_end > renewal.end && renewal.new_end <= epoch + 53);
                prop_assert!(renewal.cost > 0.0);
            }
            if budget.is_none() {
                prop_assert!(plan.over_budget.is_empty());
            }
            prop_assert!(plan.renew.is_sorted_by_key(|renewal| renewal.end));
        }

        #[test]
        fn what_was_renewed_is_not_due_again(needed in needed(), epoch in 1u32..20, margin in 0u32..10) {
            let terms = Terms { margin, epochs: margin + 2, budget: None };
            let first = plan(&needed, epoch, &terms, &Price::mainnet());
            let renewed: Vec<Needed> = needed.into_iter().map(|mut one| {
                if let Some(done) = first.renew.iter().find(|it| it.blob == one.blob) {
                    one.end = Some(done.new_end);
                }
                one
            }).collect();
            prop_assert!(plan(&renewed, epoch, &terms, &Price::mainnet()).renew.is_empty());
        }
    }
}
