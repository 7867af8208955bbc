//! Worlds to test in, trees to publish, gateways that lie.

pub(crate) mod sui_node;
pub(crate) mod raw_nodes;
pub(crate) mod fake_server;
pub(crate) mod lying_gateway;
pub(crate) mod synthetic_history;
pub(crate) mod file_opens;
pub(crate) mod shared_daemon;
pub(crate) mod tls_server;
pub(crate) mod tree;
pub(crate) mod tcp_proxy;
pub(crate) mod manifests;
pub(crate) mod world;

pub(crate) use lying_gateway::{LyingGateway, Lie};
pub(crate) use shared_daemon::SharedDaemon;
pub(crate) use tls_server::TlsServer;
pub(crate) use tree::Tree;
pub(crate) use tcp_proxy::TcpProxy;
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
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(30, what, condition);
}

/// Asks for so many seconds until it is so.
pub(crate) fn eventually_within(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed().as_secs() < seconds, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
