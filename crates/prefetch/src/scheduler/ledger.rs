//! What may be risked: bytes fetched ahead are a loan that opens repay.
//!
//! Waste cannot be known before a session ends, but it can be bounded all
//! along: what was fetched and has not been opened may never exceed a start
//! and a multiple of what was. A file counts with the part of it that is
//! expected to be wasted, and in full once it has waited for long. Where
//! predictions are right the loan is repaid by each open and prefetching goes
//! on; where they are wrong it dries up by itself.

use std::collections::{HashMap, VecDeque};

use super::super::catalogue::FileId;

/// First opens after which a file that was expected and has not been opened
/// counts as wasted.
const PATIENCE: u64 = 64;

/// Part of the guesses that must be right for the whole allowance, and how many
/// must have been seen until they are judged by it. One in ten: a round trip
/// saved for the bytes of ten small files.
const PAYS: f64 = 0.1;
const PAYS_WEIGHT: f64 = 40.0;
/// What is left of a guess's weight with each one after it.
const REMEMBERED: f64 = 0.995;

/// How much may be risked, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// At the beginning.
    pub start: u64,
    /// For each byte that was opened.
    pub per_useful: f64,
}

/// On whose word bytes are risked. What is learned and what is guessed have an
/// account each, so that guesses never use up what knowledge needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// Earlier sessions opened the file.
    Learned = 0,
    /// It lies near what is opened.
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
    /// Of what is fetched and not opened.
    loans: HashMap<FileId, Loan>,
    order: VecDeque<(FileId, u64)>,
    at_risk: [u64; 2],
    /// Files guessed whose outcome is known, and those of them that were
    /// opened; both age.
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

    /// What may still be risked on an account.
    pub(super) fn left(&self, account: Account, allowance: Allowance) -> u64 {
        let earned = (self.useful as f64 * allowance.per_useful) as u64;
        let allowed = (allowance.start.saturating_add(earned)) as f64;
        let allowed = match account {
            Account::Learned => allowed,
            Account::Guessed => allowed * self.luck(),
        };
        (allowed as u64).saturating_sub(self.at_risk(account))
    }

    /// How much of the allowance guesses deserve, from how they did so far.
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

    /// What a file would count.
    pub(super) fn charge(bytes: u64, probability: f64) -> u64 {
        // Only what is nearly sure is given credit; weak predictions are
        // rarely better than they claim, and often worse.
        match probability >= 0.5 {
            true => ((bytes as f64 * (1.0 - probability)) as u64).min(bytes),
            false => bytes,
        }
    }

    /// Notes that a file is fetched ahead, and what it counts.
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

    /// Notes the first open of a file.
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

    /// Notes that a file did not come after all, or is at risk no more.
    pub(super) fn end(&mut self, file: FileId) -> Option<Loan> {
        let loan = self.loans.remove(&file)?;
        let risk = &mut self.at_risk[loan.account as usize];
        *risk = risk.saturating_sub(loan.charge);
        Some(loan)
    }
}
