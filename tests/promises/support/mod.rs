//! Worlds to test in, trees to publish, gateways that lie.

pub(crate) mod chain;
pub(crate) mod enemy;
pub(crate) mod fake;
pub(crate) mod gateway;
pub(crate) mod history;
pub(crate) mod opens;
pub(crate) mod street;
pub(crate) mod tls;
pub(crate) mod tree;
pub(crate) mod tunnel;
pub(crate) mod walgit;
pub(crate) mod world;

pub(crate) use gateway::{Gateway, Lie};
pub(crate) use street::Street;
pub(crate) use tls::Tls;
pub(crate) use tree::Tree;
pub(crate) use tunnel::Tunnel;
pub(crate) use world::{Server, World};

use std::sync::Arc;

use walgit_fs::cache::{Cache, CacheConfig};
use walgit_fs::repo::{Loader, LoaderConfig};

/// A runtime for tests that speak to the library directly.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// A loader of one's own over a small cache, which goes with the folder.
pub(crate) fn loader() -> (Arc<Loader>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(&CacheConfig {
        dir: dir.path().join("cache"),
        disk_bytes: 1 << 20,
        memory_bytes: 1 << 20,
    });
    (Loader::new(cache.unwrap(), LoaderConfig::default()), dir)
}

/// Asks until it is so; a test fails when it never is.
pub(crate) fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    eventually_within(30, what, is_so);
}

/// Asks for so many seconds until it is so.
pub(crate) fn eventually_within(seconds: u64, what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed().as_secs() < seconds, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
