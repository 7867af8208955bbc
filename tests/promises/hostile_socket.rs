//! Another user may occupy any path and listen on any socket: commands send nothing
//! there, and report the problem or work around it.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use rustix::thread::set_thread_res_uid;

use crate::support::tree::assert_same;
use crate::support::{Tree, World};

const OTHER_UID: u32 = 65_534;
const SOCKETS: [&str; 2] = ["control.sock", "attach.sock"];

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Sockets of another user, and the bytes that they received.
struct Impostor {
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Impostor {
    fn listen(dir: &Path) -> Self {
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        for name in SOCKETS {
            let socket =
                rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
            let address = SocketAddrUnix::new(dir.join(name)).unwrap();
            rustix::net::bind(&socket, &address).unwrap();
            fs::set_permissions(dir.join(name), Permissions::from_mode(0o777)).unwrap();
            let (report, listening) = std::sync::mpsc::channel();
            let heard = heard.clone();
            std::thread::spawn(move || {
                // The peer of a connection is the user who called listen(2): of this
                // thread only, another user.
                let other = rustix::process::Uid::from_raw(OTHER_UID);
                set_thread_res_uid(other, other, other).unwrap();
                rustix::net::listen(&socket, 8).unwrap();
                report.send(()).unwrap();
                accept(socket, &heard);
            });
            listening.recv().unwrap();
        }
        Impostor { heard }
    }

    #[track_caller]
    fn assert_heard_nothing(&self) {
        let heard = self.heard.lock().unwrap();
        assert!(heard.is_empty(), "{}", String::from_utf8_lossy(&heard));
    }
}

fn accept(socket: OwnedFd, heard: &Mutex<Vec<u8>>) {
    for stream in UnixListener::from(socket).incoming().flatten() {
        let mut stream = stream;
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            heard.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    }
}

/// A world with an encrypted publish, so that a mount would send a key.
fn published() -> (World, Tree) {
    let world = World::new();
    let tree = Tree::new().noise("a", 30_000, 1).file("b", "text");
    let path = tree.path().to_str().unwrap();
    world.run(&["publish", path, "--name", "it", "--encrypt"]);
    (world, tree)
}

fn daemon_dir(world: &World) -> PathBuf {
    world.path().join("cache/walgit-fs/daemon")
}

fn private_dir(path: &Path) {
    fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
        .unwrap();
}

/// Every command that contacts the daemon.
fn commands(dir: &Path) -> Vec<Vec<&str>> {
    let dir = dir.to_str().unwrap();
    vec![
        vec!["mount", "it", dir],
        vec!["mount", "--foreground", "it", dir],
        vec!["status"],
        vec!["cache", "stats"],
        vec!["cache", "pins"],
        vec!["cache", "clear"],
        vec!["cache", "verify"],
        vec!["cache", "warm", dir],
        vec!["cache", "pin", dir],
        vec!["cache", "unpin", "it:/"],
        vec!["prefetch", "export", "it", "--output", "/dev/null"],
        vec!["daemon", "status"],
        vec!["daemon", "stop"],
        vec!["daemon", "restart"],
    ]
}

/// Runs a command within the time limit for reporting problems.
fn run_with_timeout(world: &World, args: &[&str]) -> Output {
    let started = Instant::now();
    let done = world.try_run(args);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{args:?}: {took:?}");
    done
}

#[track_caller]
fn assert_refused(world: &World, args: &[&str], named: &str) {
    let done = run_with_timeout(world, args);
    let output = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{args:?}: {done:?}");
    // `status` includes it in its report.
    let shown = String::from_utf8_lossy(&done.stdout);
    let report = if args == ["status"] { &shown } else { &output };
    assert!(report.contains(named), "{args:?}: {shown}{output}");
    assert!(!output.contains("panicked"), "{args:?}: {output}");
    assert!(output.lines().count() <= 3, "{args:?}: {output}");
}

#[test]
fn every_command_refuses_a_daemon_directory_of_another_user() {
    if !is_root() {
        return; // only root can make one
    }
    let (world, _tree) = published();
    let daemon = daemon_dir(&world);
    private_dir(&daemon);
    let impostor = Impostor::listen(&daemon);
    let dir = world.mountpoint();
    for mode in [0o700, 0o777] {
        chown(&daemon, Some(OTHER_UID), None).unwrap();
        fs::set_permissions(&daemon, Permissions::from_mode(mode)).unwrap();
        for args in commands(&dir) {
            assert_refused(&world, &args, "belongs to user 65534");
        }
    }
    let doctor = run_with_timeout(&world, &["doctor"]);
    assert_eq!(doctor.status.code(), Some(1), "{doctor:?}");
    impostor.assert_heard_nothing();
}

#[test]
fn every_command_refuses_an_open_or_symlinked_daemon_directory() {
    let (world, _tree) = published();
    let daemon = daemon_dir(&world);
    private_dir(&daemon);
    let impostor = is_root().then(|| Impostor::listen(&daemon));
    let dir = world.mountpoint();
    for mode in [0o755, 0o770, 0o701, 0o777] {
        fs::set_permissions(&daemon, Permissions::from_mode(mode)).unwrap();
        for args in commands(&dir) {
            assert_refused(&world, &args, "other users can enter it");
        }
    }
    fs::set_permissions(&daemon, Permissions::from_mode(0o700)).unwrap();
    let elsewhere = world.path().join("elsewhere");
    fs::rename(&daemon, &elsewhere).unwrap();
    symlink(&elsewhere, &daemon).unwrap();
    for args in commands(&dir) {
        assert_refused(&world, &args, "is not a directory");
    }
    if let Some(impostor) = impostor {
        impostor.assert_heard_nothing();
    }
}

#[test]
fn every_command_verifies_the_listener_before_sending() {
    if !is_root() {
        return; // only root can listen as somebody else
    }
    let (world, tree) = published();
    let squat = world.path().join("squat");
    private_dir(&squat);
    let impostor = Impostor::listen(&squat);
    let daemon = daemon_dir(&world);
    private_dir(&daemon);
    for name in SOCKETS {
        symlink(squat.join(name), daemon.join(name)).unwrap();
    }
    // While a daemon seems to run, its sockets are contacted.
    let lock = fs::File::create(daemon.join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let dir = world.mountpoint();
    for args in commands(&dir) {
        assert_refused(&world, &args, "a process of user 65534");
    }
    // A stale link is no obstacle.
    drop(lock);
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    assert_same(tree.path(), &dir);
    impostor.assert_heard_nothing();
}

#[test]
fn files_of_others_in_shared_directories_are_ignored() {
    if !is_root() {
        return; // only root can listen as somebody else
    }
    let (world, tree) = published();
    let shared = world.path().join("shared");
    let mut impostors = Vec::new();
    for name in ["walgit-fs", "walgit-fs-0"] {
        let squat = shared.join(name);
        private_dir(&squat);
        impostors.push(Impostor::listen(&squat));
        chown(&squat, Some(OTHER_UID), None).unwrap();
    }
    let shared = shared.to_str().unwrap().to_owned();
    let world = world
        .with("XDG_RUNTIME_DIR", &shared)
        .with("TMPDIR", &shared);
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    // Another environment finds the same daemon.
    let pid = world.daemon();
    let world = world
        .with("XDG_RUNTIME_DIR", "/nonexistent")
        .with("TMPDIR", "/");
    assert_eq!(world.daemon(), pid);
    for args in [
        vec!["status"],
        vec!["cache", "stats"],
        vec!["cache", "pin", dir.to_str().unwrap()],
        vec!["gc"],
    ] {
        world.run(&args);
    }
    world.unmount(&dir);
    for impostor in impostors {
        impostor.assert_heard_nothing();
    }
}

#[test]
fn daemon_does_not_start_in_a_cache_directory_of_another_user() {
    if !is_root() {
        return; // only root could write there
    }
    let (world, _tree) = published();
    let cache = world.path().join("cache/walgit-fs");
    let _ = fs::remove_dir_all(cache.join("daemon"));
    chown(&cache, Some(OTHER_UID), None).unwrap();
    let dir = world.mountpoint();
    assert_refused(
        &world,
        &["mount", "it", dir.to_str().unwrap()],
        "belongs to user 65534",
    );
    assert!(!cache.join("daemon").exists(), "nothing was written there");
    chown(&cache, Some(0), None).unwrap();
}

#[test]
fn long_cache_path_works() {
    let (world, tree) = published();
    let mut long = world.path().join("cache");
    for _ in 0..10 {
        long.push("a-folder-with-quite-a-long-name");
    }
    let world = world.with("XDG_CACHE_HOME", long.to_str().unwrap());
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    world.unmount(&dir);
}

#[test]
fn daemon_accepts_only_fuse_descriptors() {
    let (world, _tree) = published();
    let _dir = world.mount("it");
    let socket = daemon_dir(&world).join("attach.sock");
    for other in ["/dev/null", "/proc/self/exe", "/"] {
        let stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let other = fs::File::open(other).unwrap();
        walgit_fs::fuse::send_descriptor(&stream, b"{}", &other).unwrap();
        let mut answer = String::new();
        (&stream).read_to_string(&mut answer).unwrap();
        assert!(answer.contains("not /dev/fuse"), "{answer}");
    }
}
