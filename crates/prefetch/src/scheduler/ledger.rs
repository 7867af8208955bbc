//! Risk budget: prefetched bytes are a loan that opens repay.
//!
//! Waste is unknown until a session ends, but it can be bounded throughout: the
//! bytes that were fetched and not opened may never exceed a start value plus a
//! multiple of the opened bytes. A file counts with its expected waste, and in full
//! after it has waited for long. If predictions are right, each open repays the
//! loan and prefetching continues; if they are wrong, the budget runs out.

use std::collections::{HashMap, VecDeque};

use super::super::catalogue::FileId;

/// First opens after which an expected file that was not opened counts as wasted.
const PATIENCE: u64 = 64;

/// Fraction of guesses that must be right for the full allowance, and the number of
/// guesses at which the measured fraction outweighs it. One in ten: a round trip
/// saved for the bytes of ten small files.
const PAYS: f64 = 0.1;
const PAYS_WEIGHT: f64 = 40.0;
/// Factor by which the weight of a guess decreases with each later one.
const REMEMBERED: f64 = 0.995;

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
pub(super) enum Account {
    /// Earlier sessions opened the file.
    Learned = 0,
    /// The file is near opened ones.
    Guessed = 1,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Loan {
    account: Account,
    bytes: u64,
    charge: u64,
}

/// Bytes opened, and bytes at risk.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    useful: u64,
    /// Files that were fetched but not opened.
    loans: HashMap<FileId, Loan>,
    order: VecDeque<(FileId, u64)>,
    at_risk: [u64; 2],
    /// Guessed files with a known outcome, and those of them that were opened; both
    /// age.
    guessed: (f64, f64),
    opens: u64,
}

impl Ledger {
    /// Bytes of an account that are expected to be wasted.
    pub(super) fn at_risk(&self, account: Account) -> u64 {
        self.at_risk[account as usize]
    }

    /// Bytes that were opened.
    pub(super) fn useful(&self) -> u64 {
        self.useful
    }

    /// Remaining bytes to risk on an account.
    pub(super) fn left(&self, account: Account, allowance: Allowance) -> u64 {
        let earned = (self.useful as f64 * allowance.per_useful) as u64;
        let allowed = (allowance.start.saturating_add(earned)) as f64;
        let allowed = match account {
            Account::Learned => allowed,
            Account::Guessed => allowed * self.luck(),
        };
        (allowed as u64).saturating_sub(self.at_risk(account))
    }

    /// Fraction of the allowance that guesses receive, from their success so far.
    fn luck(&self) -> f64 {
        let (all, right) = self.guessed;
        let share = (right + PAYS * PAYS_WEIGHT) / (all + PAYS_WEIGHT);
        (share / PAYS).min(1.0)
    }

    fn resolve(&mut self, account: Account, right: bool) {
        if account == Account::Guessed {
            let (all, hits) = &mut self.guessed;
            *all = *all * REMEMBERED + 1.0;
            *hits = *hits * REMEMBERED + f64::from(u8::from(right));
        }
    }

    /// Returns the charge for a file.
    pub(super) fn charge(bytes: u64, probability: f64) -> u64 {
        // Only nearly certain predictions get credit; weak ones are rarely better
        // than claimed, and often worse.
        match probability >= 0.5 {
            true => ((bytes as f64 * (1.0 - probability)) as u64).min(bytes),
            false => bytes,
        }
    }

    /// Records a prefetched file and its charge.
    pub(super) fn lend(&mut self, file: FileId, bytes: u64, charge: u64, account: Account) {
        let risk = &mut self.at_risk[account as usize];
        *risk = risk.saturating_add(charge);
        let loan = Loan {
            account,
            bytes,
            charge,
        };
        self.loans.insert(file, loan);
        self.order.push_back((file, self.opens));
    }

    /// Records the first open of a file.
    pub(super) fn opened(&mut self, file: FileId, bytes: u64) {
        self.useful = self.useful.saturating_add(bytes);
        self.opens += 1;
        if let Some(loan) = self.end(file) {
            self.resolve(loan.account, true);
        }
        while let Some(&(file, since)) = self.order.front() {
            if self.opens - since <= PATIENCE {
                break;
            }
            self.order.pop_front();
            if let Some(loan) = self.loans.get_mut(&file) {
                let risk = &mut self.at_risk[loan.account as usize];
                *risk = risk.saturating_add(loan.bytes - loan.charge);
                loan.charge = loan.bytes;
                let account = loan.account;
                self.resolve(account, false);
            }
        }
    }

    /// Records that a file did not arrive, or is no longer at risk.
    pub(super) fn end(&mut self, file: FileId) -> Option<Loan> {
        let loan = self.loans.remove(&file)?;
        let risk = &mut self.at_risk[loan.account as usize];
        *risk = risk.saturating_sub(loan.charge);
        Some(loan)
    }
}
