//! Isolated users, servers, trees to publish, and lying gateways.

pub(crate) mod fake_server;
pub(crate) mod file_opens;
pub(crate) mod lying_gateway;
pub(crate) mod manifests;
pub(crate) mod raw_nodes;
pub(crate) mod shared_daemon;
pub(crate) mod sui_node;
pub(crate) mod synthetic_history;
pub(crate) mod tcp_proxy;
pub(crate) mod tls_server;
pub(crate) mod tree;
pub(crate) mod world;

pub(crate) use lying_gateway::{Lie, LyingGateway};
pub(crate) use shared_daemon::SharedDaemon;
pub(crate) use tcp_proxy::TcpProxy;
pub(crate) use tls_server::TlsServer;
pub(crate) use tree::Tree;
pub(crate) use world::{Server, World};

use std::sync::Arc;

use walgit_fs::cache::{Cache, CacheConfig};
use walgit_fs::repo::{Loader, LoaderConfig};

/// Runs a future, for tests that call the library directly.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// A loader over a small cache in the returned directory.
pub(crate) fn loader() -> (Arc<Loader>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(&CacheConfig {
        dir: dir.path().join("cache"),
        disk_bytes: 1 << 20,
        memory_bytes: 1 << 20,
    });
    (Loader::new(cache.unwrap(), LoaderConfig::default()), dir)
}

/// Waits until the condition holds; fails the test if it never does.
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(30, what, condition);
}

/// The same with a time limit in seconds.
pub(crate) fn eventually_within(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed().as_secs() < seconds, "timeout: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
