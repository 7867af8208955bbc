//! Eviction policy: S3-FIFO.
//!
//! New entries wait in a small queue. An entry that is used again there moves to
//! the main queue; others leave at the end and are remembered for a while (the
//! ghost list). An entry that returns from the ghost list goes directly to the main
//! queue. So a scan that reads everything once passes through the small queue and
//! leaves the working set intact. (Yang et al., "FIFO queues are all you need for
//! cache eviction", SOSP 2023.)
//!
//! Pinned entries are in no queue and are never evicted.
//!
//! Pure bookkeeping over hashes and sizes; about 100 bytes per entry.

use std::collections::{HashMap, HashSet, VecDeque};

use walgit_format::chunk::ChunkHash;

/// Percentage of the budget for the small queue (value of the paper).
const SMALL_QUEUE_PERCENT: u64 = 10;
/// Uses saturate at this count (two bits in the paper).
const MAX_USES: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
    /// In no queue: never evicted.
    Pinned,
}

#[derive(Debug)]
struct PolicyEntry {
    size: u32,
    uses: u8,
    queue: Queue,
}

/// Sizes and use counts of entries, and their eviction order.
#[derive(Debug, Default)]
pub(super) struct EvictionPolicy {
    budget: u64,
    entries: HashMap<ChunkHash, PolicyEntry>,
    small: VecDeque<ChunkHash>,
    main: VecDeque<ChunkHash>,
    small_bytes: u64,
    main_bytes: u64,
    pinned_bytes: u64,
    /// Number of pins that want an entry, whether it is present or not.
    pins: HashMap<ChunkHash, u32>,
    ghosts: VecDeque<ChunkHash>,
    ghost_set: HashSet<ChunkHash>,
}

impl EvictionPolicy {
    pub(super) fn new(budget: u64) -> Self {
        EvictionPolicy {
            budget,
            ..EvictionPolicy::default()
        }
    }

    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.small_bytes + self.main_bytes + self.pinned_bytes
    }

    pub(super) fn contains(&self, hash: &ChunkHash) -> bool {
        self.entries.contains_key(hash)
    }

    /// Records a use.
    pub(super) fn record_use(&mut self, hash: &ChunkHash) {
        if let Some(entry) = self.entries.get_mut(hash) {
            entry.uses = (entry.uses + 1).min(MAX_USES);
        }
    }

    /// Inserts an entry, or replaces it with another size. `promoted` entries were in
    /// the main queue in an earlier session.
    pub(super) fn insert(&mut self, hash: ChunkHash, size: u32, promoted: bool) {
        self.remove(&hash);
        let queue = if self.pins.contains_key(&hash) {
            Queue::Pinned
        } else if promoted || self.ghost_set.remove(&hash) {
            Queue::Main
        } else {
            Queue::Small
        };
        let entry = PolicyEntry {
            size,
            uses: 0,
            queue,
        };
        self.entries.insert(hash, entry);
        self.enqueue(hash, queue, size);
    }

    /// Removes an entry. Its slot in a queue remains and is skipped later.
    pub(super) fn remove(&mut self, hash: &ChunkHash) {
        if let Some(entry) = self.entries.remove(hash) {
            *self.bytes_of(entry.queue) -= u64::from(entry.size);
        }
    }

    /// Removes all entries; the pins remain.
    pub(super) fn clear_entries(&mut self) {
        *self = EvictionPolicy {
            pins: std::mem::take(&mut self.pins),
            ..EvictionPolicy::new(self.budget)
        };
    }

    /// Adds a pin to an entry.
    pub(super) fn pin(&mut self, hash: ChunkHash) {
        *self.pins.entry(hash).or_default() += 1;
        self.move_to(&hash, Queue::Pinned);
    }

    /// Removes a pin from an entry. The entry is promoted.
    pub(super) fn unpin(&mut self, hash: &ChunkHash) {
        let Some(pins) = self.pins.get_mut(hash) else {
            return;
        };
        *pins -= 1;
        if *pins == 0 {
            self.pins.remove(hash);
            self.move_to(hash, Queue::Main);
        }
    }

    fn move_to(&mut self, hash: &ChunkHash, queue: Queue) {
        let Some(entry) = self.entries.get_mut(hash).filter(|it| it.queue != queue) else {
            return;
        };
        let (from, size) = (std::mem::replace(&mut entry.queue, queue), entry.size);
        *self.bytes_of(from) -= u64::from(size);
        self.enqueue(*hash, queue, size);
    }

    /// Evicts unpinned entries until at most `target` bytes remain, and returns
    /// them.
    pub(super) fn evict_to(&mut self, target: u64) -> Vec<ChunkHash> {
        let mut evicted = Vec::new();
        while self.bytes() > target && self.bytes() > self.pinned_bytes {
            let from_small = self.small_bytes * 100 > self.budget * SMALL_QUEUE_PERCENT;
            evicted.extend(if from_small || self.main_bytes == 0 {
                self.evict_small()
            } else {
                self.evict_main()
            });
        }
        evicted
    }

    /// Returns the entries that were used again, so that the next session does not
    /// treat them as new.
    pub(super) fn promoted(&self) -> Vec<ChunkHash> {
        let promoted = |entry: &PolicyEntry| entry.queue != Queue::Small || entry.uses > 0;
        let entries = self.entries.iter().filter(|(_, entry)| promoted(entry));
        entries.map(|(hash, _)| *hash).collect()
    }

    pub(super) fn hashes(&self) -> Vec<ChunkHash> {
        self.entries.keys().copied().collect()
    }

    fn bytes_of(&mut self, queue: Queue) -> &mut u64 {
        match queue {
            Queue::Small => &mut self.small_bytes,
            Queue::Main => &mut self.main_bytes,
            Queue::Pinned => &mut self.pinned_bytes,
        }
    }

    fn enqueue(&mut self, hash: ChunkHash, queue: Queue, size: u32) {
        *self.bytes_of(queue) += u64::from(size);
        match queue {
            Queue::Small => self.small.push_back(hash),
            Queue::Main => self.main.push_back(hash),
            Queue::Pinned => {}
        }
    }

    fn evict_small(&mut self) -> Option<ChunkHash> {
        let hash = self.small.pop_front()?;
        let entry = (self.entries.get_mut(&hash)).filter(|entry| entry.queue == Queue::Small)?;
        if entry.uses > 0 {
            entry.uses = 0;
            self.move_to(&hash, Queue::Main);
            return None;
        }
        self.remove(&hash);
        self.add_ghost(hash);
        Some(hash)
    }

    fn evict_main(&mut self) -> Option<ChunkHash> {
        let hash = self.main.pop_front()?;
        let entry = (self.entries.get_mut(&hash)).filter(|entry| entry.queue == Queue::Main)?;
        if entry.uses > 0 {
            entry.uses -= 1;
            self.main.push_back(hash);
            return None;
        }
        self.remove(&hash);
        Some(hash)
    }

    /// Adds a ghost; the ghost list holds as many hashes as there are entries.
    fn add_ghost(&mut self, hash: ChunkHash) {
        if self.ghost_set.insert(hash) {
            self.ghosts.push_back(hash);
        }
        while self.ghosts.len() > self.entries.len().max(1024) {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.ghost_set.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(n: u32) -> ChunkHash {
        ChunkHash::of(&n.to_le_bytes())
    }

    /// Reads `trace` through a cache of `budget` entries of size 1; returns the
    /// hits.
    fn hits(budget: u64, trace: impl Iterator<Item = u32>) -> usize {
        let mut policy = EvictionPolicy::new(budget);
        trace
            .filter(|&n| {
                let hit = policy.contains(&hash(n));
                if hit {
                    policy.record_use(&hash(n));
                } else {
                    policy.insert(hash(n), 1, false);
                }
                policy.evict_to(budget);
                hit
            })
            .count()
    }

    fn lru_hits(budget: usize, trace: impl Iterator<Item = u32>) -> usize {
        let mut order: VecDeque<u32> = VecDeque::new();
        trace
            .filter(|n| {
                let at = order.iter().position(|other| other == n);
                if let Some(at) = at {
                    order.remove(at);
                }
                order.push_back(*n);
                if order.len() > budget {
                    order.pop_front();
                }
                at.is_some()
            })
            .count()
    }

    #[test]
    fn a_scan_does_not_evict_the_working_set_as_lru_does() {
        // 60 files read repeatedly, with scans of 500 others in between.
        let trace = || {
            (0..10u32).flat_map(|round| {
                let work = (0..5).flat_map(|_| 0..60u32);
                work.chain(1000 + round * 500..1500 + round * 500)
            })
        };
        let ours = hits(100, trace());
        let lru = lru_hits(100, trace());
        assert!(ours > lru + 400, "ours {ours}, LRU {lru}");
    }

    #[test]
    fn entries_promoted_in_an_earlier_session_outlive_new_ones() {
        let mut policy = EvictionPolicy::new(10);
        for n in 0..5 {
            policy.insert(hash(n), 1, true);
        }
        for n in 100..150 {
            policy.insert(hash(n), 1, false);
            policy.evict_to(10);
        }
        assert!((0..5).all(|n| policy.contains(&hash(n))));
    }

    #[test]
    fn pinned_entries_are_never_evicted() {
        let mut policy = EvictionPolicy::new(10);
        (0..4).for_each(|n| policy.pin(hash(n)));
        for n in 0..100 {
            policy.insert(hash(n), 1, false);
            policy.evict_to(10);
        }
        assert!((0..4).all(|n| policy.contains(&hash(n))));
        (0..4).for_each(|n| policy.unpin(&hash(n)));
        assert_eq!(policy.bytes(), 10);
        for n in 100..200 {
            policy.insert(hash(n), 1, true);
            policy.evict_to(10);
        }
        assert!(!(0..4).any(|n| policy.contains(&hash(n))));
    }

    #[test]
    fn an_entry_with_two_pins_stays_until_both_are_removed() {
        let mut policy = EvictionPolicy::new(2);
        policy.insert(hash(1), 1, false);
        policy.pin(hash(1));
        policy.pin(hash(1));
        policy.unpin(&hash(1));
        assert!(policy.evict_to(0).is_empty());
        policy.unpin(&hash(1));
        assert_eq!(policy.evict_to(0), [hash(1)]);
    }

    #[test]
    fn an_entry_pinned_before_it_is_inserted_is_not_evicted() {
        let mut policy = EvictionPolicy::new(1);
        policy.pin(hash(1));
        policy.insert(hash(1), 5, false);
        assert!(policy.evict_to(1).is_empty());
        assert_eq!(policy.bytes(), 5);
    }

    proptest! {
        #[test]
        fn the_budget_is_kept_and_bytes_add_up(ops in proptest::collection::vec((0u8..4, 0u32..40, 1u32..300), 1..400)) {
            let mut policy = EvictionPolicy::new(2000);
            let mut model: HashMap<ChunkHash, u32> = HashMap::new();
            for (op, n, size) in ops {
                match op {
                    0 | 1 => {
                        policy.insert(hash(n), size, op == 1);
                        model.insert(hash(n), size);
                    }
                    2 => policy.record_use(&hash(n)),
                    _ => {
                        policy.remove(&hash(n));
                        model.remove(&hash(n));
                    }
                }
                for victim in policy.evict_to(2000) {
                    prop_assert!(model.remove(&victim).is_some());
                }
                prop_assert!(policy.bytes() <= 2000);
                prop_assert_eq!(policy.bytes(), model.values().map(|&s| u64::from(s)).sum::<u64>());
                prop_assert_eq!(policy.len(), model.len() as u64);
            }
        }
    }
}
