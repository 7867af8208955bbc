//! Names move as branches do under `git push`: to descendants, or with `--force`;
//! earlier heads can be restored.

use std::fs;
use std::path::Path;
use std::process::Child;

use serde_json::Value;

use crate::support::tree::assert_same;
use crate::support::world::resume;
use crate::support::{Server, Tree, World};

fn args<'a>(path: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["publish", path.to_str().unwrap(), "--name", "it"], more].concat()
}

/// The address of the name.
fn address(world: &World) -> String {
    let names = world.json(&["refs"]);
    names[0]["address"].as_str().unwrap().to_owned()
}

#[test]
fn name_moves_only_to_descendants_unless_forced() {
    let world = World::new();
    let tree = Tree::new().file("a", "1\n").commit("first");
    let tree = tree.file("a", "2\n").commit("second");
    let first = world.json(&args(tree.path(), &[]));
    assert_eq!(first["replaced"], Value::Null);
    let tree = tree.file("a", "3\n").commit("third");
    let third = world.json(&args(tree.path(), &[]));
    assert_eq!(third["replaced"]["address"], first["address"]);
    let kept = address(&world);
    let refused = |path: &Path, more: &[&str], why: &str| {
        let output = world.fail(&args(path, more));
        assert!(
            output.contains(why) && output.contains("--force"),
            "{output}"
        );
        assert_eq!(address(&world), kept);
    };
    let other = Tree::new().file("a", "1\n").commit("other");
    refused(other.path(), &[], "does not descend");
    let plain = Tree::new().file("a", "1\n");
    refused(plain.path(), &[], "a plain folder");
    tree.git(&["branch", "older", "HEAD~1"]);
    tree.git(&["branch", "x"]);
    refused(tree.path(), &["--branch", "x"], "default branch");
    tree.git(&["reset", "-q", "--hard", "HEAD~2"]);
    refused(tree.path(), &[], "go back");
    // A dry run reports it and changes nothing.
    let trial = world.try_run(&args(tree.path(), &["--dry-run"]));
    assert!(trial.status.success());
    assert!(String::from_utf8_lossy(&trial.stderr).contains("would not be moved"));
    let forced = world.run(&args(other.path(), &["--force"]));
    assert!(
        forced.contains(&kept) && forced.contains("refs --restore it"),
        "{forced}"
    );
    // The printed command restores it.
    let undo = forced
        .lines()
        .find_map(|line| line.trim().strip_prefix("undo"))
        .unwrap();
    let words = undo.trim().replace('\'', "");
    let words: Vec<&str> = words.split(' ').skip(1).collect();
    world.run(&words);
    assert_eq!(address(&world), kept);
}

#[test]
fn dropped_branch_and_insufficient_shallow_clone_are_refused() {
    let world = World::new();
    let mut tree = Tree::new();
    for n in 0..3 {
        tree = tree.file("a", format!("{n}\n")).commit("more");
    }
    tree.git(&["branch", "x"]);
    world.run(&args(tree.path(), &["--branch", "main", "--branch", "x"]));
    let output = world.fail(&args(tree.path(), &["--branch", "main"]));
    assert!(output.contains("lacks the branch x"), "{output}");
    world.run(&args(
        tree.path(),
        &["--branch", "main", "--branch", "x", "--branch", "main"],
    ));
    // In a shallow clone, the next commit names its parent, which suffices.
    let path = tree.path().to_str().unwrap();
    world.run(&["publish", path, "--name", "shallow", "--history", "none"]);
    for (more, ok) in [(1, true), (3, false)] {
        for n in 0..more {
            tree = tree.file("a", format!("again {n}\n")).commit("again");
        }
        let clone = world.path().join(format!("clone-{more}"));
        let from = format!("file://{}", tree.path().display());
        tree.git(&[
            "clone",
            "-q",
            "--depth",
            "1",
            &from,
            clone.to_str().unwrap(),
        ]);
        let done = world.try_run(&["publish", clone.to_str().unwrap(), "--name", "shallow"]);
        assert_eq!(done.status.success(), ok, "{done:?}");
        let output = String::from_utf8_lossy(&done.stderr);
        assert!(ok || output.contains("incomplete"), "{output}");
    }
}

#[test]
fn moved_tag_is_refused_and_both_targets_are_named() {
    for history in ["all", "none"] {
        let world = World::new();
        let tree = Tree::new().file("a", "1\n").commit("first");
        let history = ["--history", history];
        tree.git(&["tag", "v1"]);
        world.run(&args(tree.path(), &history));
        let old = tree.git(&["rev-parse", "HEAD"]);
        let tree = tree.file("a", "2\n").commit("second");
        // It stays behind, and new tags are accepted.
        tree.git(&["tag", "v2"]);
        world.run(&args(tree.path(), &history));
        let kept = address(&world);
        let new = tree.git(&["rev-parse", "HEAD"]);
        tree.git(&["commit", "-q", "--allow-empty", "-m", "third"]);
        let moved = if history[1] == "all" { "v1" } else { "v2" };
        tree.git(&["tag", "-f", moved, "HEAD"]);
        let output = world.fail(&args(tree.path(), &history));
        let was = if history[1] == "all" { &old } else { &new };
        assert!(
            output.contains(&format!("tag {moved} would move from {}", &was[..12])),
            "{output}"
        );
        assert!(
            output.contains("--force") && output.contains(&tree.git(&["rev-parse", "HEAD"])[..12]),
            "{output}"
        );
        assert_eq!(address(&world), kept);
        let forced = world.run(&args(tree.path(), &[&history[..], &["--force"]].concat()));
        assert!(forced.contains(&kept), "{forced}");
    }
    // An annotated tag is another object than a lightweight one.
    let world = World::new();
    let tree = Tree::new().file("a", "1\n").commit("first");
    tree.git(&["tag", "v1"]);
    world.run(&args(tree.path(), &[]));
    tree.git(&["tag", "-f", "-a", "v1", "-m", "annotated"]);
    let output = world.fail(&args(tree.path(), &[]));
    assert!(output.contains("tag v1 would move"), "{output}");
}

#[test]
fn name_keeps_its_history_unless_forced() {
    let world = World::new();
    let mut tree = Tree::new();
    for n in 0..6 {
        tree = tree.file("a", format!("{n}\n")).commit("more");
    }
    world.run(&args(tree.path(), &[]));
    let kept = address(&world);
    let tree = tree.file("a", "new\n").commit("new");
    let refused = |path: &Path, more: &[&str], why: &str| {
        let output = world.fail(&args(path, more));
        assert!(
            output.contains(why) && output.contains("--force"),
            "{output}"
        );
        assert!(output.contains("git fetch --unshallow"), "{output}");
    };
    refused(
        tree.path(),
        &["--history", "none"],
        "no history instead of all",
    );
    refused(tree.path(), &["--history", "3"], "the last 3 commits");
    // More than exists means everything.
    world.run(&args(tree.path(), &["--history", "7", "--dry-run"]));
    let clone = world.path().join("clone");
    let from = format!("file://{}", tree.path().display());
    tree.git(&[
        "clone",
        "-q",
        "--depth",
        "2",
        &from,
        clone.to_str().unwrap(),
    ]);
    refused(&clone, &[], "the last 2 commits");
    assert_eq!(address(&world), kept);
    tree.git(&["-C", clone.to_str().unwrap(), "fetch", "-q", "--unshallow"]);
    world.run(&args(&clone, &[]));
    // After a forced reduction it continues with that depth, and no less.
    world.run(&args(tree.path(), &["--history", "3", "--force"]));
    let tree = tree.file("a", "newer\n").commit("newer");
    world.run(&args(tree.path(), &["--history", "3"]));
    refused(tree.path(), &["--history", "2"], "the last 2 commits");
    world.run(&args(tree.path(), &[]));
}

#[test]
fn directories_with_equal_names_do_not_replace_each_other() {
    let world = World::new();
    let (work, play) = (
        Tree::new().file("api/a", "work"),
        Tree::new().file("api/a", "play"),
    );
    let publish = |tree: &Tree| {
        let path = tree.path().join("api");
        world.try_run(&["publish", path.to_str().unwrap()])
    };
    assert!(publish(&work).status.success());
    let refused = publish(&play);
    let output = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && output.contains("another folder"),
        "{output}"
    );
    let work = work.file("api/b", "more");
    assert!(publish(&work).status.success());
    assert_same(&work.path().join("api"), &world.mount("api"));
}

#[test]
fn refs_reports_changes_and_restores_earlier_heads() {
    let world = World::new();
    let tree = Tree::new().file("a", "1\n").commit("first");
    world.run(&args(tree.path(), &[]));
    let first = address(&world);
    let tree = tree.file("a", "2\n").commit("second");
    world.run(&args(tree.path(), &[]));
    let second = address(&world);
    let output = world.fail(&["refs", "--set", "it", &first]);
    assert!(
        output.contains("go back") && output.contains("--force"),
        "{output}"
    );
    let report = world.json(&["refs", "--set", "it", &first, "--force"]);
    assert_eq!(report["replaced"]["address"], second.as_str(), "{report}");
    // Moving to a descendant needs no force.
    let report = world.run(&["refs", "--set", "it", &second]);
    assert!(
        report.contains(&first) && report.contains("undo"),
        "{report}"
    );
    world.run(&["refs", "--restore", "it"]);
    assert_eq!(address(&world), first);
    world.run(&["refs", "--restore", "it", "1"]);
    assert_eq!(address(&world), second);
    let report = world.run(&["refs", "--remove", "it"]);
    assert!(
        report.contains(&second) && report.contains("undo"),
        "{report}"
    );
    let past = world.json(&["refs", "--history", "it"]);
    let by: Vec<_> = past
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["by"].as_str().unwrap())
        .collect();
    let expected = [
        "refs --remove",
        "refs --restore",
        "refs --restore",
        "refs --set",
        "refs --set",
        "publish",
        "publish",
    ];
    assert_eq!(by, expected, "{past}");
    assert_eq!(
        (&past[0]["address"], &past[1]["stored"]),
        (&Value::Null, &true.into())
    );
    world.run(&["refs", "--restore", "it"]);
    assert_same(tree.path(), &world.mount("it"));
    // A deleted head is reported as such and not restored.
    let blob = first
        .strip_prefix("walrus://")
        .unwrap()
        .split('?')
        .next()
        .unwrap();
    fs::remove_file(world.blobs().join(blob)).unwrap();
    let text = world.run(&["refs", "--history", "it"]);
    assert!(text.contains("no longer stored"), "{text}");
    let output = world.fail(&["refs", "--restore", "it", &first]);
    assert!(output.contains("it is unchanged"), "{output}");
    assert_eq!(address(&world), second);
}

#[test]
fn names_of_encrypted_repositories_follow_the_same_rules_and_keep_their_key() {
    let world = World::new().with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
    let tree = Tree::new().file("a", "1\n").commit("first");
    world.run(&args(tree.path(), &["--encrypt"]));
    let first = address(&world);
    let other = Tree::new().file("a", "x\n").commit("other");
    let output = world.fail(&args(other.path(), &[]));
    assert!(output.contains("does not descend"), "{output}");
    let tree = tree.file("a", "2\n").commit("second");
    world.run(&args(tree.path(), &[]));
    world.run(&["refs", "--restore", "it"]);
    assert_eq!(address(&world), first);
    let again = world.json(&args(tree.path(), &[]));
    assert_eq!(again["encrypted"], true, "{again}");
    assert_same(tree.path(), &world.mount("it"));
}

#[track_caller]
fn assert_fails(child: Child) -> String {
    let done = resume(child);
    assert_eq!(done.status.code(), Some(1));
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn head_that_cannot_be_read_back_gets_no_name() {
    let world = World::new();
    let tree = Tree::new().file("a", "1\n").commit("first");
    world.run(&args(tree.path(), &[]));
    let (kept, old) = (address(&world), listed_names(&world));
    let tree = tree.file("a", "2\n").commit("second");
    let child = world.start_stopped_at("publish.stored", &args(tree.path(), &[]));
    for blob in listed_names(&world).difference(&old) {
        let path = world.blobs().join(blob);
        let mut bytes = fs::read(&path).unwrap();
        // In the head, after the header.
        bytes[70] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let output = assert_fails(child);
    assert!(
        output.contains("cannot be read back") && output.contains("it is unchanged"),
        "{output}"
    );
    assert_eq!(address(&world), kept);
}

fn listed_names(world: &World) -> std::collections::BTreeSet<String> {
    let entries = fs::read_dir(world.blobs()).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.contains('.')).collect()
}

#[test]
fn second_of_two_concurrent_name_updates_fails() {
    let world = World::new();
    let tree = Tree::new().file("a", "1\n").commit("first");
    world.run(&args(tree.path(), &[]));
    let tree = tree.file("a", "2\n").commit("second");
    let child = world.start_stopped_at("publish.stored", &args(tree.path(), &[]));
    let tree = tree.file("a", "3\n").commit("third");
    world.run(&args(tree.path(), &[]));
    let third = address(&world);
    let output = assert_fails(child);
    assert!(
        output.contains("concurrently") && output.contains(&third),
        "{output}"
    );
    assert_eq!(address(&world), third);
}

#[test]
fn outage_does_not_cause_a_complete_upload() {
    let mut server = Server::start();
    let world = World::on(&server).config("[net]\nretries = 0\n");
    let tree = Tree::new().file("a", "1\n").commit("first");
    world.run(&args(tree.path(), &[]));
    world.run(&["cache", "clear"]);
    server.stop();
    let tree = tree.file("a", "2\n").commit("second");
    for more in [&[][..], &["--force"], &["--fresh"]] {
        let output = world.fail(&args(tree.path(), more));
        assert!(output.contains("run the same command again"), "{output}");
        assert!(
            !output.contains("add --fresh") && !output.contains("another --name"),
            "{output}"
        );
    }
    server.restart();
    let report = world.json(&args(tree.path(), &[]));
    assert_eq!(report["blobs_uploaded"], 1, "{report}");
}

#[test]
fn only_recently_stored_blobs_are_waited_for() {
    let server = Server::start();
    let world = World::on(&server).config("[net]\nfirst_pause_ms = 20\nlongest_pause_ms = 50\n");
    let tree = Tree::new()
        .file("a", "1\n")
        .noise("noise", 300_000, 1)
        .commit("first");
    let late = "method=GET,path=/v1/blobs,first=3,status=404";
    let fired = |before: Vec<(String, u64)>| before[0].1;
    server.set_faults(late);
    world.run(&args(tree.path(), &["--verify"]));
    // Another process finds it in the ledger.
    world.run(&["cache", "clear"]);
    assert_eq!(fired(server.set_faults(late)), 3);
    assert_same(tree.path(), &world.mount("it"));
    assert_eq!(fired(server.set_faults("")), 3);
    // Blobs that this user did not store are not waited for.
    server.clear_requests();
    let unknown = format!("walrus://{}", "A".repeat(43));
    let dir = world.mountpoint();
    let output = world.fail(&["mount", &unknown, dir.to_str().unwrap()]);
    assert!(output.contains("is not stored"), "{output}");
    assert!(server.requests("GET /v1/blobs").len() <= 2);
}

#[test]
fn unreadable_names_are_listed_with_a_remedy_and_can_be_restored() {
    let world = World::new();
    let tree = Tree::new().file("a", "1\n").commit("first");
    for name in ["good", "cut", "empty", "folder", "gone", "pipe"] {
        world.publish(tree.path(), name);
    }
    let tree = tree.file("a", "2\n").commit("second");
    let newest = world.publish(tree.path(), "cut")["address"].clone();
    let dir = world.path().join("data/walgit-fs/refs/local");
    fs::write(dir.join("cut"), "{\"addre").unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    for name in ["folder", "gone", "pipe"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
    fs::create_dir(dir.join("folder")).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        dir.join("pipe"),
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    let done = world.try_run(&["refs"]);
    let output = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{output}");
    let listed = String::from_utf8(done.stdout).unwrap();
    assert!(
        listed.starts_with("good") && listed.lines().count() == 1,
        "{listed}"
    );
    for name in ["cut", "empty", "folder", "pipe"] {
        let file = dir.join(name);
        let line = output
            .lines()
            .find(|line| line.contains(file.to_str().unwrap()));
        let line = line.unwrap_or_else(|| panic!("nothing about {name}: {output}"));
        assert!(line.contains(&format!("refs --restore {name} ")), "{line}");
        assert!(
            line.contains(&format!("refs --set {name} ADDRESS")),
            "{line}"
        );
    }
    assert_eq!(output.lines().count(), 4, "{output}");
    // By default the newest head is restored, whatever was in its place.
    fs::remove_dir(dir.join("folder")).unwrap();
    for name in ["cut", "empty", "folder", "gone", "pipe"] {
        world.run(&["refs", "--restore", name]);
    }
    let names = world.json(&["refs"]);
    assert_eq!(names.as_array().unwrap().len(), 6, "{names}");
    assert_eq!(names[0]["name"], "cut");
    assert_eq!(names[0]["address"], newest);
}
