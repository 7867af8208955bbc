//! The ledger is completed and never truncated, and no epoch advances past the expiry
//! of needed blobs without `--force`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::tree::noise;
use crate::support::world::resume;
use crate::support::{Server, Tree, World};

const FILE_LEN: usize = 60_000;

fn sample(seed: u64) -> Tree {
    Tree::new().noise("file", FILE_LEN, seed)
}

fn ledger_file(world: &World) -> PathBuf {
    let dir = world.path().join("data/walgit-fs/ledger");
    let files = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    let mut ledgers = files.filter(|it| it.extension() == Some("jsonl".as_ref()));
    ledgers.next().unwrap()
}

/// A network that reports lifetimes only when a blob is stored, like mainnet.
fn world_without_lifetimes(server: &Server) -> World {
    World::on(server)
}

#[test]
fn damaged_ledger_lines_are_reported_once_with_the_remedy() {
    let world = World::new();
    world.publish(sample(1).path(), "it");
    let file = ledger_file(&world);
    // Not at the end, where a crash may truncate a line.
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{{\"damaged\n{text}")).unwrap();
    for args in [&["gc", "--dry-run"][..], &["renew", "--dry-run"]] {
        let done = world.try_run(args);
        let output = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{output}");
        let lines: Vec<&str> = output
            .lines()
            .filter(|line| line.contains("ledger"))
            .collect();
        assert_eq!(lines.len(), 1, "{output}");
        assert!(
            lines[0].starts_with("warning: 1 lines of ledger"),
            "{output}"
        );
        assert!(lines[0].contains("doctor --rebuild-ledger"), "{output}");
    }
}

#[test]
fn rebuilt_ledger_keeps_its_existing_entries() {
    let server = Server::start();
    let world = world_without_lifetimes(&server);
    let tree = sample(1);
    world.publish(tree.path(), "it");
    fs::write(tree.path().join("file"), noise(FILE_LEN, 2)).unwrap();
    world.publish(tree.path(), "it");
    let file = ledger_file(&world);
    let before = fs::read_to_string(&file).unwrap();
    assert!(before.contains("end_epoch"), "{before}");
    for _ in 0..2 {
        let done = world.json(&["doctor", "--rebuild-ledger"]);
        assert_eq!((&done["added"], &done["backup"]), (&0.into(), &Value::Null));
        // The superseded head, epochs and object IDs.
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
    }
    // Its newest line is lost.
    let first = before.lines().next().unwrap().to_owned() + "\n";
    fs::write(&file, &first).unwrap();
    let done = world.json(&["doctor", "--rebuild-ledger"]);
    assert_eq!(done["added"], 1, "{done}");
    let after = fs::read_to_string(&file).unwrap();
    assert!(
        after.starts_with(&first) && after.lines().count() == 2,
        "{after}"
    );
    let backup = done["backup"].as_str().unwrap();
    assert_eq!(fs::read_to_string(backup).unwrap(), first);
}

#[test]
fn ledger_rebuild_fails_on_an_unreadable_head_unless_partial() {
    let world = World::new().with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
    let (open, secret) = (sample(1), sample(2));
    world.publish(open.path(), "open");
    let path = secret.path().to_str().unwrap();
    world.run(&["publish", path, "--name", "secret", "--encrypt"]);
    let file = ledger_file(&world);
    let lines = fs::read_to_string(&file).unwrap();
    let (first, second) = lines.split_once('\n').unwrap();
    assert!(first.contains("open") && second.contains("secret"));
    fs::write(&file, second).unwrap();
    let keys = world.path().join("data/walgit-fs/keys");
    fs::rename(&keys, world.path().join("keys")).unwrap();
    let output = world.fail(&["doctor", "--rebuild-ledger"]);
    assert!(
        output.contains("secret") && output.contains("--partial"),
        "{output}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), second);
    let done = world.json(&["doctor", "--rebuild-ledger", "--partial"]);
    assert_eq!(done["unreadable"], serde_json::json!(["secret"]));
    let after = fs::read_to_string(&file).unwrap();
    assert!(
        after.starts_with(second),
        "entries of the other name stay: {after}"
    );
    assert!(after.contains("\"open\""), "{after}");
}

#[test]
fn publish_during_a_ledger_rebuild_is_recorded() {
    let world = World::new();
    let (one, two) = (sample(1), sample(2));
    world.publish(one.path(), "one");
    let file = ledger_file(&world);
    fs::remove_file(&file).unwrap();
    // Stopped after it has read everything, before it writes.
    let args = ["doctor", "--rebuild-ledger", "--json"];
    let rebuild = world.start_stopped_at("ledger.before_extend", &args);
    world.publish(two.path(), "two");
    assert!(resume(rebuild).status.success());
    let names = |text: String| {
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut names: Vec<String> = lines
            .map(|it| it["name"].as_str().unwrap().into())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(fs::read_to_string(&file).unwrap()), ["one", "two"]);
}

#[test]
fn epoch_advance_that_expires_needed_blobs_requires_force() {
    let server = Server::start();
    let there = World::on(&server).with("WALGIT_FS_ADMIN", &server.url);
    for world in [World::new(), there] {
        let tree = sample(1);
        let path = tree.path().to_str().unwrap();
        world.run(&["publish", path, "--name", "it", "--epochs", "2"]);
        assert_eq!(
            world.json(&["debug", "epoch", "--advance", "1"])["epoch"],
            2
        );
        let output = world.fail(&["debug", "epoch", "--advance", "1"]);
        assert!(
            output.contains("needed by it") && output.contains("--force"),
            "{output}"
        );
        assert_eq!(
            world.json(&["debug", "epoch"])["epoch"],
            2,
            "nothing changed"
        );
        world.run(&["fsck", "it"]);
        // Content that only a mount shows is needed, too.
        let dir = world.mount("it");
        world.run(&["refs", "--remove", "it"]);
        let output = world.fail(&["debug", "epoch", "--advance", "1"]);
        assert!(output.contains("mounts or retention rules"), "{output}");
        world.run(&["renew", "--margin", "1", "--epochs", "3"]);
        let done = world.json(&["debug", "epoch", "--advance", "1"]);
        assert_eq!((&done["epoch"], &done["expired"]), (&3.into(), &0.into()));
        assert!(fs::read(dir.join("file")).unwrap() == noise(FILE_LEN, 1));
        let done = world.json(&["debug", "epoch", "--advance", "4", "--force"]);
        assert_eq!((&done["epoch"], &done["expired"]), (&7.into(), &1.into()));
    }
}
