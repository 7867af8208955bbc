//! Cache of decoded nodes in memory, within a budget.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::account::{Charge, EvictAccount, MemoryAccount};
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, budget};
use walgit_format::{ChunkList, Directory};

/// Number of shards; each has a lock and an equal share of the budget. With more
/// shards, fewer large directories would fit: a node heavier than its shard is not
/// cached.
const SHARDS: usize = 2;

/// Bytes reserved for nodes too heavy for the cache; enough for one of the heaviest.
///
/// Without this reserve, every file access in a directory of 200,000 entries decodes
/// the directory again (70 ms each).
const HEAVY_BYTES: u64 = budget::NODE_BYTES + (1 << 20);
/// Plain bytes at which a node may be too heavy for the cache.
const MIN_HEAVY_LEN: usize = 1 << 20;
/// Typical ratio of the memory of a decoded directory to the length of its node.
const DECODED_FACTOR: u64 = 4;

/// Identifies a decoded node by hash and location: the references in identical bytes
/// are relative to their location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct NodeKey {
    hash: ChunkHash,
    blob: BlobId,
    end: u64,
}

impl NodeKey {
    fn of(reference: &ChunkRef) -> Self {
        NodeKey {
            hash: reference.hash,
            blob: reference.location.blob,
            end: reference.range().end(),
        }
    }
}

/// A decoded node.
#[derive(Clone)]
pub(super) enum Decoded {
    /// A directory.
    Directory(Arc<Directory>),
    /// A chunk list.
    List(Arc<ChunkList>),
}

impl Decoded {
    /// Whether it is charged to `account`.
    fn is_of(&self, account: &MemoryAccount) -> bool {
        let guard = match self {
            Decoded::Directory(directory) => directory.guard(),
            Decoded::List(list) => list.guard(),
        };
        (guard.get()).is_some_and(|charge: &Charge| charge.is_of(account))
    }

    fn weight(&self) -> u64 {
        128 + match self {
            Decoded::Directory(directory) => directory.weight(),
            Decoded::List(list) => list.weight(),
        }
    }
}

#[derive(Clone)]
struct WeightInBytes;

impl Weighter<NodeKey, Decoded> for WeightInBytes {
    fn weight(&self, _: &NodeKey, node: &Decoded) -> u64 {
        node.weight()
    }
}

/// Decoded nodes by reference.
pub(super) struct DecodedNodes {
    light: Cache<NodeKey, Decoded, WeightInBytes>,
    /// Heaviest node that `light` takes.
    limit: u64,
    /// Nodes heavier than `limit`, most recently used first.
    heavy: Mutex<Vec<(NodeKey, Decoded)>>,
}

impl DecodedNodes {
    /// Creates a cache with `budget` bytes for ordinary nodes.
    pub(super) fn new(budget: u64) -> Self {
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            // Only a hint for the initial size of the hash tables.
            .estimated_items_capacity(1024)
            .weight_capacity(budget)
            .build();
        let light = match options {
            Ok(options) => Cache::with_options(
                options,
                WeightInBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            // Unreachable: `build` fails only if a capacity is missing.
            Err(_) => Cache::with_weighter(1024, budget, WeightInBytes),
        };
        DecodedNodes {
            // Half a shard: one node must not evict all others.
            limit: light.shard_capacity() / 2,
            light,
            heavy: Mutex::default(),
        }
    }

    /// Number of cached nodes.
    pub(super) fn len(&self) -> usize {
        self.light.len() + self.heavy().len()
    }

    fn heavy(&self) -> std::sync::MutexGuard<'_, Vec<(NodeKey, Decoded)>> {
        self.heavy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node at `reference`, if cached.
    pub(super) fn get(&self, reference: &ChunkRef) -> Option<Decoded> {
        let key = NodeKey::of(reference);
        if let Some(node) = self.light.get(&key) {
            return Some(node);
        }
        let mut heavy = self.heavy();
        let at = heavy.iter().position(|(held, _)| *held == key)?;
        heavy[..=at].rotate_right(1);
        Some(heavy[0].1.clone())
    }

    /// Evicts heavy nodes before another one is decoded from `len` plain bytes, so
    /// that the old ones and the new one do not exceed the reserve together.
    pub(super) fn evict_for(&self, len: usize) {
        if len >= MIN_HEAVY_LEN {
            let wanted = len as u64 * DECODED_FACTOR;
            trim(&mut self.heavy(), HEAVY_BYTES.saturating_sub(wanted));
        }
    }

    /// Caches a node if it fits.
    pub(super) fn keep(&self, reference: &ChunkRef, node: Decoded) {
        let key = NodeKey::of(reference);
        let weight = node.weight();
        if weight <= self.limit {
            self.light.insert(key, node);
        } else if weight <= HEAVY_BYTES {
            let mut heavy = self.heavy();
            heavy.retain(|(held, _)| *held != key);
            heavy.insert(0, (key, node));
            trim(&mut heavy, HEAVY_BYTES);
        }
    }
}

impl EvictAccount for DecodedNodes {
    fn evict(&self, account: &MemoryAccount) {
        self.light.retain(|_, node| !node.is_of(account));
        self.heavy().retain(|(_, node)| !node.is_of(account));
    }
}

impl fmt::Debug for DecodedNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedNodes")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Evicts the least recently used nodes until the rest weigh at most `max_bytes`.
fn trim(heavy: &mut Vec<(NodeKey, Decoded)>, max_bytes: u64) {
    let mut total = 0;
    heavy.retain(|(_, node)| {
        total += node.weight();
        total <= max_bytes
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Weak;
    use walgit_format::chunk::Location;
    use walgit_format::directory::{self, Kind, PlannedContent, PlannedEntry};
    use walgit_format::guard::Guard;

    fn directory(entries: u32, number: u64) -> (ChunkRef, Decoded) {
        let entry = |n| PlannedEntry {
            name: format!("file-{n:07}-of-{number}").into(),
            kind: Kind::File { executable: false },
            size: 0,
            content: PlannedContent::Chunks(Vec::new()),
        };
        let planned: Vec<_> = (0..entries).map(entry).collect();
        let raw = directory::encode(&planned, 0).unwrap();
        let reference = ChunkRef::raw(
            ChunkHash::of(&raw),
            raw.len() as u32,
            Location {
                blob: BlobId::from_bytes([7; 32]),
                offset: number << 32,
            },
        );
        let decoded = Directory::decode(&raw.into(), &reference).unwrap();
        (reference, Decoded::Directory(Arc::new(decoded)))
    }

    #[test]
    fn a_directory_within_the_limits_is_decoded_once() {
        let nodes = DecodedNodes::new(24 << 20);
        for (number, entries) in [(0, 1), (1, 20_000), (2, 200_000)] {
            let (reference, node) = directory(entries, number);
            nodes.keep(&reference, node);
            assert!(nodes.get(&reference).is_some(), "{entries} entries");
        }
    }

    #[test]
    fn a_full_account_reclaims_nodes_that_only_the_cache_holds() {
        let nodes = Arc::new(DecodedNodes::new(24 << 20));
        let (reference, node) = directory(20_000, 0);
        let Decoded::Directory(large) = node else {
            panic!("it is a directory");
        };
        let weight = large.weight();
        let weak: Weak<dyn EvictAccount> = Arc::<DecodedNodes>::downgrade(&nodes);
        let account = MemoryAccount::of("it", 3 * weight, Some(weak));
        let keep = |number: u64| {
            let mut reference = reference.clone();
            reference.location.offset = number << 32;
            let paid =
                Directory::clone(&large).with_guard(Guard::new(account.charge(weight).unwrap()));
            let paid = Arc::new(paid);
            nodes.keep(&reference, Decoded::Directory(paid.clone()));
            paid
        };
        // Any number of nodes fits as long as none is in use.
        (0..10).for_each(|number| drop(keep(number)));
        let used: Vec<_> = (10..13).map(keep).collect();
        assert!(account.charge(1).is_err(), "all of it is in use");
        assert_eq!(account.stats().used, 3 * weight);
        drop(used);
        assert!(account.charge(3 * weight).is_ok());
    }

    #[test]
    fn heavy_directories_stay_within_their_budget_the_last_used_first() {
        let nodes = DecodedNodes::new(1 << 20);
        let first = directory(10_000, 0);
        let weight = first.1.weight();
        let max_bytes = HEAVY_BYTES / weight;
        nodes.keep(&first.0, first.1.clone());
        for number in 1..=max_bytes {
            // The same content at another location is another node.
            let mut reference = first.0.clone();
            reference.location.offset = number << 32;
            nodes.keep(&reference, first.1.clone());
            assert!(nodes.get(&reference).is_some());
            assert_eq!(
                nodes.get(&first.0).is_some(),
                number < max_bytes + 1,
                "used each time"
            );
        }
        assert!(nodes.len() as u64 * weight <= HEAVY_BYTES);
    }
}
