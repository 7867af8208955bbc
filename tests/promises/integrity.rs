//! Reads are correct or fail, whatever a gateway or a disk does.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use walgit_fs::cache::{Cache, CacheConfig, CacheError};
use walrus_client::{
    BlobReader as _, BlobWriter as _, HttpConfig, HttpStore, PutOptions, ReadRange, StoreError,
};
use walrus_encoding::blob_id::blob_id;

use crate::support::tree::{assert_same, noise};
use crate::support::{Lie, LyingGateway, Server, Tree, World, block_on, eventually};

const LIES: [Lie; 4] = [Lie::Flip, Lie::Truncate, Lie::Pad, Lie::Swap];

/// Two files whose content is not in the first read of a mount.
fn sample() -> Tree {
    Tree::new()
        .file("a/text", "some text that compresses well\n".repeat(5000))
        .noise("b/noise", 300_000, 1)
        .noise("c/noise", 300_000, 2)
}

fn with_short_deadline(world: World) -> World {
    // Lies are not retried; failures are, briefly.
    world.config("[mount]\ndeadline_s = 5\n")
}

#[test]
fn unverified_bytes_are_an_error_and_never_served() {
    let server = Server::start();
    let tree = sample();
    World::on(&server).publish(tree.path(), "it");
    for lie in LIES {
        let gateway = LyingGateway::in_front_of(&server.url, Lie::None);
        let world = with_short_deadline(World::new().reading(&[&gateway.url]).writing(&server.url));
        let address = world.publish(tree.path(), "it")["address"]
            .as_str()
            .unwrap()
            .to_owned();
        let dir = world.mount(&address);
        gateway.set_lie(lie);
        let error = fs::read(dir.join("b/noise")).unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::IO.raw_os_error()),
            "{lie:?}"
        );
        let status = world.json(&["status"]);
        assert!(
            status["mounts"][0]["stats"]["failed"].as_u64() >= Some(1),
            "{lie:?}: {status}"
        );
        assert!(status["networks"][0]["health"]["failures"][0]["count"].as_u64() >= Some(1));
        // Once it is honest, reads succeed without a remount.
        gateway.set_lie(Lie::None);
        assert_same(tree.path(), &dir);
    }
}

#[test]
fn lying_gateway_is_skipped_for_an_honest_one() {
    let server = Server::start();
    let tree = sample();
    for lie in LIES.into_iter().chain([Lie::Fail]) {
        let gateway = LyingGateway::in_front_of(&server.url, lie);
        let world = World::new()
            .reading(&[&gateway.url, &server.url])
            .writing(&server.url);
        world.publish(tree.path(), "it");
        let dir = world.mount("it");
        assert_same(tree.path(), &dir);
        let failures = world.json(&["status"])["networks"][0]["health"]["failures"].clone();
        assert!(
            failures[0]["endpoint"]
                .as_str()
                .unwrap()
                .starts_with(&gateway.url),
            "{lie:?}"
        );
    }
}

#[test]
fn lying_gateway_cannot_cause_a_mount() {
    let server = Server::start();
    let tree = sample();
    let address = World::on(&server).publish(tree.path(), "it")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let bare = address.split('?').next().unwrap().to_owned();
    for lie in LIES {
        let gateway = LyingGateway::in_front_of(&server.url, lie);
        let world = with_short_deadline(World::new().reading(&[&gateway.url]));
        // A flipped bit outside the head does not prevent mounting a verified head;
        // without a root the complete blob must be correct.
        let addresses = if lie == Lie::Flip {
            vec![&bare]
        } else {
            vec![&address, &bare]
        };
        for address in addresses {
            let dir = world.mountpoint();
            let output = world.fail(&[OsStr::new("mount"), address.as_ref(), dir.as_os_str()]);
            assert!(output.contains("blob"), "{lie:?}: {output}");
        }
    }
}

#[test]
fn address_without_root_is_verified_by_blob_id() {
    let world = World::new();
    let tree = sample();
    let address = world.publish(tree.path(), "it")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let bare = address.split('?').next().unwrap();
    assert_same(tree.path(), &world.mount(bare));
    // Another root is refused.
    let forged = format!("{bare}?root={}", "0".repeat(64));
    let dir = world.mountpoint();
    let output = world.fail(&[OsStr::new("mount"), forged.as_ref(), dir.as_os_str()]);
    assert!(output.contains("hashes to"), "{output}");
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn flipped_byte_in_a_local_blob_fails_only_its_file() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let blob = fs::read_dir(world.blobs())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let stored = fs::read(&blob).unwrap();
    let needle = &noise(300_000, 2)[1000..1032];
    let at = stored
        .windows(32)
        .position(|window| window == needle)
        .unwrap();
    flip(&blob, at);
    let dir = world.mount("it");
    assert!(fs::read(dir.join("c/noise")).is_err());
    assert_eq!(fs::read(dir.join("b/noise")).unwrap(), noise(300_000, 1));
    assert!(fs::read(dir.join("a/text")).is_ok());
    let status = world.json(&["status"]);
    assert!(
        status["mounts"][0]["stats"]["integrity"].as_u64() >= Some(1),
        "{status}"
    );
}

#[test]
fn damaged_cache_entries_are_detected_and_fetched_again() {
    let server = Server::start();
    let world = World::on(&server).config("[cache]\nmemory = \"8MiB\"\n");
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    world.crash();
    let pages = world.path().join("cache/walgit-fs/pages");
    let needle = &noise(300_000, 2)[1000..1032];
    let mut damaged = 0;
    for file in fs::read_dir(&pages).unwrap() {
        let path = file.unwrap().path();
        let Ok(bytes) = fs::read(&path) else { continue };
        if path.extension() == Some(OsStr::new("log")) {
            continue; // the log has a checksum that drops the whole tail
        }
        if let Some(at) = bytes.windows(32).position(|window| window == needle) {
            flip(&path, at);
            damaged += 1;
        }
    }
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    assert_same(tree.path(), &dir);
    let _ = damaged; // where it still was in the log only, nothing could be damaged
    let report = world.json(&["cache", "verify"]);
    assert_eq!(report["dropped"], 0, "damaged entries were replaced");
}

#[test]
fn unopenable_cache_is_moved_aside() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let pages = world.path().join("cache/walgit-fs/pages");
    for file in fs::read_dir(&pages).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            fs::write(path, b"garbage").unwrap();
        }
    }
    assert_same(tree.path(), &world.mount("it"));
    let beside = fs::read_dir(world.path().join("cache/walgit-fs")).unwrap();
    let mut names = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.any(|name| name.starts_with("pages.damaged-")));
}

#[test]
fn concurrent_opens_do_not_report_a_damaged_cache() {
    let dir = tempfile::tempdir().unwrap();
    let config = CacheConfig {
        dir: dir.path().join("pages"),
        disk_bytes: 1 << 20,
        memory_bytes: 1 << 20,
    };
    let open = || match Cache::open(&config) {
        Ok(_) | Err(CacheError::Busy { .. }) => {}
        Err(error) => panic!("{error}"),
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| open()));
        }
    });
    let beside = fs::read_dir(dir.path()).unwrap();
    let mut names = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.any(|name| name.contains("damaged")));
}

#[test]
fn unresponsive_gateway_does_not_block_readers() {
    let server = Server::start();
    let gateway = LyingGateway::in_front_of(&server.url, Lie::None);
    let world = World::new()
        .reading(&[&gateway.url])
        .writing(&server.url)
        .config("[mount]\ndeadline_s = 3\n");
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    gateway.set_lie(Lie::Hang);
    let error = fs::read(dir.join("b/noise")).unwrap_err();
    let code = error.raw_os_error().unwrap();
    let expected = [rustix::io::Errno::IO, rustix::io::Errno::TIMEDOUT];
    assert!(expected.iter().any(|e| e.raw_os_error() == code), "{error}");
    // The mount responds and can be unmounted.
    assert!(fs::metadata(dir.join("a")).is_ok());
    gateway.set_lie(Lie::None);
    eventually("reads recover", || fs::read(dir.join("b/noise")).is_ok());
    world.unmount(&dir);
}

/// A server that sends the same response to every request, and counts them.
fn fixed_response_server(
    status: u16,
    location: Option<&str>,
    body: &'static str,
) -> FixedResponseServer {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let request_count = Arc::new(AtomicU64::new(0));
    let (counted, location) = (request_count.clone(), location.map(str::to_owned));
    let answer = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut response = axum::response::Response::builder().status(status);
        if let Some(location) = &location {
            response = response.header("location", location);
        }
        std::future::ready(response.body(axum::body::Body::from(body)).unwrap())
    };
    let routes = axum::Router::new().fallback(answer);
    runtime.spawn(async move { axum::serve(listener, routes).await });
    FixedResponseServer {
        url,
        request_count,
        _runtime: runtime,
    }
}

struct FixedResponseServer {
    url: String,
    request_count: Arc<AtomicU64>,
    _runtime: tokio::runtime::Runtime,
}

fn store(aggregator: &str, publisher: &str) -> HttpStore {
    HttpStore::new(HttpConfig {
        aggregators: vec![aggregator.into()],
        publishers: vec![publisher.into()],
        ..HttpConfig::default()
    })
    .unwrap()
}

#[test]
fn publisher_that_reports_another_blob_id_is_rejected() {
    let other = r#"{"newlyCreated":{"blobObject":{"id":"0x1","registeredEpoch":1,
        "blobId":"OxEGFEyAQVc4UL_-JKbykm5e6YS8kMfjVlEQOahIbY0","size":5,"encodingType":"RS2",
        "certifiedEpoch":1,"storage":{"id":"0x2","startEpoch":1,"endEpoch":2,"storageSize":9},
        "deletable":true},"resourceOperation":{},"cost":1}}"#;
    let liar = fixed_response_server(200, None, other);
    let body = noise(500, 1);
    let blob = blob_id(&body).unwrap();
    let store = store(&liar.url, &liar.url);
    let options = PutOptions::default();
    let put = store.put(blob, body.into(), &options);
    let error = block_on(put).unwrap_err();
    assert!(matches!(error, StoreError::WrongId { .. }), "{error}");
    assert!(error.to_string().contains(&blob.to_string()), "{error}");
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = fixed_response_server(200, None, "come in");
    let body = noise(500, 1);
    let blob = blob_id(&body).unwrap();
    for status in [301, 302, 303, 307, 308] {
        let sends = fixed_response_server(status, Some(&elsewhere.url), "");
        let store = store(&sends.url, &sends.url);
        block_on(async {
            let accept = |_| Ok(());
            let whole = ReadRange::Whole { at_most: 1000 };
            assert!(store.read(blob, whole, &mut { accept }).await.is_err());
            let options = PutOptions::default();
            let put = store.put(blob, body.clone().into(), &options);
            assert!(put.await.is_err());
        });
        assert!(sends.request_count.load(Ordering::Relaxed) >= 2);
    }
    assert_eq!(elsewhere.request_count.load(Ordering::Relaxed), 0);
}
