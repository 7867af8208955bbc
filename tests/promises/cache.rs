//! The cache fetches each chunk once, stays within its budget, and persists.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, Location};
use walgit_fs::cache::{
    Cache, CacheConfig, CacheError, ClearScope, PrefetchGoal, PrefetchHandle, RecordNamespace,
};
use walrus_client::{
    BlobLifetimes, BlobReader, BlobStore, BlobWriter, ReadRange, StoreError, StoreLayer, Verifier,
};

use crate::support::tree::noise;
use crate::support::{block_on, eventually};

const BLOB: BlobId = BlobId::from_bytes([1; 32]);

/// One blob in memory that counts its reads.
#[derive(Debug)]
struct CountingStore {
    bytes: Bytes,
    reads: AtomicUsize,
    /// Reads in progress.
    reading: AtomicUsize,
    slow: bool,
    /// While it is closed, reads at offset 0 wait.
    gate: tokio::sync::Semaphore,
}

/// Records the end of a read, including by cancellation.
struct Reading<'a>(&'a AtomicUsize);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl StoreLayer for CountingStore {}

#[async_trait]
impl BlobReader for CountingStore {
    async fn read(
        &self,
        blob: BlobId,
        read_range: ReadRange,
        accept: &mut Verifier<'_>,
    ) -> Result<(), StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.reading.fetch_add(1, Ordering::SeqCst);
        let _reading = Reading(&self.reading);
        if self.slow {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let ReadRange::Part(range) = read_range else {
            panic!("the cache reads ranges of packs");
        };
        if range.start() == 0 {
            drop(self.gate.acquire().await);
        }
        let part = self
            .bytes
            .slice(range.start() as usize..range.end() as usize);
        accept(part).map_err(|rejected| StoreError::Corrupt {
            blob,
            place: "memory".into(),
            why: rejected.0,
        })
    }

    async fn len(&self, _: BlobId) -> Result<Option<u64>, StoreError> {
        Ok(Some(self.bytes.len() as u64))
    }
}

impl BlobWriter for CountingStore {}

impl BlobLifetimes for CountingStore {}

/// `count` adjacent chunks of `len` bytes.
fn chunks(count: usize, len: usize) -> (Vec<ChunkRef>, Bytes) {
    let bytes = Bytes::from(noise(count * len, 99));
    let table = (0..count)
        .map(|n| {
            ChunkRef::raw(
                ChunkHash::of(&bytes[n * len..(n + 1) * len]),
                len as u32,
                Location {
                    blob: BLOB,
                    offset: (n * len) as u64,
                },
            )
        })
        .collect();
    (table, bytes)
}

fn memory(bytes: &Bytes, slow: bool) -> (Arc<CountingStore>, Arc<dyn BlobStore>) {
    let store = Arc::new(CountingStore {
        bytes: bytes.clone(),
        reads: AtomicUsize::new(0),
        reading: AtomicUsize::new(0),
        slow,
        gate: tokio::sync::Semaphore::new(1),
    });
    (store.clone(), store)
}

fn open_cache(dir: &std::path::Path, disk_bytes: u64, memory_bytes: u64) -> Arc<Cache> {
    let config = CacheConfig {
        dir: dir.join("pages"),
        disk_bytes,
        memory_bytes,
    };
    Cache::open(&config).unwrap()
}

#[test]
fn concurrent_readers_share_one_fetch() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_cache(dir.path(), 10 << 20, 10 << 20);
    let (table, bytes) = chunks(4, 10_000);
    let (counted, store) = memory(&bytes, true);
    block_on(async {
        let waiters = (0..64).map(|n| {
            let (cache, store, table) = (cache.clone(), store.clone(), table.clone());
            tokio::spawn(async move { cache.get(&store, &table, n % 4, 1 << 20).await.unwrap() })
        });
        let waiters: Vec<_> = waiters.collect();
        for (n, waiter) in waiters.into_iter().enumerate() {
            let at = (n % 4) * 10_000;
            assert_eq!(waiter.await.unwrap(), bytes[at..at + 10_000]);
        }
    });
    // The first reader determines the number of adjacent chunks.
    let reads = counted.reads.load(Ordering::SeqCst);
    assert!(reads <= 4, "{reads} reads for 64 waiters");
}

#[test]
fn adjacent_chunks_are_fetched_in_one_read() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_cache(dir.path(), 10 << 20, 10 << 20);
    let (table, bytes) = chunks(10, 10_000);
    let (counted, store) = memory(&bytes, false);
    block_on(async {
        for n in 0..10 {
            cache.get(&store, &table, n, 50_000).await.unwrap();
        }
    });
    assert_eq!(counted.reads.load(Ordering::SeqCst), 2);
}

#[test]
fn reference_with_wrong_length_fails_at_every_residency() {
    let dir = tempfile::tempdir().unwrap();
    let (table, bytes) = chunks(1, 10_000);
    let (_, store) = memory(&bytes, false);
    for memory_bytes in [10 << 20, 0] {
        let cache = open_cache(dir.path(), 10 << 20, memory_bytes);
        block_on(async {
            assert_eq!(cache.get(&store, &table, 0, 0).await.unwrap(), bytes);
            for raw_len in [0, 9999, 10_001, 1 << 20] {
                let mut lies = table.clone();
                lies[0].raw_len = raw_len;
                assert!(cache.view(None).get_cached(&lies[0]).is_none(), "{raw_len}");
                assert!(cache.get(&store, &lies, 0, 0).await.is_err(), "{raw_len}");
            }
            assert_eq!(cache.get(&store, &table, 0, 0).await.unwrap(), bytes);
        });
    }
}

/// A store whose first chunk waits at a gate, and a prefetch of it.
fn blocked_prefetch(
    cache: &Arc<Cache>,
    table: &[ChunkRef],
    bytes: &Bytes,
) -> (
    Arc<CountingStore>,
    Arc<dyn BlobStore>,
    PrefetchHandle<Bytes>,
) {
    let (counted, store) = memory(bytes, false);
    counted.gate.forget_permits(1);
    let coming = cache
        .prefetch(&store, table, 0, 0, PrefetchGoal::Read)
        .unwrap();
    eventually("the prefetch is requested", || {
        counted.reading.load(Ordering::SeqCst) == 1
    });
    (counted, store, coming)
}

#[test]
fn unneeded_prefetch_is_cancelled_and_repeated_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_cache(dir.path(), 10 << 20, 10 << 20);
    let (table, bytes) = chunks(2, 10_000);
    block_on(async {
        let (counted, store, coming) = blocked_prefetch(&cache, &table, &bytes);
        drop(coming);
        eventually("the prefetch is cancelled", || {
            counted.reading.load(Ordering::SeqCst) == 0
        });
        assert_eq!(cache.stats().called_off, 1);
        counted.gate.add_permits(1);
        let found = cache.get(&store, &table, 0, 0).await.unwrap();
        assert_eq!(found, bytes[..10_000]);
    });
}

#[test]
fn prefetch_continues_after_cancellation_while_a_reader_waits() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_cache(dir.path(), 10 << 20, 10 << 20);
    let (table, bytes) = chunks(2, 10_000);
    block_on(async {
        let (counted, store, coming) = blocked_prefetch(&cache, &table, &bytes);
        // Another prefetch that is cancelled, too.
        let other = cache
            .prefetch(&store, &table, 0, 0, PrefetchGoal::Read)
            .unwrap();
        drop(other);
        let read = cache.get(&store, &table, 0, 0);
        tokio::pin!(read);
        assert!(futures_util::poll!(read.as_mut()).is_pending());
        drop(coming);
        counted.gate.add_permits(1);
        assert_eq!(read.await.unwrap(), bytes[..10_000]);
        assert_eq!(counted.reads.load(Ordering::SeqCst), 1);
        assert_eq!(cache.stats().called_off, 0);
    });
}

#[test]
fn demand_reads_do_not_queue_behind_prefetches() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_cache(dir.path(), 100 << 20, 100 << 20);
    let (table, bytes) = chunks(40, 1 << 20);
    block_on(async {
        // One is blocked, and more wait than may run concurrently.
        let (counted, store, _stuck) = blocked_prefetch(&cache, &table, &bytes);
        let ahead = |at| {
            cache
                .prefetch(&store, &table, at, 0, PrefetchGoal::Read)
                .unwrap()
        };
        let waiting: Vec<_> = (1..30).map(ahead).collect();
        let other = cache.get(&store, &table, 39, 0).await.unwrap();
        assert_eq!(other, bytes[39 << 20..]);
        assert!(counted.reads.load(Ordering::SeqCst) < 5);
        // A reader takes a waiting chunk out of the queue.
        let queued = cache.get(&store, &table, 29, 0).await.unwrap();
        assert_eq!(queued, bytes[29 << 20..30 << 20]);
        counted.gate.add_permits(1);
        for coming in waiting {
            coming.completed().await.unwrap();
        }
    });
}

#[test]
fn corrupt_adjacent_chunk_does_not_fail_the_requested_one() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_cache(dir.path(), 10 << 20, 10 << 20);
    let (table, bytes) = chunks(2, 10_000);
    let mut bad = bytes.to_vec();
    bad[15_000] ^= 1;
    let (_, store) = memory(&bad.into(), false);
    block_on(async {
        assert!(cache.get(&store, &table, 0, 1 << 20).await.is_ok());
        let error = cache.get(&store, &table, 1, 1 << 20).await.unwrap_err();
        assert!(error.to_string().contains("corrupt"), "{error}");
        // Failures are not cached: another store is asked again.
        let (_, honest) = memory(&bytes, false);
        assert!(cache.get(&honest, &table, 1, 1 << 20).await.is_ok());
    });
}

#[test]
fn cached_chunks_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (table, bytes) = chunks(20, 5000);
    let cache = open_cache(dir.path(), 10 << 20, 1 << 20);
    for chunk in &table {
        let at = chunk.location.offset as usize;
        cache
            .view(None)
            .insert(chunk, bytes.slice(at..at + 5000))
            .unwrap();
    }
    cache
        .view(None)
        .set_record(RecordNamespace::Heads, b"key", b"value");
    drop(cache);
    let cache = open_cache(dir.path(), 10 << 20, 1 << 20);
    for chunk in &table {
        let at = chunk.location.offset as usize;
        assert_eq!(
            cache.view(None).get_cached(chunk).unwrap(),
            bytes[at..at + 5000]
        );
    }
    assert_eq!(
        cache
            .view(None)
            .record(RecordNamespace::Heads, b"key")
            .as_deref(),
        Some(&b"value"[..])
    );
    assert_eq!(cache.stats().disk_hits, 20);
}

#[test]
fn cache_stays_within_its_budget_and_returns_disk_space() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 20 << 20;
    let cache = open_cache(dir.path(), budget, 1 << 20);
    let (table, bytes) = chunks(3000, 33_000);
    for chunk in &table {
        let at = chunk.location.offset as usize;
        cache
            .view(None)
            .insert(chunk, bytes.slice(at..at + 33_000))
            .unwrap();
        assert!(cache.stats().disk_bytes <= budget);
    }
    assert!(cache.stats().evictions > 2000);
    cache.settle().unwrap();
    let real = cache.stats().disk_real_bytes;
    assert!(
        real < budget * 13 / 10,
        "{real} bytes of files for a budget of {budget}"
    );
}

#[test]
fn scan_does_not_evict_frequently_used_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_cache(dir.path(), 4 << 20, 100_000);
    let (table, bytes) = chunks(400, 33_000);
    let put = |n: usize| {
        let at = n * 33_000;
        cache
            .view(None)
            .insert(&table[n], bytes.slice(at..at + 33_000))
            .unwrap();
    };
    for n in 0..50 {
        put(n);
    }
    for _ in 0..3 {
        for chunk in &table[..50] {
            assert!(cache.view(None).get_cached(chunk).is_some());
        }
    }
    for n in 50..400 {
        put(n);
    }
    let left = table[..50]
        .iter()
        .filter(|c| cache.view(None).contains(&c.hash))
        .count();
    assert!(left > 45, "{left} of 50 are left");
}

#[test]
fn second_owner_of_the_cache_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open_cache(dir.path(), 1 << 20, 1 << 20);
    let config = CacheConfig {
        dir: dir.path().join("pages"),
        disk_bytes: 1 << 20,
        memory_bytes: 1 << 20,
    };
    assert!(matches!(Cache::open(&config), Err(CacheError::Busy { .. })));
}

#[test]
fn clear_empties_the_cache_and_verify_counts_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_cache(dir.path(), 10 << 20, 1 << 20);
    let (table, bytes) = chunks(10, 5000);
    for chunk in &table {
        let at = chunk.location.offset as usize;
        cache
            .view(None)
            .insert(chunk, bytes.slice(at..at + 5000))
            .unwrap();
    }
    let mut seen = HashMap::new();
    let report = cache
        .verify(|done, total| _ = seen.insert(done, total))
        .unwrap();
    assert_eq!((report.good, report.dropped, seen.len()), (10, 0, 10));
    cache.clear(ClearScope::Nothing).unwrap();
    assert!(
        table
            .iter()
            .all(|chunk| cache.view(None).get_cached(chunk).is_none())
    );
    assert_eq!(cache.stats().disk_entries, 0);
}

#[test]
fn cache_removed_while_in_use_fails_no_read_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_cache(dir.path(), 10 << 20, 10 << 20);
    let (table, bytes) = chunks(4, 10_000);
    let (_, store) = memory(&bytes, false);
    std::fs::remove_dir_all(dir.path().join("pages")).unwrap();
    block_on(async {
        let got = cache.get(&store, &table, 2, 0).await.unwrap();
        assert_eq!(got, bytes.slice(20_000..30_000));
    });
    let output = cache.clear(ClearScope::Nothing).unwrap_err().to_string();
    assert!(
        output.contains("was removed") && output.contains("unmount"),
        "{output}"
    );
}
