//! What may be risked at the moment, while a request is put together.

use super::super::kinship::Kin;
use super::Scheduler;
use super::ledger::{Account, Ledger};

/// Part of an account that an unlikely file may use up, and how much of it more
/// with its probability: what is unlikely must leave room for what something
/// likelier may need in a moment. From a probability of 0.3 on, everything.
const UNLIKELY_PART: f64 = 0.55;
const PART_OF_PROBABILITY: f64 = 1.5;

/// What may be risked on each account at the moment.
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

    /// Takes a file's charge, if there is room. `guess`: an unlikely file must
    /// leave room for what something likelier may need in a moment.
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

    /// Takes bytes that nobody wants.
    pub(super) fn take_gap(&mut self, account: Account, bytes: u64) -> bool {
        let left = &mut self.left[account as usize];
        let fits = bytes <= *left;
        *left = left.saturating_sub(bytes);
        fits
    }
}

/// On whose account kin is fetched.
pub(super) fn account(kin: &Kin) -> Account {
    match kin.known {
        true => Account::Learned,
        false => Account::Guessed,
    }
}
