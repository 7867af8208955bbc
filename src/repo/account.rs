//! Memory limit per mount.
//!
//! Each decoder has a budget ([`walgit_format::chunk::budget`]), but one address can
//! reference many objects that each fit their own: directories in use at the same
//! time, trees of old commits, earlier heads. Every object that a mount keeps in
//! memory is charged to its account on creation and released on drop. If the limit is
//! exceeded, the request fails for that mount only; the accounts of other mounts are
//! independent.
//!
//! The caches of the process are bounded by weight (`decoded`, `weighted_lru`, and
//! [`crate::cache`]). A decoded node is charged to the mount that decoded it, cached
//! or not. If an account is full, the cache first evicts the nodes of that account,
//! so that only nodes in use count in the end.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::RepoError;
use walgit_format::chunk::budget;

/// Most bytes of memory that one mount may keep: the largest possible head plus the
/// largest possible tree or directory.
pub const MOUNT_MEMORY_BYTES: u64 = budget::NODE_BYTES + budget::HEAD_BYTES;
/// Number of trees to build concurrently per mount. Each needs its input in memory: a
/// manifest, objects of the chain or a group of an archive.
const TREE_BUILD_CONCURRENCY: usize = 2;

/// A cache that can evict what is charged to an account.
pub(super) trait EvictAccount: fmt::Debug + Send + Sync {
    /// Evicts the values charged to an account. Values in use stay charged.
    fn evict(&self, account: &MemoryAccount);
}

/// The memory account of one mount. Cheap to clone: clones share the account.
#[derive(Clone, Debug)]
pub struct MemoryAccount(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The user's name for the mounted repository.
    name: String,
    used: AtomicU64,
    limit: u64,
    build_permit: Semaphore,
    /// Cache that evicts this account's nodes if the account is full.
    cache: Option<Weak<dyn EvictAccount>>,
}

/// Memory use of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// Bytes in use.
    #[serde(rename = "kept")]
    pub used: u64,
    /// Limit in bytes.
    pub limit: u64,
}

impl MemoryAccount {
    /// An account without a limit, for short-lived commands.
    pub fn unlimited() -> Self {
        MemoryAccount::of("", u64::MAX, None)
    }

    pub(super) fn of(name: &str, limit: u64, cache: Option<Weak<dyn EvictAccount>>) -> Self {
        MemoryAccount(Arc::new(Inner {
            name: name.into(),
            used: AtomicU64::new(0),
            limit,
            build_permit: Semaphore::new(TREE_BUILD_CONCURRENCY),
            cache,
        }))
    }

    /// Returns the memory use.
    pub fn stats(&self) -> MemoryStats {
        MemoryStats {
            used: self.0.used.load(Ordering::Relaxed),
            limit: self.0.limit,
        }
    }

    /// Charges `bytes` for the lifetime of the charge.
    ///
    /// # Errors
    /// [`RepoError::Memory`] if they exceed the limit.
    pub fn charge(&self, bytes: u64) -> Result<Charge, RepoError> {
        let mut charge = self.nothing();
        charge.more(bytes)?;
        Ok(charge)
    }

    /// Creates an empty charge.
    pub fn nothing(&self) -> Charge {
        Charge(Some((self.clone(), 0)))
    }

    /// Charges bytes if they fit, if necessary after an eviction of the account's
    /// nodes.
    fn add(&self, bytes: u64) -> bool {
        let Inner { used, limit, .. } = &*self.0;
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| sum <= limit);
        let add = || (used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)).is_ok();
        add() || (self.reclaim() && add())
    }

    /// Evicts the account's nodes from the cache; `false` if there is no cache.
    fn reclaim(&self) -> bool {
        let cache = self.0.cache.as_ref().and_then(Weak::upgrade);
        cache.inspect(|cache| cache.evict(self)).is_some()
    }

    /// Waits for permission to build another tree in memory.
    pub(super) async fn build_permit(&self) -> Option<SemaphorePermit<'_>> {
        self.0.build_permit.acquire().await.ok()
    }
}

/// Bytes charged to an account until this is dropped. Part of the object that uses
/// the bytes, but not of its value: any two charges compare equal.
#[derive(Debug, Default)]
pub struct Charge(Option<(MemoryAccount, u64)>);

impl Charge {
    /// Charges `bytes` more.
    ///
    /// # Errors
    /// [`RepoError::Memory`] if they exceed the limit.
    pub fn more(&mut self, bytes: u64) -> Result<(), RepoError> {
        let Some((account, paid)) = &mut self.0 else {
            return Ok(());
        };
        if !account.add(bytes) {
            return Err(RepoError::Memory {
                name: account.0.name.clone(),
                limit: account.0.limit,
            });
        }
        *paid += bytes;
        Ok(())
    }

    /// Charges `bytes` more even beyond the limit, for memory that is bounded by
    /// other means and must not fail.
    pub fn force(&mut self, bytes: u64) {
        if let Some((MemoryAccount(account), paid)) = &mut self.0 {
            account.used.fetch_add(bytes, Ordering::Relaxed);
            *paid += bytes;
        }
    }

    /// Whether `bytes` more fit the limit and keep this charge within `max_bytes`.
    pub fn can_charge(&self, bytes: u64, max_bytes: u64) -> bool {
        self.0.as_ref().is_none_or(|(account, paid)| {
            let fits = || {
                let MemoryStats { used, limit } = account.stats();
                used.saturating_add(bytes) <= limit
            };
            paid.saturating_add(bytes) <= max_bytes && (fits() || (account.reclaim() && fits()))
        })
    }

    /// Releases up to `bytes`.
    pub fn less(&mut self, bytes: u64) {
        if let Some((MemoryAccount(account), paid)) = &mut self.0 {
            let back = bytes.min(*paid);
            account.used.fetch_sub(back, Ordering::Relaxed);
            *paid -= back;
        }
    }

    /// Whether it is charged to this account.
    pub(super) fn is_of(&self, account: &MemoryAccount) -> bool {
        (self.0.as_ref()).is_some_and(|(payer, _)| Arc::ptr_eq(&payer.0, &account.0))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.less(u64::MAX);
    }
}

impl Clone for Charge {
    fn clone(&self) -> Self {
        let Some((account, paid)) = &self.0 else {
            return Charge(None);
        };
        let mut again = account.nothing();
        again.force(*paid);
        again
    }
}

impl PartialEq for Charge {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Charge {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_beyond_the_limit_are_refused_and_dropped_charges_are_returned() {
        let account = MemoryAccount::of("it", 100, None);
        let mut first_charge = account.charge(60).unwrap();
        let refused = account.charge(41).unwrap_err();
        assert!(matches!(refused, RepoError::Memory { limit: 100, .. }));
        assert_eq!(account.stats().used, 60, "a refused charge costs nothing");
        first_charge.more(40).unwrap();
        assert!(!first_charge.can_charge(1, u64::MAX));
        first_charge.less(50);
        let two = first_charge.clone();
        assert_eq!(account.stats().used, 100);
        drop((first_charge, two));
        assert_eq!(account.stats().used, 0);
        assert!(
            MemoryAccount::of("other", 100, None).charge(100).is_ok(),
            "accounts are apart"
        );
    }

    #[test]
    fn forced_charges_count_and_are_returned() {
        let account = MemoryAccount::of("it", 10, None);
        let mut charge = account.nothing();
        charge.force(30);
        assert!(account.charge(1).is_err());
        drop(charge);
        let charge = account.charge(5).unwrap();
        assert!(charge.can_charge(5, 10) && !charge.can_charge(5, 9));
        Charge::default().more(u64::MAX).unwrap();
    }
}
