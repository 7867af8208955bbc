//! A cache for values that are expensive to create, bounded by memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps the most recently used value, regardless of its weight, and others up to a
/// limit.
#[derive(Debug)]
pub(crate) struct WeightedLru<K, V> {
    capacity: u64,
    max_entries: usize,
    /// Most recently used first.
    things: Mutex<VecDeque<(K, V)>>,
}

impl<K: Eq, V: Clone> WeightedLru<K, V> {
    /// Creates a cache for `capacity` bytes besides the most recently used value.
    pub(crate) fn new(capacity: u64) -> Self {
        WeightedLru {
            capacity,
            max_entries: usize::MAX,
            things: Mutex::default(),
        }
    }

    /// Also limits the number of values to `max_entries`.
    pub(crate) fn at_most(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    fn things(&self) -> MutexGuard<'_, VecDeque<(K, V)>> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.things().len()
    }

    /// Total weight of all values.
    pub(crate) fn weight(&self, weight: impl Fn(&V) -> u64) -> u64 {
        self.things().iter().map(|(_, value)| weight(value)).sum()
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut things = self.things();
        let at = things.iter().position(|(known, _)| known == key)?;
        let found = things.remove(at)?;
        let value = found.1.clone();
        things.push_front(found);
        Some(value)
    }

    /// Removes all values.
    pub(crate) fn clear(&self) {
        self.things().clear();
    }

    /// Adds `value` and evicts values beyond the limit.
    pub(crate) fn keep(&self, key: K, value: V, weight: impl Fn(&V) -> u64) {
        let mut things = self.things();
        let mut free = self.capacity;
        things.retain(|(known, value)| {
            let left = free.checked_sub(weight(value));
            let fits = left.filter(|_| *known != key);
            free = fits.unwrap_or(free);
            fits.is_some()
        });
        things.push_front((key, value));
        things.truncate(self.max_entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_stays_and_others_within_the_limit() {
        let cache = WeightedLru::new(10);
        for (key, weight) in [(1, 4), (2, 4), (3, 100), (4, 4)] {
            cache.keep(key, weight, |weight| *weight);
            assert_eq!(cache.get(&key), Some(weight));
        }
        let left: Vec<_> = (1..=4).filter(|key| cache.get(key).is_some()).collect();
        assert_eq!(left, [1, 2, 4]);
    }
}
