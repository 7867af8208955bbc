//! Budget for waste: prefetched bytes are a risk until the files are opened.
//!
//! Waste is unknown until a session ends, but it can be bounded throughout: the
//! bytes that were fetched and not opened may never exceed a start value plus a
//! multiple of the opened bytes. A file counts with its expected waste, and in full
//! after it has waited for long. If predictions are right, opens end the risk and
//! prefetching continues; if they are wrong, the budget runs out.

use std::collections::{HashMap, VecDeque};

use super::super::file_index::FileId;

/// First opens after which an expected file that was not opened counts as wasted.
const EXPIRY_OPENS: u64 = 64;

/// Fraction of guesses that must be right for the full allowance, and the number of
/// guesses at which the measured fraction outweighs it. One in ten: a round trip
/// saved for the bytes of ten small files.
const REQUIRED_PRECISION: f64 = 0.1;
const REQUIRED_PRECISION_WEIGHT: f64 = 40.0;
/// Factor by which the weight of a guess decreases with each later one.
const GUESS_DECAY: f64 = 0.995;

/// Fraction of an account that an unlikely file may use, and its increase with
/// probability: an unlikely file must leave budget for likelier ones that may
/// follow soon. From a probability of 0.3 upwards, the whole account.
const MIN_BUDGET_FRACTION: f64 = 0.55;
const BUDGET_FRACTION_PER_PROBABILITY: f64 = 1.5;

/// Limit of bytes at risk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Bytes at the start.
    pub start: u64,
    /// Additional bytes per byte opened.
    pub per_useful: f64,
}

/// Basis of a prediction. Learned and guessed files have separate accounts, so that
/// guesses never use up the budget of learned files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BudgetAccount {
    /// Earlier sessions opened the file.
    Learned = 0,
    /// The file is near opened ones.
    Guessed = 1,
}

impl BudgetAccount {
    pub(super) fn of(is_known: bool) -> Self {
        if is_known {
            BudgetAccount::Learned
        } else {
            BudgetAccount::Guessed
        }
    }
}

/// A prefetched file that was not opened yet.
#[derive(Clone, Copy, Debug)]
struct FileAtRisk {
    account: BudgetAccount,
    bytes: u64,
    /// Bytes that count as wasted.
    charge: u64,
}

/// Bytes opened, and bytes at risk.
#[derive(Debug, Default)]
pub(super) struct WasteBudget {
    useful: u64,
    files: HashMap<FileId, FileAtRisk>,
    order: VecDeque<(FileId, u64)>,
    at_risk: [u64; 2],
    /// Guessed files with a known outcome, and those of them that were opened; both
    /// age.
    guessed: (f64, f64),
    opens: u64,
}

/// Expected waste of a file that is opened with this probability. Only nearly certain
/// predictions get credit; weak ones are rarely better than claimed, and often worse.
fn expected_waste(bytes: u64, probability: f64) -> u64 {
    if probability >= 0.5 {
        ((bytes as f64 * (1.0 - probability)) as u64).min(bytes)
    } else {
        bytes
    }
}

impl WasteBudget {
    /// Bytes of an account that are expected to be wasted.
    pub(super) fn at_risk(&self, account: BudgetAccount) -> u64 {
        self.at_risk[account as usize]
    }

    /// Bytes that were opened.
    pub(super) fn useful(&self) -> u64 {
        self.useful
    }

    /// Remaining bytes to risk on an account.
    pub(super) fn left(&self, account: BudgetAccount, allowance: Allowance) -> u64 {
        let earned = (self.useful as f64 * allowance.per_useful) as u64;
        let mut allowed = (allowance.start.saturating_add(earned)) as f64;
        if account == BudgetAccount::Guessed {
            // The fraction that guesses receive follows from their success so far.
            let (all, right) = self.guessed;
            let right = right + REQUIRED_PRECISION * REQUIRED_PRECISION_WEIGHT;
            let precision = right / (all + REQUIRED_PRECISION_WEIGHT);
            allowed *= (precision / REQUIRED_PRECISION).min(1.0);
        }
        (allowed as u64).saturating_sub(self.at_risk(account))
    }

    fn record_outcome(&mut self, account: BudgetAccount, right: bool) {
        if account == BudgetAccount::Guessed {
            let (all, hits) = &mut self.guessed;
            *all = *all * GUESS_DECAY + 1.0;
            *hits = *hits * GUESS_DECAY + f64::from(u8::from(right));
        }
    }

    /// Records a prefetched file.
    pub(super) fn charge(
        &mut self,
        file: FileId,
        bytes: u64,
        probability: f64,
        account: BudgetAccount,
    ) {
        let charge = expected_waste(bytes, probability);
        let risk = &mut self.at_risk[account as usize];
        *risk = risk.saturating_add(charge);
        let at_risk = FileAtRisk {
            account,
            bytes,
            charge,
        };
        self.files.insert(file, at_risk);
        self.order.push_back((file, self.opens));
    }

    /// Records the first open of a file.
    pub(super) fn opened(&mut self, file: FileId, bytes: u64) {
        self.useful = self.useful.saturating_add(bytes);
        self.opens += 1;
        if let Some(account) = self.release(file) {
            self.record_outcome(account, true);
        }
        while let Some(&(file, since)) = self.order.front() {
            if self.opens - since <= EXPIRY_OPENS {
                break;
            }
            self.order.pop_front();
            if let Some(expired) = self.files.get_mut(&file) {
                let risk = &mut self.at_risk[expired.account as usize];
                *risk = risk.saturating_add(expired.bytes - expired.charge);
                expired.charge = expired.bytes;
                let account = expired.account;
                self.record_outcome(account, false);
            }
        }
    }

    /// Ends the risk of a file: it was opened, or did not arrive. Returns its account.
    pub(super) fn release(&mut self, file: FileId) -> Option<BudgetAccount> {
        let released = self.files.remove(&file)?;
        let risk = &mut self.at_risk[released.account as usize];
        *risk = risk.saturating_sub(released.charge);
        Some(released.account)
    }
}

/// Remaining and total bytes of each account, while a request is assembled.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemainingBudget {
    left: [u64; 2],
    total: [u64; 2],
}

impl RemainingBudget {
    /// Creates it from the bytes at risk and the limit of each account.
    pub(super) fn new([learned, guessed]: [(u64, u64); 2]) -> Self {
        RemainingBudget {
            left: [learned.1 - learned.0, guessed.1 - guessed.0],
            total: [learned.1, guessed.1],
        }
    }

    /// Takes the charge of a file and returns whether it fits. If `guess` is set,
    /// an unlikely file must leave budget for likelier ones.
    pub(super) fn take(
        &mut self,
        account: BudgetAccount,
        bytes: u64,
        probability: f64,
        guess: bool,
    ) -> bool {
        let (left, total) = (
            &mut self.left[account as usize],
            self.total[account as usize],
        );
        let usable = MIN_BUDGET_FRACTION + BUDGET_FRACTION_PER_PROBABILITY * probability;
        let reserved = if guess { 1.0 - usable.min(1.0) } else { 0.0 };
        let reserved = (reserved * total as f64) as u64;
        let charge = expected_waste(bytes, probability);
        let fits = charge.saturating_add(reserved) <= *left;
        if fits {
            *left -= charge;
        }
        fits
    }

    /// Takes unwanted bytes of a gap and returns whether they fit.
    pub(super) fn take_gap(&mut self, account: BudgetAccount, bytes: u64) -> bool {
        let left = &mut self.left[account as usize];
        let fits = bytes <= *left;
        *left = left.saturating_sub(bytes);
        fits
    }
}
