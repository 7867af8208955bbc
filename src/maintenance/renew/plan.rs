//! Selection of blobs to renew. Pure.

use serde::Serialize;

use walgit_format::chunk::BlobId;
use walrus_client::network::MAX_EPOCHS;
use walrus_encoding::Price;
use walrus_encoding::cost::encoded_size;

/// A needed blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededBlob {
    /// Blob ID.
    pub blob: BlobId,
    /// Length in bytes.
    pub len: u64,
    /// First epoch in which the blob may be gone; `None` if unknown.
    pub end: Option<u32>,
    /// The Sui object that owns the storage, if known.
    pub object_id: Option<String>,
    /// Whether the blob can be deleted before it expires.
    pub deletable: bool,
}

/// Terms of a renewal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RenewalTerms {
    /// Blobs that expire within this many epochs are renewed.
    pub margin: u32,
    /// New expiry in epochs from now; 1 to 53.
    pub epochs: u32,
    /// Maximum amount, in the currency of the price; `None` for no limit.
    pub budget: Option<f64>,
}

/// A blob to renew.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedRenewal {
    /// Blob ID.
    pub blob: BlobId,
    /// Length in bytes.
    pub len: u64,
    /// First epoch in which the blob may be gone now.
    pub end: u32,
    /// First epoch in which the blob may be gone after the renewal.
    pub new_end: u32,
    /// Cost in the currency of the price.
    pub cost: f64,
    /// The object to extend, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    /// Whether the blob can be deleted before it expires.
    pub deletable: bool,
}

/// The planned renewals.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RenewalPlan {
    /// Blobs to renew, the most urgent first.
    pub renew: Vec<PlannedRenewal>,
    /// Renewals that exceed the budget.
    pub over_budget: Vec<PlannedRenewal>,
    /// Blobs whose expiry is unknown.
    pub unknown: Vec<BlobId>,
    /// Blobs that have expired already.
    #[serde(rename = "gone")]
    pub expired: Vec<BlobId>,
    /// Number of blobs that are paid for long enough.
    pub later: u64,
}

impl RenewalPlan {
    /// Returns the total cost, in the currency of the price.
    pub fn cost(&self) -> f64 {
        self.renew.iter().map(|renewal| renewal.cost).sum()
    }
}

/// Plans renewals in epoch `epoch`. Blobs that expire first come first, and of those that
/// expire together the smallest, so that a budget covers as many as possible.
pub(super) fn plan_renewals(
    needed: &[NeededBlob],
    epoch: u32,
    terms: &RenewalTerms,
    price: &Price,
) -> RenewalPlan {
    let mut plan = RenewalPlan::default();
    let new_end = epoch.saturating_add(terms.epochs.clamp(1, MAX_EPOCHS));
    let mut due = Vec::new();
    for needed_blob in needed {
        match needed_blob.end {
            None => plan.unknown.push(needed_blob.blob),
            Some(end) if end <= epoch => plan.expired.push(needed_blob.blob),
            Some(end) if end > epoch.saturating_add(terms.margin) || end >= new_end => {
                plan.later += 1;
            }
            Some(end) => {
                let gb = encoded_size(needed_blob.len) as f64 / 1e9;
                due.push(PlannedRenewal {
                    blob: needed_blob.blob,
                    len: needed_blob.len,
                    end,
                    new_end,
                    cost: gb * price.storage * f64::from(new_end - end),
                    object_id: needed_blob.object_id.clone(),
                    deletable: needed_blob.deletable,
                });
            }
        }
    }
    due.sort_by_key(|renewal| (renewal.end, renewal.len, renewal.blob));
    let mut left = terms.budget.unwrap_or(f64::INFINITY);
    for renewal in due {
        if renewal.cost <= left {
            left -= renewal.cost;
            plan.renew.push(renewal);
        } else {
            plan.over_budget.push(renewal);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needed() -> impl Strategy<Value = Vec<NeededBlob>> {
        let needed_blob = (
            any::<[u8; 32]>(),
            1u64..(10 << 20),
            proptest::option::of(0u32..40),
        );
        let needed_blob = needed_blob.prop_map(|(id, len, end)| NeededBlob {
            blob: BlobId::from_bytes(id),
            len,
            end,
            object_id: None,
            deletable: true,
        });
        proptest::collection::vec(needed_blob, 0..40)
    }

    proptest! {
        #[test]
        fn every_blob_is_reported_once_and_due_blobs_are_renewed_within_the_budget(needed in needed(), epoch in 1u32..20, margin in 0u32..10, epochs in 1u32..60, budget in proptest::option::of(0.0..0.1f64)) {
            let terms = RenewalTerms { margin, epochs, budget };
            let plan = plan_renewals(&needed, epoch, &terms, &Price::mainnet());
            let reported = plan.renew.len() + plan.over_budget.len() + plan.unknown.len() + plan.expired.len() + plan.later as usize;
            prop_assert_eq!(reported, needed.len());
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
        fn renewed_blobs_are_not_due_again(needed in needed(), epoch in 1u32..20, margin in 0u32..10) {
            let terms = RenewalTerms { margin, epochs: margin + 2, budget: None };
            let first = plan_renewals(&needed, epoch, &terms, &Price::mainnet());
            let renewed: Vec<NeededBlob> = needed.into_iter().map(|mut needed_blob| {
                if let Some(done) = first.renew.iter().find(|it| it.blob == needed_blob.blob) {
                    needed_blob.end = Some(done.new_end);
                }
                needed_blob
            }).collect();
            prop_assert!(plan_renewals(&renewed, epoch, &terms, &Price::mainnet()).renew.is_empty());
        }
    }
}
