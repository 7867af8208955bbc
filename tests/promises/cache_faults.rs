//! The cache on a failing machine: data on disk stay unchanged, and a damaged database
//! is moved aside without losing data that cannot be fetched again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, Location};
use walgit_fs::cache::{Cache, CacheConfig, CacheError, ClearScope, RecordNamespace};

use crate::support::tree::noise;
use crate::support::{Server, Tree, World, eventually};

const CHUNK_LEN: usize = 100_000;

fn chunk(n: u64) -> (ChunkRef, Bytes) {
    let bytes = Bytes::from(noise(CHUNK_LEN, n));
    let chunk = ChunkRef::raw(
        ChunkHash::of(&bytes),
        CHUNK_LEN as u32,
        Location {
            blob: BlobId::from_bytes([1; 32]),
            offset: 0,
        },
    );
    (chunk, bytes)
}

fn config(dir: &Path) -> CacheConfig {
    CacheConfig {
        dir: dir.join("pages"),
        disk_bytes: 200 << 20,
        memory_bytes: 8 << 20,
    }
}

/// Opens the cache. The thread that watches for other processes may briefly hold one
/// that was dropped.
fn open(dir: &Path) -> Arc<Cache> {
    let mut opened = None;
    eventually("the cache is free", || match Cache::open(&config(dir)) {
        Err(CacheError::Busy { .. }) => false,
        done => {
            opened = Some(done.unwrap());
            true
        }
    });
    opened.unwrap()
}

fn put(cache: &Cache, chunks: std::ops::Range<u64>) {
    for n in chunks {
        let (chunk, bytes) = chunk(n);
        cache.view(None).insert(&chunk, bytes).unwrap();
    }
}

/// A cache with content, a pin and a learned profile, all of it in files.
fn create_filled_cache(dir: &Path) {
    let cache = open(dir);
    put(&cache, 0..10);
    let pinned: Vec<_> = (0..3).map(|n| chunk(n).0).collect();
    cache.view(None).pin("a pin", &pinned).unwrap();
    cache
        .view(None)
        .set_record(RecordNamespace::Profiles, b"it", b"learned");
    drop(cache);
    // Opening flushes the log into tables.
    drop(open(dir));
}

fn assert_pinned(cache: &Cache) {
    let pins = cache.pins().unwrap();
    assert_eq!(pins.len(), 1);
    assert_eq!(
        (&*pins[0].name, pins[0].bytes),
        ("a pin", 3 * CHUNK_LEN as u64)
    );
}

/// Every file of the database except its log file, by name.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir.join("pages")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let content = paths.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        !name.starts_with("LOG")
    });
    content
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn moved_aside_count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    entries
        .filter(|name| name.to_string_lossy().contains("damaged"))
        .count()
}

/// The error of opening, which must change nothing.
#[track_caller]
fn open_error(dir: &Path) -> String {
    let before = files(dir);
    let error = Cache::open(&config(dir)).unwrap_err();
    assert!(matches!(error, CacheError::Open { .. }), "{error}");
    assert_eq!(files(dir), before, "{error}");
    assert_eq!(moved_aside_count(dir), 0, "{error}");
    error.to_string()
}

/// A small file system in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn of(megabytes: u32) -> Self {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        disk.mount(&format!("size={megabytes}m"));
        disk
    }

    fn mount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]);
        assert!(mount.arg(self.path()).status().unwrap().success());
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Uses all space.
    fn fill(&self) {
        let mut file = fs::File::create(self.path().join("filler")).unwrap();
        while std::io::Write::write(&mut file, &[7; 4096]).is_ok_and(|n| n > 0) {}
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn full_disk_is_reported_and_changes_nothing() {
    let disk = SmallDisk::of(64);
    create_filled_cache(disk.path());
    disk.fill();
    let output = open_error(disk.path());
    assert!(output.contains("No space left"), "{output}");
    assert!(
        output.contains("XDG_CACHE_HOME"),
        "it says what to do: {output}"
    );
    disk.free();
    let cache = open(disk.path());
    assert_pinned(&cache);
    assert_eq!(cache.stats().disk_entries, 10);
}

#[test]
fn disk_that_fills_up_fails_no_read_and_is_used_again_once_space_is_free() {
    let disk = SmallDisk::of(64);
    create_filled_cache(disk.path());
    let cache = open(disk.path());
    disk.fill();
    // More than the memtable holds.
    put(&cache, 100..400);
    assert!(cache.stats().disk_errors > 0);
    for n in 0..10 {
        let (chunk, bytes) = chunk(n);
        assert_eq!(
            cache.view(None).get_cached(&chunk),
            Some(bytes),
            "{n} is still there"
        );
    }
    assert_pinned(&cache);
    let errors = cache.stats().disk_errors;
    put(&cache, 400..500);
    assert_eq!(
        cache.stats().disk_errors,
        errors,
        "it is not tried each time"
    );
    disk.free();
    let kept = cache.stats().disk_entries;
    let mut next = 1000;
    eventually("it is written to again", || {
        put(&cache, next..next + 1);
        next += 1;
        cache.stats().disk_entries > kept
    });
    drop(cache);
    let cache = open(disk.path());
    assert_pinned(&cache);
    assert!(cache.view(None).contains_on_disk(&chunk(next - 1).0.hash));
    assert_eq!(moved_aside_count(disk.path()), 0);
}

#[test]
fn cache_can_be_cleared_on_a_full_disk() {
    let disk = SmallDisk::of(64);
    create_filled_cache(disk.path());
    let cache = open(disk.path());
    put(&cache, 100..200);
    cache.settle().unwrap();
    disk.fill();
    cache.clear(ClearScope::Learned).unwrap();
    assert_eq!(cache.stats().disk_entries, 0);
    assert!(cache.pins().unwrap().is_empty());
    let learned = cache.view(None).record(RecordNamespace::Profiles, b"it");
    assert_eq!(learned.as_deref(), Some(&b"learned"[..]));
    put(&cache, 0..2);
    assert_eq!(cache.stats().disk_entries, 2, "there is room now");
    drop(cache);
    fs::remove_file(disk.path().join("filler")).unwrap();
    create_filled_cache(disk.path());
    disk.fill();
    Cache::erase(&config(disk.path()), Duration::ZERO).unwrap();
    let cache = open(disk.path());
    assert_eq!(
        (cache.stats().disk_entries, cache.pins().unwrap().len()),
        (0, 0)
    );
}

#[test]
fn read_only_disk_is_reported_and_changes_nothing() {
    let disk = SmallDisk::of(64);
    create_filled_cache(disk.path());
    disk.mount("remount,ro");
    let output = open_error(disk.path());
    assert!(output.contains("Read-only file system"), "{output}");
    disk.mount("remount,rw");
    assert_pinned(&open(disk.path()));
}

#[test]
fn files_of_another_user_are_reported_by_name_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    create_filled_cache(dir.path());
    let other_uid = 65534;
    let chown =
        |path: &Path| std::os::unix::fs::chown(path, Some(other_uid), Some(other_uid)).unwrap();
    chown(dir.path());
    for entry in fs::read_dir(dir.path()).unwrap() {
        chown(&entry.unwrap().path());
    }
    let tables = files_containing(dir.path(), ".sst");
    let table = tables.first().unwrap();
    for entry in fs::read_dir(dir.path().join("pages")).unwrap() {
        let path = entry.unwrap().path();
        if path != *table {
            chown(&path);
        }
    }
    let before = files(dir.path());
    // Only this thread changes its user ID.
    let output = std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let group = rustix::process::Gid::from_raw(other_uid);
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            let user = rustix::process::Uid::from_raw(other_uid);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            Cache::open(&config(dir.path())).map(|_| ()).unwrap_err()
        });
        opening.join().unwrap().to_string()
    });
    assert!(output.contains("Permission denied"), "{output}");
    assert!(output.contains("chown"), "{output}");
    assert!(
        output.contains(table.file_name().unwrap().to_str().unwrap()),
        "{output}"
    );
    assert_eq!(files(dir.path()), before);
    assert_pinned(&open(dir.path()));
}

/// Files of the database whose names contain `part`.
fn files_containing(dir: &Path, part: &str) -> Vec<PathBuf> {
    let all = files(dir).into_keys();
    let named = all.filter(|path| path.file_name().unwrap().to_string_lossy().contains(part));
    named.collect()
}

#[test]
fn damaged_database_is_moved_aside_and_pins_survive() {
    type Damage = fn(&Path);
    let garbage: Damage = |path| fs::write(path, noise(5000, 3)).unwrap();
    let empty: Damage = |path| fs::write(path, b"").unwrap();
    let cut: Damage = |path| {
        let len = fs::metadata(path).unwrap().len();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(len / 2).unwrap();
    };
    let gone: Damage = |path| fs::remove_file(path).unwrap();
    for (part, damage, learned) in [
        ("MANIFEST-", garbage, true),
        ("MANIFEST-", empty, true),
        ("MANIFEST-", gone, true),
        ("CURRENT", garbage, true),
        ("CURRENT", empty, true),
        ("CURRENT", gone, true),
        (".sst", garbage, false),
        (".sst", empty, false),
        (".sst", gone, false),
        (".sst", cut, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        create_filled_cache(dir.path());
        let paths = files_containing(dir.path(), part);
        assert!(!paths.is_empty(), "{part}");
        paths.iter().for_each(|path| damage(path));
        let cache = open(dir.path());
        assert_pinned(&cache);
        assert_eq!(moved_aside_count(dir.path()), 1, "{part}");
        let record = cache.view(None).record(RecordNamespace::Profiles, b"it");
        if learned {
            assert_eq!(record.as_deref(), Some(&b"learned"[..]), "{part}");
        }
        put(&cache, 0..3);
        let pins = cache.pins().unwrap();
        assert!(pins[0].is_complete(), "{part}: {pins:?}");
    }
}

#[test]
fn truncated_log_or_manifest_loses_no_pin() {
    for part in [".log", "MANIFEST-"] {
        let dir = tempfile::tempdir().unwrap();
        create_filled_cache(dir.path());
        for path in files_containing(dir.path(), part) {
            let len = fs::metadata(&path).unwrap().len();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_len(len.saturating_sub(7)).unwrap();
        }
        assert_pinned(&open(dir.path()));
    }
}

#[test]
fn newest_two_damaged_databases_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        create_filled_cache(dir.path());
        for path in files_containing(dir.path(), "MANIFEST-") {
            fs::write(path, b"garbage").unwrap();
        }
    }
    assert_pinned(&open(dir.path()));
    assert_eq!(moved_aside_count(dir.path()), 2);
}

#[test]
fn low_file_limit_is_reported_and_64_files_suffice() {
    let world = World::new();
    let tree = (0..40).fold(Tree::new(), |tree, n| {
        tree.noise(&format!("d/{n}"), 200_000, n)
    });
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    world.run(&["cache", "pin", dir.to_str().unwrap()]);
    let pins = world.json(&["cache", "pins"]);
    world.crash();
    world.run(&["unmount", dir.to_str().unwrap()]);
    let pages = world.path().join("cache/walgit-fs");
    let mount = ["mount", "it", dir.to_str().unwrap()];
    for few in [16, 24, 40, 63] {
        let output = world.run_after(&format!("ulimit -n {few}"), &mount);
        assert!(!output.status.success(), "{output:?}");
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.contains("ulimit -n") && output.contains(&few.to_string()),
            "{output}"
        );
        assert_eq!(moved_aside_count(&pages), 0);
    }
    let enough = world.run_after("ulimit -n 64", &mount);
    assert!(enough.status.success(), "{enough:?}");
    crate::support::tree::assert_same(tree.path(), &dir);
    assert_eq!(world.json(&["cache", "pins"]), pins);
}

#[test]
fn command_that_does_not_need_the_cache_yields_it() {
    let dir = tempfile::tempdir().unwrap();
    create_filled_cache(dir.path());
    let first = open(dir.path());
    let patience = Duration::from_millis(100);
    let busy = Cache::open_within(&config(dir.path()), patience).unwrap_err();
    let us = format!("process {}", std::process::id());
    assert!(busy.to_string().contains(&us), "{busy}");
    assert!(matches!(
        Cache::erase(&config(dir.path()), Duration::ZERO),
        Err(CacheError::Busy { .. })
    ));
    first.hand_over_when_wanted();
    let patience = Duration::from_secs(30);
    let second = Cache::open_within(&config(dir.path()), patience).unwrap();
    assert!(first.is_released());
    assert_pinned(&second);
    assert_eq!(second.stats().disk_entries, 10);
    // The first continues in memory, and reports that where it matters.
    put(&first, 50..51);
    assert_eq!(first.view(None).get_cached(&chunk(50).0), Some(chunk(50).1));
    assert_eq!(first.stats().disk_entries, 0);
    assert!(matches!(first.verify(|_, _| {}), Err(CacheError::Released)));
    assert!(matches!(
        first.clear(ClearScope::Nothing),
        Err(CacheError::Released)
    ));
    assert_pinned(&second);
    let first: Arc<Cache> = first;
    drop(first);
    assert_eq!(second.stats().disk_entries, 10);
}

#[test]
fn mount_during_a_long_publish_uses_the_cache() {
    let reading = Server::start();
    // A publisher that accepts uploads and never responds.
    let writing = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", writing.local_addr().unwrap());
    let world = World::on(&reading).config("[daemon]\nidle_exit_s = 1\n");
    let tree = Tree::new().file("a", "a".repeat(10_000));
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    world.run(&["cache", "pin", dir.to_str().unwrap()]);
    let pins = world.json(&["cache", "pins"]);
    world.unmount_and_wait_for_exit(&dir);
    let other = Tree::new().noise("b", 100_000, 1);
    let path = other.path().to_str().unwrap();
    let mut publish = world.command(&["publish", path, "--name", "other"]);
    publish.env("WALGIT_FS_PUBLISHER", &silent);
    let mut publish = publish.stderr(std::process::Stdio::null()).spawn().unwrap();
    let _upload = writing.accept().unwrap();
    assert_eq!(world.json(&["cache", "pins"]), pins);
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    assert_eq!(world.json(&["cache", "pins"]), pins);
    let report = world.json(&["cache", "verify"]);
    assert!(report["good"].as_u64() > Some(0), "{report}");
    assert!(publish.try_wait().unwrap().is_none(), "it is still at work");
    publish.kill().unwrap();
    publish.wait().unwrap();
}
