//! Promises of the driver to the kernel, on real mounts that this process serves.
//!
//! Promises of commands and of the daemon are in `tests/promises`.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use walgit_fs::cache::{Cache, CacheConfig};
use walgit_fs::fuse::{
    self, DriverConfig, Liveness, MountHandle, MountOptions, MountTable, Mountpoint, StatusSource,
};
use walgit_fs::prefetch::Learning;
use walgit_fs::publish::{self, NoProgress, PublishOptions, Published};
use walgit_fs::repo::{Loader, LoaderConfig, Snapshot};
use walrus_client::network::{NetPolicy, Network, NetworkPlace};
use walrus_client::{self, BlobStore};

/// Directories of one test, a published tree, and a cache.
struct Fixture {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    loader: Arc<Loader>,
}

impl Fixture {
    fn new() -> Self {
        assert!(
            Path::new("/dev/fuse").exists(),
            "/dev/fuse is missing; these tests mount for real"
        );
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let cache = Cache::open(&CacheConfig {
            dir: dir.path().join("pages"),
            disk_bytes: 100 << 20,
            memory_bytes: 8 << 20,
        });
        Fixture {
            runtime: tokio::runtime::Runtime::new().unwrap(),
            loader: Loader::new(cache.unwrap(), LoaderConfig::default()),
            dir,
        }
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.dir.path().join("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn blobs(&self) -> PathBuf {
        self.dir.path().join("store/blobs")
    }

    fn local(&self) -> Arc<dyn BlobStore> {
        store(NetworkPlace::Local {
            dir: self.dir.path().join("store"),
        })
    }

    fn publish(&self) -> Published {
        let tree = self.dir.path().join("tree");
        let options = PublishOptions::default();
        let progress = Arc::new(NoProgress);
        let store = self.local();
        let loader = self.loader.clone();
        let published = publish::publish(&tree, &options, store, loader, progress);
        self.runtime.block_on(published).unwrap()
    }

    fn mount(&self, published: &Published) -> Mount {
        self.mount_with(published, self.local(), Arc::new(EmptyControl))
    }

    fn mount_with(
        &self,
        published: &Published,
        store: Arc<dyn BlobStore>,
        status: Arc<dyn StatusSource>,
    ) -> Mount {
        let snapshot = self.snapshot(published, store);
        self.mount_moving(snapshot, status, false).0
    }

    fn snapshot(&self, published: &Published, store: Arc<dyn BlobStore>) -> Snapshot {
        let opened = self
            .loader
            .open(store, published.blob, Some(published.root));
        let repository = self.runtime.block_on(opened).unwrap();
        repository.snapshot(0).unwrap()
    }

    fn mount_moving(
        &self,
        snapshot: Snapshot,
        status: Arc<dyn StatusSource>,
        may_move: bool,
    ) -> (Mount, MountHandle) {
        let config = DriverConfig {
            deadline: Duration::from_secs(2),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            allow_other: false,
            may_move,
            learning: Learning::Off,
            identity: String::new(),
        };
        let runtime = self.runtime.handle().clone();
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let device = mounted(dir.path());
        let (session, handle) = fuse::serve(snapshot, device, &config, runtime, status).unwrap();
        let mount = Mount {
            dir,
            handle: handle.clone(),
            served: Some(std::thread::spawn(move || drop(session.run()))),
        };
        (mount, handle)
    }
}

/// Mounts; returns the descriptor to serve.
fn mounted(dir: &Path) -> OwnedFd {
    let options = MountOptions {
        name: "test".into(),
        allow_other: false,
    };
    let mut mounted = fuse::mount(Mountpoint::open(dir).unwrap(), &options).unwrap();
    let device = mounted.take_device().unwrap();
    mounted.keep();
    device
}

/// Whether the mount on a directory responds; `None` without a mount of walgit-fs.
fn state(dir: &Path) -> Option<Liveness> {
    let table = MountTable::read().unwrap();
    let entry = table.mounted_at(dir).filter(|entry| entry.is_ours())?;
    Some(fuse::liveness(&table, &[entry])[0])
}

fn store(place: NetworkPlace) -> Arc<dyn BlobStore> {
    let network = Network {
        name: "test".into(),
        place,
        max_body: 10 << 20,
        epochs: 1,
        sui: None,
        admin: None,
        epoch_s: None,
        policy: NetPolicy::default(),
        auth: Default::default(),
    };
    walrus_client::open(&network, Duration::from_secs(2), None).unwrap()
}

/// A mount that is served until it is dropped.
struct Mount {
    dir: tempfile::TempDir,
    handle: MountHandle,
    served: Option<JoinHandle<()>>,
}

impl Mount {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Number of kernel requests while `what` runs.
    fn requests(&self, what: impl FnOnce()) -> u64 {
        let before = self.handle.stats().operations;
        what();
        self.handle.stats().operations - before
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, because a failed test may have open files.
        let _ = fuse::unmount(self.dir.path(), true);
        if let Some(served) = self.served.take() {
            let _ = served.join();
        }
    }
}

struct EmptyControl;

impl StatusSource for EmptyControl {
    fn status(&self) -> Vec<u8> {
        b"{}".to_vec()
    }
}

/// Incompressible bytes, different for each seed.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[track_caller]
fn assert_errno<T: std::fmt::Debug>(done: io::Result<T>, expected: &[Errno]) {
    let code = done.unwrap_err().raw_os_error();
    let known = expected.iter().any(|e| Some(e.raw_os_error()) == code);
    assert!(known, "{code:?} is none of {expected:?}");
}

#[test]
fn inode_numbers_are_preorder_positions() {
    let fixture = Fixture::new()
        .file("a/x", "1")
        .file("a/y", "2")
        .file("b", "3");
    let published = fixture.publish();
    let (one, two) = (fixture.mount(&published), fixture.mount(&published));
    for mount in [one, two] {
        let number = |name: &str| fs::metadata(mount.at(name)).unwrap().ino();
        // In reverse order: inode numbers do not depend on the order of lookups.
        let numbers = ["b", "a/y", "a/x", "a", ""].map(number);
        assert_eq!(numbers, [5, 4, 3, 2, 1]);
    }
}

#[test]
fn kernel_caches_replies_and_does_not_repeat_requests() {
    let fixture = Fixture::new().file("dir/file", "content");
    let mount = fixture.mount(&fixture.publish());
    let stat = || {
        assert_eq!(fs::read(mount.at("dir/file")).unwrap(), b"content");
        assert_eq!(fs::read_dir(mount.at("dir")).unwrap().count(), 1);
        // Neither present nor missing names.
        assert_errno(fs::metadata(mount.at("dir/none")), &[Errno::NOENT]);
    };
    assert_ne!(mount.requests(stat), 0);
    assert_eq!(mount.requests(stat), 0);
}

#[test]
fn large_directory_can_be_listed_from_any_offset() {
    let mut fixture = Fixture::new();
    for n in 0..20_000 {
        fixture = fixture.file(&format!("many/file-{n:05}"), format!("{n}"));
    }
    let mount = fixture.mount(&fixture.publish());
    let list = |from: Option<i64>| -> Vec<(String, i64)> {
        let dir = fs::File::open(mount.at("many")).unwrap();
        let mut dir = rustix::fs::Dir::new(dir).unwrap();
        if let Some(from) = from {
            dir.seek(from).unwrap();
        }
        dir.map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().to_str().unwrap().to_owned(),
                entry.offset(),
            )
        })
        .collect()
    };
    let all = list(None);
    assert_eq!(all.len(), 20_002, "with . and ..");
    for place in [0, 1, 2, 777, 12_345, 20_001] {
        assert_eq!(list(Some(all[place].1)), all[place + 1..], "after {place}");
    }
    for n in [0, 4_321, 19_999] {
        let content = fs::read_to_string(mount.at(&format!("many/file-{n:05}")));
        assert_eq!(content.unwrap(), n.to_string());
    }
}

#[test]
fn mount_switched_hundreds_of_times_keeps_few_trees_and_all_open_files() {
    let fixture = Fixture::new().file("same/file", "same").file("n", "head 0");
    let mut heads = vec![fixture.publish()];
    for n in 1..25 {
        fs::write(fixture.dir.path().join("tree/n"), format!("head {n}")).unwrap();
        heads.push(fixture.publish());
    }
    let snapshots = heads
        .iter()
        .map(|head| fixture.snapshot(head, fixture.local()));
    let snapshots: Vec<_> = snapshots.collect();
    let (mount, handle) = fixture.mount_moving(snapshots[0].clone(), Arc::new(EmptyControl), true);
    let first = fs::File::open(mount.at("n")).unwrap();
    let inode = fs::metadata(mount.at("same/file")).unwrap().ino();
    let mut most = 0;
    for turn in 1..=300 {
        let head = turn % snapshots.len();
        let moved = handle.move_to(snapshots[head].clone());
        fixture.runtime.block_on(moved).unwrap();
        assert_eq!(
            fs::read_to_string(mount.at("n")).unwrap(),
            format!("head {head}")
        );
        // Branches and commits contain trees, too.
        fs::read_dir(mount.at(".walgit/commits"))
            .unwrap()
            .for_each(drop);
        most = most.max(handle.tree_stats().known);
    }
    assert!(most <= 12, "{most} trees");
    assert!(handle.tree_stats().opened <= 8, "{:?}", handle.tree_stats());
    assert_eq!(fs::metadata(mount.at("same/file")).unwrap().ino(), inode);
    let mut text = [0; 6];
    std::os::unix::fs::FileExt::read_exact_at(&first, &mut text, 0).unwrap();
    assert_eq!(&text, b"head 0", "open files keep their content");
}

#[test]
fn extended_attributes_are_read_by_name_and_report_their_size() {
    let fixture = Fixture::new()
        .file("tiny", "tiny")
        .file("folder/chunk", noise(50_000, 1))
        .file("large", noise(9 << 20, 2));
    let mount = fixture.mount(&fixture.publish());
    for name in ["tiny", "folder", "folder/chunk", "large"] {
        for key in ["tier", "cached"] {
            let value = xattr::get(mount.at(name), format!("user.walgit.{key}"));
            assert!(value.unwrap().is_some(), "{key} of {name}");
        }
        assert_eq!(xattr::list(mount.at(name)).unwrap().count(), 0, "{name}");
    }
    let get = |key: &str, buffer: &mut [u8]| rustix::fs::getxattr(mount.at("tiny"), key, buffer);
    let ask = |key: &str| rustix::fs::getxattr_query(mount.at("tiny"), key);
    assert_eq!(ask("user.walgit.tier"), Ok(6));
    assert_eq!(get("user.walgit.tier", &mut [0; 3]), Err(Errno::RANGE));
    let mut buffer = [0; 64];
    assert_eq!(get("user.walgit.tier", &mut buffer[..6]), Ok(6));
    assert_eq!(&buffer[..6], b"inline");
    assert_eq!(get("user.walgit.hash", &mut buffer), Ok(64));
    assert_eq!(buffer, blake3::hash(b"tiny").to_hex().as_bytes());
    assert_eq!(ask("user.walgit.other"), Err(Errno::NODATA));
}

#[test]
fn changes_are_refused_even_if_root_remounts_read_write() {
    let fixture = Fixture::new().file("file", "content").file("folder/x", "x");
    let mount = fixture.mount(&fixture.publish());
    let refused = || {
        let (file, new) = (mount.at("file"), mount.at("new"));
        let rofs = &[Errno::ROFS];
        assert_errno(fs::write(&file, "other"), rofs);
        assert_errno(fs::write(&new, "new"), rofs);
        assert_errno(fs::create_dir(&new), rofs);
        assert_errno(fs::remove_file(&file), rofs);
        assert_errno(fs::remove_dir(mount.at("folder")), rofs);
        assert_errno(fs::rename(&file, &new), rofs);
        assert_errno(fs::hard_link(&file, &new), rofs);
        assert_errno(std::os::unix::fs::symlink("file", &new), rofs);
        assert_errno(xattr::set(&file, "user.x", b"y"), rofs);
        assert_eq!(fs::read(&file).unwrap(), b"content");
    };
    refused();
    if rustix::process::geteuid().is_root() {
        // Only root can try.
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount_remount(mount.dir.path(), flags, "").unwrap();
        refused();
    }
}

#[test]
fn changed_status_file_is_read_completely_each_time() {
    /// Longer each time.
    #[derive(Default)]
    struct Growing(AtomicU64);
    impl StatusSource for Growing {
        fn status(&self) -> Vec<u8> {
            let times = self.0.fetch_add(1, Ordering::Relaxed);
            format!("<{times}{}>", "x".repeat(3000 * times as usize)).into_bytes()
        }
    }
    let fixture = Fixture::new().file("a", "a");
    let published = fixture.publish();
    let mount = fixture.mount_with(&published, fixture.local(), Arc::new(Growing::default()));
    let mut last = 0;
    while last < 20_000 {
        let text = fs::read_to_string(mount.at(".walgit/status")).unwrap();
        assert!(
            text.starts_with('<') && text.ends_with('>'),
            "{} bytes",
            text.len()
        );
        assert!(text.len() >= last);
        last = text.len();
    }
}

#[test]
fn panic_fails_one_operation_and_the_mount_continues() {
    struct Faulty;
    impl StatusSource for Faulty {
        fn status(&self) -> Vec<u8> {
            panic!("on purpose")
        }
    }
    let fixture = Fixture::new().file("a", "a");
    let published = fixture.publish();
    let mount = fixture.mount_with(&published, fixture.local(), Arc::new(Faulty));
    for _ in 0..10 {
        assert_errno(fs::metadata(mount.at(".walgit/status")), &[Errno::IO]);
    }
    assert_eq!(fs::read(mount.at("a")).unwrap(), b"a");
    assert!(mount.handle.stats().failed >= 10);
}

#[test]
fn blocking_request_is_answered_within_the_deadline() {
    /// Blocks its thread until the test ends.
    struct Stuck(Mutex<mpsc::Receiver<()>>);
    impl StatusSource for Stuck {
        fn status(&self) -> Vec<u8> {
            let _ = self.0.lock().unwrap().recv();
            Vec::new()
        }
    }
    let fixture = Fixture::new().file("a", "a");
    let published = fixture.publish();
    let (release, stuck) = mpsc::channel();
    let stuck = Arc::new(Stuck(Mutex::new(stuck)));
    let mount = fixture.mount_with(&published, fixture.local(), stuck);
    let status = fs::metadata(mount.at(".walgit/status"));
    assert_errno(status, &[Errno::TIMEDOUT]);
    assert_eq!(fs::read(mount.at("a")).unwrap(), b"a");
    assert_eq!(mount.handle.stats().timed_out, 1);
    drop(release);
}

#[test]
fn corrupt_chunk_fails_only_its_file() {
    let spoiled = noise(300_000, 1);
    let fixture = Fixture::new()
        .file("a/spoiled", &spoiled)
        .file("b/whole", noise(300_000, 2));
    let published = fixture.publish();
    for blob in fs::read_dir(fixture.blobs()).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(32).position(|w| w == &spoiled[..32]) {
            bytes[at + 1000] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let mount = fixture.mount(&published);
    assert_errno(fs::read(mount.at("a/spoiled")), &[Errno::IO]);
    assert_eq!(fs::metadata(mount.at("a/spoiled")).unwrap().len(), 300_000);
    assert_eq!(fs::read(mount.at("b/whole")).unwrap(), noise(300_000, 2));
    assert_ne!(mount.handle.stats().integrity, 0);
}

#[test]
fn unresponsive_gateway_causes_an_error_within_the_deadline() {
    let fixture = Fixture::new()
        .file("a", noise(300_000, 1))
        .file("b", "inline");
    let published = fixture.publish();
    // Opened once, so that the head is cached; the content is not.
    drop(fixture.mount(&published));
    // Accepts connections and never responds.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = store(NetworkPlace::Http {
        aggregators: vec![format!("http://{}", listener.local_addr().unwrap())],
        publishers: Vec::new(),
    });
    let mount = fixture.mount_with(&published, silent, Arc::new(EmptyControl));
    assert_errno(fs::read(mount.at("a")), &[Errno::IO, Errno::TIMEDOUT]);
    assert_eq!(fs::read(mount.at("b")).unwrap(), b"inline");
    let stats = mount.handle.stats();
    assert_ne!(stats.failed + stats.timed_out, 0);
}

#[test]
fn dead_mount_is_detected_even_if_the_kernel_answers_for_it() {
    let fixture = Fixture::new().file("a", "a");
    let dir = tempfile::tempdir_in(fixture.dir.path()).unwrap();
    assert_eq!(state(dir.path()), None);
    let mount = fixture.mount(&fixture.publish());
    fs::read_dir(mount.dir.path()).unwrap().count();
    assert_eq!(state(mount.dir.path()), Some(Liveness::Responds));
    // Never served: its device is closed, as after a crash.
    drop(mounted(dir.path()));
    assert_eq!(state(dir.path()), Some(Liveness::Dead));
    fuse::unmount(dir.path(), true).unwrap();
    assert_eq!(state(dir.path()), None);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
