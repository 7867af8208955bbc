//! Repositories of WalGit's own tools are mounted like any other: verified, cached,
//! with history; encrypted or not.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use walgit_format::Kind;
use walgit_format::chunk::{ByteRange, SecretKey};
use walgit_fs::cache::{Cache, CacheConfig};
use walgit_fs::repo::{Access, Loader, LoaderConfig, Repository, Snapshot};
use walrus_client::{BlobStore, LocalDir};

use crate::support::manifests::{
    Commit, address_of, fixture, manifests, server_with_fixture, store, world_with_fixture,
};
use crate::support::tree::{assert_same, listing, noise};
use crate::support::{World, block_on, eventually};

/// Mounts an encrypted repository with the key in a file.
#[track_caller]
fn mount_with(world: &World, address: &str, key: &Path) -> std::path::PathBuf {
    let dir = world.mountpoint();
    world.run(&[
        "mount".as_ref(),
        address.as_ref(),
        dir.as_os_str(),
        "--dek-file".as_ref(),
        key.as_os_str(),
    ]);
    dir
}

#[test]
fn both_manifest_commits_show_their_content() {
    let server = server_with_fixture(&[]);
    let world = World::on(&server);
    let [first, second] = manifests("plain");
    let dir = world.mount(&address_of(&second));
    assert_same(&fixture("expected/2"), &dir);
    assert_same(
        &fixture("expected/1"),
        &dir.join(".walgit/commits").join(&first),
    );
    assert_same(&fixture("expected/1"), &world.mount(&address_of(&first)));
    let older = world.mountpoint();
    world.run(&[
        "mount",
        &address_of(&second),
        older.to_str().unwrap(),
        "--ref",
        &first,
    ]);
    assert_same(&fixture("expected/1"), &older);

    let metadata = fs::metadata(dir.join("src/main.js")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
    assert_eq!(metadata.mtime(), 1_748_080_800, "the time of the commit");
    let commit = fs::read_to_string(dir.join(".walgit/commit")).unwrap();
    assert!(
        commit.starts_with(&format!("commit {second}\n")),
        "{commit}"
    );
    let log = world.json(&["log", &address_of(&second)]);
    assert_eq!([&log[0]["commit"], &log[1]["commit"]], [&second, &first]);
}

#[test]
fn manifest_files_are_fetched_once_and_then_cached() {
    let server = server_with_fixture(&[]);
    let world = World::on(&server);
    let [_, second] = manifests("plain");
    let dir = world.mount(&address_of(&second));
    listing(&dir);
    // Its manifest, and six files of which one is empty.
    server.assert_read_count(1 + 5);
    world.unmount(&dir);
    world.crash();
    server.clear_requests();
    assert_same(&fixture("expected/2"), &world.mount(&address_of(&second)));
    assert!(
        server.requests("GET").is_empty(),
        "{:?}",
        server.requests("")
    );
}

#[test]
fn walk_of_a_manifest_tree_is_prefetched() {
    let server = server_with_fixture(&["--latency-ms", "100"]);
    let world = World::on(&server);
    let mut commit = Commit::new(&server.blobs());
    // Computing an ID is slow: twelve files suffice.
    for n in 0..12 {
        commit = commit.file(&format!("d/{n:02}"), format!("file {n}").as_bytes());
    }
    let id = commit.store();
    let dir = world.mount(&address_of(&id));
    for n in 0..12 {
        let content = fs::read_to_string(dir.join(format!("d/{n:02}"))).unwrap();
        assert_eq!(content, format!("file {n}"));
    }
    let status = world.json(&["status"]);
    // The first two reads wait, as the walk is not yet known; few others do.
    let waited = status["mounts"][0]["stats"]["waited"].as_u64().unwrap();
    let fetched = server.requests("GET").len();
    assert_eq!(fetched, 1 + 12, "each file once");
    assert!(waited < 12, "{waited} of 12 reads waited for the network");
}

#[test]
fn encrypted_manifest_opens_with_its_key_in_any_form_only() {
    let world = world_with_fixture();
    let [first, second] = manifests("encrypted");
    let hex = fs::read_to_string(fixture("dek.hex")).unwrap();
    let raw: Vec<u8> = (0..32)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let file = |name: &str, bytes: &[u8]| {
        let path = world.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD.encode(&raw);
    let dir = world.mountpoint();
    let refused = world.fail(&["mount", &address_of(&second), dir.to_str().unwrap()]);
    assert!(
        refused.contains("encrypted") && refused.contains("--key FILE"),
        "{refused}"
    );
    let wrong = file("wrong", &[7; 32]);
    let refused = world.fail(&[
        "mount".as_ref(),
        OsStr::new(&address_of(&second)),
        dir.as_os_str(),
        "--dek-file".as_ref(),
        wrong.as_os_str(),
    ]);
    assert!(refused.contains("none of the keys"), "{refused}");
    let none = file("none", b"hello");
    let refused = world.fail(&[
        "mount".as_ref(),
        OsStr::new(&address_of(&second)),
        dir.as_os_str(),
        "--dek-file".as_ref(),
        none.as_os_str(),
    ]);
    assert!(refused.contains("32 bytes"), "{refused}");
    for key in [
        file("raw", &raw),
        file("hex", hex.as_bytes()),
        file("b64", base64.as_bytes()),
    ] {
        let dir = mount_with(&world, &address_of(&second), &key);
        assert_same(&fixture("expected/2"), &dir);
        assert_same(
            &fixture("expected/1"),
            &dir.join(".walgit/commits").join(&first),
        );
        world.unmount(&dir);
    }
}

#[test]
fn stored_key_opens_later_mounts() {
    // Without a session bus the key goes to a private file, and the command reports
    // that.
    let world = world_with_fixture().with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
    let [_, second] = manifests("encrypted");
    let key = fixture("dek.hex");
    let added = world.json(&["key", "add", "work", key.to_str().unwrap()]);
    assert_eq!(added["kept"], "file");
    let dir = world.path().join("data/walgit-fs/keys");
    let kept = fs::metadata(dir.join("work.key")).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    let sealed = fs::read(dir.join("work.key")).unwrap();
    let hex = fs::read(&key).unwrap();
    let hex = hex.trim_ascii();
    assert!(!sealed.windows(hex.len()).any(|part| part == hex));
    assert_eq!(
        fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(world.json(&["key", "list"]), json!({"work": "file"}));
    assert_same(&fixture("expected/2"), &world.mount(&address_of(&second)));
    assert!(world.fail(&["key", "remove", "play"]).contains("work"));
    world.run(&["key", "remove", "work"]);
    assert!(
        world
            .fail(&["key", "add", "../x", key.to_str().unwrap()])
            .contains("../x")
    );
    let names = fs::read_dir(&dir).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".lock", "keys.json"], "the index without a key");
}

#[test]
fn disk_reveals_nothing_of_an_encrypted_manifest_repository() {
    let server = server_with_fixture(&[]);
    let world = World::on(&server);
    let key = SecretKey::from_bytes([5; 32]);
    let file = world.path().join("key");
    fs::write(&file, key.to_hex().as_bytes()).unwrap();
    let secret = b"a secret line that must never be readable on the disk";
    let name = "a-name-that-tells-too-much";
    let id = Commit::new(&server.blobs())
        .encrypted(&key)
        .file(name, secret)
        .store();
    let dir = mount_with(&world, &address_of(&id), &file);
    assert_eq!(fs::read(dir.join(name)).unwrap(), secret);
    world.unmount(&dir);
    world.crash();
    let holds = |needle: &[u8]| {
        let mut pending = vec![world.path().join("cache"), world.path().join("state")];
        let mut seen = 0;
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
                continue;
            }
            // The daemon's sockets contain nothing.
            if !path.is_file() {
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            seen += bytes.len();
            if bytes.windows(needle.len()).any(|found| found == needle) {
                return true;
            }
        }
        assert!(seen > 1000, "the cache has content");
        false
    };
    let hash = *blake3::hash(secret).as_bytes();
    for needle in [&secret[..], name.as_bytes(), &hash, key.to_hex().as_bytes()] {
        assert!(!holds(needle), "{}", String::from_utf8_lossy(needle));
    }
    // It is cached: it opens with the key and without the network.
    server.clear_requests();
    let dir = mount_with(&world, &address_of(&id), &file);
    assert_eq!(fs::read(dir.join(name)).unwrap(), secret);
    assert!(
        server.requests("GET").is_empty(),
        "{:?}",
        server.requests("")
    );
}

/// A repository opened in this process, over a directory of blobs.
struct OpenRepository {
    _cache: tempfile::TempDir,
    repository: Repository,
}

impl OpenRepository {
    fn new(blobs: &Path, manifest: &str, key: Option<SecretKey>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&CacheConfig {
            dir: dir.path().join("pages"),
            disk_bytes: 100 << 20,
            memory_bytes: 8 << 20,
        });
        let loader = Loader::new(cache.unwrap(), LoaderConfig::default());
        let store = LocalDir::open(blobs.parent().unwrap(), 10 << 20).unwrap();
        let store: Arc<dyn BlobStore> = Arc::new(store);
        let mut access = Access::from(store);
        access.keys.extend(key);
        let opened = block_on(loader.open(access, manifest.parse().unwrap(), None));
        OpenRepository {
            _cache: dir,
            repository: opened.unwrap(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.repository.snapshot(0).unwrap()
    }
}

/// Every file of a snapshot: its path, its blob, and its content or error.
async fn files(snapshot: &Snapshot) -> Vec<(String, String, Result<Bytes, String>)> {
    let mut files = Vec::new();
    let mut pending = vec![(String::new(), snapshot.root())];
    while let Some((path, node)) = pending.pop() {
        let directory = snapshot.directory(&node).await.unwrap();
        for (number, entry) in directory.entries().iter().enumerate() {
            let path = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
            let child = snapshot.entry(&node, &directory, number);
            match child.kind {
                Kind::Directory => pending.push((path, child)),
                _ => {
                    let blob = child.whole().unwrap().blob.to_string();
                    let read = snapshot
                        .read(&child, ByteRange::new(0, child.size), 0)
                        .await;
                    files.push((path, blob, read.map_err(|error| error.to_string())));
                }
            }
        }
    }
    files
}

#[test]
fn any_changed_byte_fails_exactly_its_dependents() {
    let hex = fs::read(fixture("dek.hex")).unwrap();
    let key = SecretKey::parse(&hex).unwrap();
    let mut spoiled = 0;
    for (kind, key) in [("plain", None), ("encrypted", Some(key))] {
        let world = world_with_fixture();
        let [_, second] = manifests(kind);
        let opened = OpenRepository::new(&world.blobs(), &second, key.clone());
        let whole = block_on(files(
            &OpenRepository::new(&world.blobs(), &second, key).snapshot(),
        ));
        for (path, blob, content) in &whole {
            assert!(content.is_ok(), "{path}: {content:?}");
            let at = world.blobs().join(blob);
            let good = fs::read(&at).unwrap();
            // Every byte of a small blob, a sample of a large one; and truncations.
            let step = (good.len() / 60).max(1);
            let flips = (0..good.len()).step_by(step).map(|byte| {
                let mut bad = good.clone();
                bad[byte] ^= 1 << (byte % 8);
                bad
            });
            let cuts = [good[..good.len() / 2].to_vec(), [&good[..], b"x"].concat()];
            for bad in flips.chain(cuts).filter(|bad| *bad != good) {
                fs::write(&at, &bad).unwrap();
                let snapshot = opened.snapshot();
                let (size, read) = block_on(async {
                    let node = snapshot.walk(path.as_bytes()).await.unwrap().unwrap();
                    let all = ByteRange::new(0, node.size);
                    (node.size, snapshot.read(&node, all, 0).await)
                });
                // An empty file needs no byte of its blob.
                assert_eq!(read.is_err(), size > 0, "{path}: another byte was served");
                spoiled += u32::from(read.is_err());
            }
            fs::write(&at, &good).unwrap();
        }
        // Refused content was not cached.
        let healed = block_on(files(&opened.snapshot()));
        assert_eq!(healed, whole);
    }
    assert!(spoiled > 300, "{spoiled}");
}

#[test]
fn corrupt_manifest_file_is_an_io_error_and_others_are_served() {
    for kind in ["plain", "encrypted"] {
        let world = world_with_fixture();
        let [_, second] = manifests(kind);
        let manifest = OpenRepository::new(
            &world.blobs(),
            &second,
            (kind == "encrypted")
                .then(|| SecretKey::parse(&fs::read(fixture("dek.hex")).unwrap()).unwrap()),
        );
        let all = block_on(files(&manifest.snapshot()));
        let (path, blob, _) = all
            .iter()
            .find(|(path, ..)| path == "/src/main.js")
            .unwrap();
        let at_blob = world.blobs().join(blob);
        let mut bytes = fs::read(&at_blob).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&at_blob, bytes).unwrap();
        let dir = mount_with(&world, &address_of(&second), &fixture("dek.hex"));
        let error = fs::read(dir.join(&path[1..])).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
        for (other, _, content) in all.iter().filter(|(other, ..)| other != path) {
            let found = fs::read(dir.join(&other[1..])).unwrap();
            assert_eq!(found, content.clone().unwrap(), "{other}");
        }
    }
}

#[test]
fn corrupt_manifest_is_not_mounted() {
    for kind in ["plain", "encrypted"] {
        let world = world_with_fixture();
        let [_, second] = manifests(kind);
        let path = world.blobs().join(&second);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let dir = world.mountpoint();
        let refused = world.fail(&["mount", &address_of(&second), dir.to_str().unwrap()]);
        assert!(refused.contains("another blob ID"), "{refused}");
    }
}

#[test]
fn invalid_manifest_entries_are_omitted_and_reported() {
    let world = World::new();
    let mut commit = Commit::new(&world.blobs()).file("good", b"good");
    for bad in [
        "../up",
        "/etc/passwd",
        "a/../../b",
        "nul\0here",
        ".git/config",
        "x//y",
        "good/below",
        "d/\u{fc}",
        "d/u\u{308}",
    ] {
        commit = commit.alias("good", bad);
    }
    let strange = [
        json!({"cid": "short", "size": 1, "hash": "00"}),
        json!({"cid": "OxEGFEyAQVc4UL_-JKbykm5e6YS8kMfjVlEQOahIbY0", "size": -1, "hash": "00"}),
    ];
    commit = commit.entry("no-blob", strange[0].clone());
    let id = commit.store();
    let dir = world.mountpoint();
    let mounted = world.json(&["mount", &address_of(&id), dir.to_str().unwrap()]);
    let names: Vec<_> = listing(&dir)
        .into_iter()
        .map(|(name, _)| String::from_utf8(name).unwrap())
        .collect();
    assert_eq!(names, ["d", "d/u\u{308}", "d/\u{fc}", "good", "good/below"]);
    let notices = fs::read_to_string(dir.join(".walgit/notices")).unwrap();
    for output in [
        "../up",
        "/etc/passwd",
        "nul",
        ".git/config",
        "x//y",
        "no-blob",
        "normalisation",
    ] {
        assert!(notices.contains(output), "{output} is not in {notices}");
    }
    let listed = mounted["notices"].as_array().unwrap();
    assert_eq!(listed.len(), notices.lines().count());
    // An invalid size makes the manifest invalid.
    let id = Commit::new(&world.blobs())
        .entry("x", strange[1].clone())
        .store();
    let dir = world.mountpoint();
    let refused = world.fail(&["mount", &address_of(&id), dir.to_str().unwrap()]);
    assert!(refused.contains("not a WalGit repository"), "{refused}");
}

#[test]
fn address_that_is_not_a_repository_is_refused_with_the_reason() {
    let world = World::new();
    for junk in [
        &b"hello"[..],
        b"",
        b"{",
        b"{\"tree\":[]}",
        b"WALGIT1 and no more",
        &noise(70_000, 3),
    ] {
        let id = store(&world.blobs(), junk);
        let dir = world.mountpoint();
        let refused = world.fail(&["mount", &address_of(&id), dir.to_str().unwrap()]);
        assert!(
            refused.contains("not a WalGit repository") || refused.contains("encrypted"),
            "{refused}"
        );
    }
}

#[test]
fn file_that_does_not_match_its_manifest_is_an_io_error() {
    let world = World::new();
    let commit = Commit::new(&world.blobs())
        .file("good", b"good")
        .file("other", b"other");
    let good = commit.entry_at("good");
    let lies = |change: Value| {
        let mut entry = good.clone();
        entry
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        entry
    };
    let other = commit.entry_at("other");
    let id = commit
        .entry("size", lies(json!({"size": 5})))
        .entry("huge", lies(json!({"size": 1u64 << 50})))
        .entry("hash", lies(json!({"hash": "00".repeat(32)})))
        .entry("blob", lies(json!({"cid": other["cid"]})))
        .entry("sealed", lies(json!({"encrypted": true})))
        .entry("missing", lies(json!({"cid": "A".repeat(43)})))
        .store();
    let dir = mount_with(&world, &address_of(&id), &fixture("dek.hex"));
    for bad in ["size", "huge", "hash", "blob", "sealed", "missing"] {
        let mut file = fs::File::open(dir.join(bad)).unwrap();
        let error = file.read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{bad}: {error}");
    }
    assert_eq!(fs::read(dir.join("good")).unwrap(), b"good");
    assert_eq!(
        world.json(&["status"])["mounts"][0]["stats"]["timed_out"],
        0
    );
}

#[test]
fn manifest_scripts_are_executable_only_on_request() {
    let world = World::new();
    let id = Commit::new(&world.blobs())
        .file("run", b"#!/bin/sh\necho it runs\n")
        .file("text", b"# not\n")
        .store();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = world.mount(&address_of(&id));
    assert_eq!(mode(&dir.join("run")), 0o644);
    let executable_mount = world.mountpoint();
    world.run(&[
        "mount",
        "--scripts-executable",
        &address_of(&id),
        executable_mount.to_str().unwrap(),
    ]);
    assert_eq!(
        (
            mode(&executable_mount.join("run")),
            mode(&executable_mount.join("text"))
        ),
        (0o755, 0o644)
    );
    let done = std::process::Command::new(executable_mount.join("run"))
        .output()
        .unwrap();
    assert_eq!(done.stdout, b"it runs\n");
}

#[test]
fn large_manifest_file_is_verified_on_disk_and_read_in_parts() {
    let world = World::new();
    let content = noise(40 << 20, 9);
    let id = Commit::new(&world.blobs()).file("big", &content).store();
    let dir = world.mount(&address_of(&id));
    assert_eq!(fs::read(dir.join("big")).unwrap(), content);
}

#[test]
fn manifest_without_its_parent_shows_available_history() {
    let world = World::new();
    let id = Commit::new(&world.blobs())
        .file("a", b"a")
        .parent(&"A".repeat(43))
        .store();
    let dir = world.mount(&address_of(&id));
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"a");
    eventually("the commit is listed", || {
        fs::read_dir(dir.join(".walgit/commits")).unwrap().count() == 2
    });
    let lost = dir.join(".walgit/commits").join("A".repeat(43));
    assert!(fs::read_dir(lost).is_err());
}
