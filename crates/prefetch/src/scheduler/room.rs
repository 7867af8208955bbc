//! Remaining risk budget while a request is assembled.

use super::super::kinship::Kin;
use super::Scheduler;
use super::ledger::{Account, Ledger};

/// Fraction of an account that an unlikely file may use, and its increase with
/// probability: an unlikely file must leave budget for likelier ones that may
/// follow soon. From a probability of 0.3 upwards, the whole account.
const UNLIKELY_PART: f64 = 0.55;
const PART_OF_PROBABILITY: f64 = 1.5;

/// Remaining and total risk budget of each account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    left: [u64; 2],
    all: [u64; 2],
}

impl Room {
    pub(super) fn of(scheduler: &Scheduler) -> Self {
        let [learned, guessed] = scheduler.at_risk();
        Room {
            left: [learned.1 - learned.0, guessed.1 - guessed.0],
            all: [learned.1, guessed.1],
        }
    }

    /// Takes the charge of a file and returns whether it fits. If `guess` is set,
    /// an unlikely file must leave budget for likelier ones.
    pub(super) fn take(
        &mut self,
        account: Account,
        bytes: u64,
        probability: f64,
        guess: bool,
    ) -> bool {
        let at = account as usize;
        let charge = Ledger::charge(bytes, probability);
        let kept = match guess {
            true => 1.0 - (UNLIKELY_PART + PART_OF_PROBABILITY * probability).min(1.0),
            false => 0.0,
        };
        let kept = (kept * self.all[at] as f64) as u64;
        let fits = charge.saturating_add(kept) <= self.left[at];
        if fits {
            self.left[at] -= charge;
        }
        fits
    }

    /// Takes unwanted bytes of a gap and returns whether they fit.
    pub(super) fn take_gap(&mut self, account: Account, bytes: u64) -> bool {
        let left = &mut self.left[account as usize];
        let fits = bytes <= *left;
        *left = left.saturating_sub(bytes);
        fits
    }
}

/// Returns the account for a related file.
pub(super) fn account(kin: &Kin) -> Account {
    match kin.known {
        true => Account::Learned,
        false => Account::Guessed,
    }
}
