//! The daemon's log records events and stays small.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::support::{Server, Tree, World};

fn log_of(world: &World) -> PathBuf {
    world.path().join("state/walgit-fs/daemon.log")
}

/// Numbers of logged and of suppressed messages.
fn messages(log: &str) -> (u64, u64) {
    let (mut shown, mut suppressed) = (0, 0);
    for line in log.lines() {
        match line.split_once(" similar messages suppressed") {
            Some((before, _)) => {
                let count = before.rsplit(' ').next().unwrap();
                suppressed += count.parse::<u64>().unwrap();
            }
            None => shown += 1,
        }
    }
    (shown, suppressed)
}

#[test]
fn outage_does_not_flood_the_log() {
    let server = Server::start();
    let world = World::on(&server);
    let mut tree = Tree::new();
    for number in 0..40 {
        tree = tree.noise(&format!("f{number}"), 30_000, number);
    }
    world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    world.run(&["mount", "it", dir.to_str().unwrap(), "--prefetch", "off"]);
    let files: Vec<_> = (0..40)
        .map(|number| fs::File::open(dir.join(format!("f{number}"))).unwrap())
        .collect();
    server.set_faults("status=500,path=/v1/blobs");
    let mut failed = 0;
    for _ in 0..25 {
        for file in &files {
            failed += u64::from(file.read_at(&mut [0; 4096], 0).is_err());
        }
    }
    drop(files);
    world.run(&["daemon", "stop"]);
    let log = fs::read_to_string(log_of(&world)).unwrap();
    let (shown, suppressed) = messages(&log);
    assert!(failed > 500, "{failed} reads failed");
    assert!(
        shown + suppressed >= failed,
        "{shown} + {suppressed}: {log}"
    );
    assert!(shown <= 100, "{shown} messages: {log}");
    assert!(log.len() < 50_000, "{} bytes", log.len());
}

#[test]
fn second_daemon_does_not_truncate_the_log_of_the_first() {
    let world = World::new();
    let tree = Tree::new().file("a", "text");
    world.publish(tree.path(), "it");
    let world = world.with("WALGIT_FS_LOG", "walgit_fs=info");
    let dir = world.mount("it");
    let before = fs::read(log_of(&world)).unwrap();
    assert!(!before.is_empty());
    // Started by a command in a race, or by mistake.
    assert!(world.try_run(&["daemon", "run"]).status.success());
    world.fail(&["mount", "--foreground", "it", dir.to_str().unwrap()]);
    assert_eq!(fs::read(log_of(&world)).unwrap(), before);
    // A failed start reports the reason, and keeps the earlier log.
    world.run(&["daemon", "stop"]);
    let before = fs::read_to_string(log_of(&world)).unwrap();
    let world = world.with("WALGIT_FS_FAULT_POINTS", "daemon.start=fail");
    let output = world.fail(&["mount", "it", dir.to_str().unwrap()]);
    assert!(
        output.contains("the walgit-fs daemon did not start"),
        "{output}"
    );
    assert!(output.contains("Input/output error"), "{output}");
    let after = fs::read_to_string(log_of(&world)).unwrap();
    assert!(after.starts_with(&before), "{after}");
    assert!(
        after.len() > before.len(),
        "the log contains the reason, too"
    );
}

#[test]
fn large_log_is_rotated() {
    let world = World::new();
    let tree = Tree::new().file("a", "text");
    world.publish(tree.path(), "it");
    let log = log_of(&world);
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    let old = vec![b'\n'; walgit_fs::daemon::log::MAX_LOG_BYTES as usize];
    fs::write(&log, &old).unwrap();
    let world = world.with("WALGIT_FS_LOG", "walgit_fs=info");
    let _dir = world.mount("it");
    let aside = log.with_file_name("daemon.log.1");
    assert_eq!(fs::metadata(aside).unwrap().len(), old.len() as u64);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("serving"), "{text}");
}

#[test]
fn pipe_in_place_of_log_or_lock_does_not_block_the_daemon() {
    let world = World::new();
    let tree = Tree::new().file("a", "text");
    world.publish(tree.path(), "it");
    let pipe = |path: &std::path::Path| {
        let _ = fs::remove_file(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
    };
    pipe(&log_of(&world));
    // It works without a log.
    let dir = world.mount("it");
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"text");
    world.run(&["daemon", "stop"]);
    let lock = world.path().join("cache/walgit-fs/daemon/lock");
    pipe(&lock);
    let output = world.fail(&["mount", "it", dir.to_str().unwrap()]);
    assert!(
        output.contains(lock.to_str().unwrap()) && output.contains("not a regular file"),
        "{output}"
    );
}
