//! A broken keyring blocks no command and loses no key.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Tree, World};

/// How the session bus treats a connection.
#[derive(Clone, Copy, Debug)]
enum BusBehavior {
    /// Accepts it and never responds.
    Silent,
    /// Closes it.
    Closing,
    /// Sends bytes that are not D-Bus, and closes it.
    Garbage,
    /// Sends such bytes endlessly.
    Flood,
    /// Authenticates, and answers no message.
    Mute,
}

/// A session bus that runs for the duration of the test. Counts connections in `connections`.
fn bus(world: &World, bus: BusBehavior, connections: Arc<AtomicUsize>) -> PathBuf {
    let path = world.path().join("bus");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            connections.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || serve(stream, bus));
        }
    });
    path
}

fn serve(mut stream: UnixStream, bus: BusBehavior) {
    // The client may disconnect at any time.
    let mut read = [0; 4096];
    match bus {
        BusBehavior::Closing => {}
        BusBehavior::Garbage => {
            let _ = stream.write_all(&[0xff; 5000]);
        }
        BusBehavior::Flood => while stream.write_all(&[b'x'; 65536]).is_ok() {},
        BusBehavior::Silent => while stream.read(&mut read).is_ok_and(|n| n > 0) {},
        BusBehavior::Mute => {
            let mut began = false;
            while let Ok(n @ 1..) = stream.read(&mut read) {
                let output = String::from_utf8_lossy(&read[..n]).into_owned();
                for line in output.split_inclusive("\r\n") {
                    if began {
                        break;
                    }
                    let line = line.trim_start_matches('\0');
                    let answer = match line.trim_end() {
                        auth if auth.starts_with("AUTH") => {
                            "OK 0123456789abcdef0123456789abcdef\r\n"
                        }
                        "NEGOTIATE_UNIX_FD" => "AGREE_UNIX_FD\r\n",
                        "BEGIN" => {
                            began = true;
                            ""
                        }
                        _ => "",
                    };
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        }
    }
}

fn world_with(kind: BusBehavior) -> World {
    world_with_counter(kind).0
}

/// The same, with a connection counter.
fn world_with_counter(kind: BusBehavior) -> (World, Arc<AtomicUsize>) {
    let world = World::new();
    let connections = Arc::default();
    let bus = bus(&world, kind, Arc::clone(&connections));
    let address = format!("unix:path={}", bus.display());
    (
        world.with("DBUS_SESSION_BUS_ADDRESS", &address),
        connections,
    )
}

/// Runs a command within a time limit; returns success, stdout and stderr.
#[track_caller]
fn run_with_timeout(world: &World, args: &[&str]) -> (bool, String, String) {
    let started = Instant::now();
    let done = world.try_run(args);
    let took = started.elapsed();
    // 3 s for the keyring, the rest for a busy machine.
    assert!(took < Duration::from_secs(15), "{args:?} took {took:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.success(), text(done.stdout), text(done.stderr))
}

/// Marks a key as stored in the keyring in the index.
fn claim_in_keyring(world: &World, name: &str) {
    let index = world.path().join("data/walgit-fs/keys/keys.json");
    std::fs::write(index, format!("{{\"{name}\": \"keyring\"}}")).unwrap();
}

#[test]
fn unresponsive_keyring_is_abandoned_and_the_key_stored_in_a_file() {
    let hex = "07".repeat(32);
    for kind in [
        BusBehavior::Silent,
        BusBehavior::Mute,
        BusBehavior::Flood,
        BusBehavior::Closing,
        BusBehavior::Garbage,
    ] {
        let world = world_with(kind);
        let given = world.path().join("given");
        std::fs::write(&given, &hex).unwrap();
        let given = given.to_str().unwrap();
        let (fine, out, output) = run_with_timeout(&world, &["key", "add", "mine", given]);
        assert!(
            fine && out.contains("a sealed file"),
            "{kind:?}: {out}{output}"
        );
        if matches!(kind, BusBehavior::Silent | BusBehavior::Mute) {
            let warnings: Vec<_> = output.lines().filter(|l| l.contains("keyring")).collect();
            assert_eq!(warnings.len(), 1, "{output}");
            assert!(output.contains("did not answer within 3 s"), "{output}");
        }
        assert_eq!(
            run_with_timeout(&world, &["key", "show", "mine"]).1.trim(),
            hex
        );
    }
}

#[test]
fn encrypted_publish_and_mount_work_with_an_unresponsive_keyring() {
    let (world, connections) = world_with_counter(BusBehavior::Silent);
    let tree = Tree::new().file("a", "text");
    let path = tree.path().to_str().unwrap();
    let (fine, out, output) =
        run_with_timeout(&world, &["publish", path, "--name", "it", "--encrypt"]);
    assert!(fine, "{output}");
    assert_eq!(
        connections.load(Ordering::SeqCst),
        1,
        "the keyring is asked once"
    );
    assert!(out.contains("sealed file"), "{out}");
    assert!(output.contains("keyring was not used"), "{output}");
    let dir = world.mount("it");
    assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"text");
    world.unmount(&dir);
    let (fine, _, output) = run_with_timeout(&world, &["publish", path, "--name", "it"]);
    assert!(fine, "{output}");
}

#[test]
fn key_held_only_by_an_unresponsive_keyring_is_named_and_other_keys_work() {
    let world = world_with(BusBehavior::Silent);
    let tree = Tree::new().file("a", "text");
    world.publish(tree.path(), "public");
    std::fs::create_dir_all(world.path().join("data/walgit-fs/keys")).unwrap();
    claim_in_keyring(&world, "mine");
    let (fine, _, output) = run_with_timeout(&world, &["key", "show", "mine"]);
    assert!(
        !fine && output.contains("`mine` is only in the system keyring"),
        "{output}"
    );
    let (fine, _, output) = run_with_timeout(&world, &["key", "remove", "mine", "--force"]);
    assert!(!fine && output.contains("did not answer"), "{output}");
    // Repositories without a key are readable.
    let (fine, out, output) = run_with_timeout(&world, &["log", "public"]);
    assert!(fine && !out.is_empty(), "{output}");
    assert!(output.contains("going on without a key"), "{output}");
    let dir = world.mount("public");
    assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"text");
    // Another key does not replace it.
    let given = world.path().join("given");
    std::fs::write(&given, "08".repeat(32)).unwrap();
    let add = ["key", "add", "mine", given.to_str().unwrap(), "--replace"];
    let (fine, _, output) = run_with_timeout(&world, &add);
    assert!(!fine && output.contains("did not answer"), "{output}");
}

#[test]
fn login_and_logout_work_with_an_unresponsive_keyring() {
    let world = world_with(BusBehavior::Mute).config(
        "network = \"mine\"\n[networks.mine]\naggregators = [\"http://127.0.0.1:9\"]\n\
         publishers = [\"http://127.0.0.1:9\"]\n[networks.mine.auth]\nmethod = \"api_key\"\n",
    );
    let given = world.path().join("given");
    std::fs::write(&given, "an-api-key").unwrap();
    let login = ["login", "--api-key-file", given.to_str().unwrap()];
    let (fine, out, output) = run_with_timeout(&world, &login);
    assert!(fine && out.contains("sealed file"), "{output}");
    assert!(output.contains("keyring was not used"), "{output}");
    assert!(run_with_timeout(&world, &["whoami"]).0);
    assert!(run_with_timeout(&world, &["logout"]).0);
}
