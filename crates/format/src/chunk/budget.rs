//! Memory limits of decoders.
//!
//! Bytes with the right hash may still come from a hostile author: a compressed node of a
//! few kilobytes can declare millions of elements of one byte each, and each of them
//! takes a hundred bytes once decoded. So every decoder charges its allocations to a
//! [`Budget`] *before* it allocates, and stops when the budget is exhausted. The reader
//! of nodes carries the budget, so a decoder cannot read a count without charging it.
//!
//! A budget is proportional to the input, which bounds the cost of a small node, and has
//! a ceiling, which bounds the cost of the largest node:
//!
//! | kind of input | ceiling | what honest input needs |
//! |---|---|---|
//! | directory, chunk list, group, tree, commits | [`NODE_BYTES`] | 450,000 files with content in one directory: 120 MiB |
//! | head | [`HEAD_BYTES`] | 10,000 branches and tags with a tree each: 6 MiB |
//! | history, all segments and their index | [`HISTORY_BYTES`] | a million commits, ten million contents: 120 MiB |
//! | tree in memory (manifests, Sui objects, old commits) | [`TREE_BYTES`] | 400,000 files: 100 MiB |

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most bytes of memory per byte of input.
///
/// The smallest honest entries are empty files with short names: 10 bytes that take 100
/// in memory.
pub const MEMORY_PER_INPUT_BYTE: u64 = 16;
/// Bytes of memory that any input may use, regardless of its length.
pub const BASE_BYTES: u64 = 1 << 20;
/// Most bytes of memory that one decoded node may use, its plain bytes included.
pub const NODE_BYTES: u64 = 128 << 20;
/// Most bytes of memory that a decoded head may use: a mount keeps it.
pub const HEAD_BYTES: u64 = 32 << 20;
/// Most bytes of memory that an open history may use.
pub const HISTORY_BYTES: u64 = 128 << 20;
/// Most bytes of memory that a tree without stored directory nodes may use.
pub const TREE_BYTES: u64 = 96 << 20;
/// Most dictionaries of a repository.
pub const MAX_DICTIONARIES: usize = 1024;
/// Most plain bytes of all dictionaries of a repository.
pub const MAX_DICTIONARY_BYTES: u64 = 64 << 20;

/// Charges between two checks for cancellation.
const STOP_CHECK_INTERVAL: u32 = 4096;

/// Why a decoder stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The input needs more memory than allowed.
    OverBudget {
        /// The budget, in bytes.
        limit: u64,
    },
    /// The work was cancelled because its result is no longer needed.
    Stopped,
}

/// The remaining memory of a decoder.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    limit: u64,
    charges: u32,
    stop: Option<Stop>,
}

impl Budget {
    /// Returns the budget for `input` bytes, limited to `ceiling` bytes.
    pub fn of(input: usize, ceiling: u64) -> Self {
        let proportional = (input as u64)
            .saturating_mul(MEMORY_PER_INPUT_BYTE)
            .saturating_add(BASE_BYTES);
        Budget::fixed(proportional.min(ceiling))
    }

    /// Like [`of`](Self::of), for an input that also stays in memory.
    pub fn keeping(input: usize, ceiling: u64) -> Self {
        let mut budget = Budget::of(input, ceiling);
        budget.left = budget.left.saturating_sub(input as u64);
        budget
    }

    /// Returns a budget of `limit` bytes.
    pub fn fixed(limit: u64) -> Self {
        Budget {
            left: limit,
            limit,
            charges: 0,
            stop: Stop::current(),
        }
    }

    /// Returns the bytes that may still be charged.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Returns the bytes charged so far.
    pub fn used(&self) -> u64 {
        self.limit - self.left
    }

    /// Charges `bytes` of memory.
    ///
    /// # Errors
    /// [`Refused::OverBudget`] if they exceed the remainder; [`Refused::Stopped`] if the
    /// work was cancelled.
    pub fn charge(&mut self, bytes: u64) -> Result<(), Refused> {
        self.charges = self.charges.wrapping_add(1);
        if self.charges.is_multiple_of(STOP_CHECK_INTERVAL)
            && self.stop.as_ref().is_some_and(Stop::is_set)
        {
            return Err(Refused::Stopped);
        }
        let limit = self.limit;
        self.left = (self.left.checked_sub(bytes)).ok_or(Refused::OverBudget { limit })?;
        Ok(())
    }

    /// Charges `count` elements of type `T`.
    pub fn charge_elements<T>(&mut self, count: usize) -> Result<(), Refused> {
        self.charge((count as u64).saturating_mul(size_of::<T>() as u64))
    }
}

/// Cancels work on another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

thread_local! {
    static CURRENT: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

impl Stop {
    /// Cancels the work.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work is cancelled.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs `work`; every [`Budget`] that it creates observes this cancellation.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<Stop>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| *current = self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        work()
    }

    fn current() -> Option<Stop> {
        CURRENT.with_borrow(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_grows_with_the_input_up_to_its_ceiling() {
        for (input, most) in [
            (0, BASE_BYTES),
            (1000, BASE_BYTES + 16_000),
            (1 << 30, NODE_BYTES),
        ] {
            let mut budget = Budget::of(input, NODE_BYTES);
            budget.charge(most).unwrap();
            assert_eq!(budget.charge(1), Err(Refused::OverBudget { limit: most }));
            assert_eq!(budget.used(), most);
        }
    }

    #[test]
    fn a_stopped_decoder_gives_up() {
        let stop = Stop::default();
        stop.during(|| {
            let mut budget = Budget::fixed(u64::MAX);
            stop.set();
            let refused = (0..=STOP_CHECK_INTERVAL).find_map(|_| budget.charge(1).err());
            assert_eq!(refused, Some(Refused::Stopped));
        });
        let mut unaffected = Budget::fixed(u64::MAX);
        assert!((0..=STOP_CHECK_INTERVAL).all(|_| unaffected.charge(1).is_ok()));
    }
}
