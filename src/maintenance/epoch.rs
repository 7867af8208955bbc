//! Determines the present epoch.

use std::time::Duration;

use serde::Serialize;

use crate::lifecycle::LedgerEntry;

/// The present epoch, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PresentEpoch {
    /// Its number.
    pub epoch: u32,
    /// Whether it was estimated from an earlier epoch and the time since.
    pub estimated: bool,
}

/// Returns the present epoch: the one that the store reports, or an estimate from the
/// epoch of the newest ledger entry plus the epochs of `length` that have begun since.
/// That is one more than have passed, because the epoch may have been about to end.
/// `None` if neither is available.
pub(super) fn present_epoch(
    reported: Option<u32>,
    ledger: &[LedgerEntry],
    now: u64,
    length: Option<Duration>,
) -> Option<PresentEpoch> {
    if let Some(epoch) = reported {
        return Some(PresentEpoch {
            epoch,
            estimated: false,
        });
    }
    let length = length?.as_secs().max(1);
    let known = ledger
        .iter()
        .filter_map(|entry| Some((entry.at, entry.epoch?)));
    let (at, epoch) = known.max()?;
    let elapsed_epochs = match now.saturating_sub(at) {
        0 => 0,
        since => since / length + 1,
    };
    Some(PresentEpoch {
        epoch: epoch.saturating_add(u32::try_from(elapsed_epochs).unwrap_or(u32::MAX)),
        estimated: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_reported_or_estimated_from_the_newest_known() {
        let day = 24 * 3600;
        let entry = |at, epoch| LedgerEntry {
            at,
            epoch,
            ..LedgerEntry::of("it", "walrus://x", &[])
        };
        let ledger = [
            entry(1000, Some(7)),
            entry(5000, Some(9)),
            entry(6000, None),
        ];
        let length = Some(Duration::from_secs(14 * day));
        let estimated = |now| present_epoch(None, &ledger, now, length).map(|it| it.epoch);
        assert_eq!(
            present_epoch(Some(3), &ledger, 0, length).map(|it| it.epoch),
            Some(3)
        );
        assert_eq!(estimated(5000), Some(9));
        assert_eq!(estimated(5000 + day), Some(10));
        assert_eq!(estimated(5000 + 15 * day), Some(11));
        assert_eq!(present_epoch(None, &ledger, 5000, None), None);
        assert_eq!(present_epoch(None, &ledger[2..], 5000, length), None);
    }
}
