//! A plain folder is published while other processes change it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use serde_json::Value;

use crate::support::tree::noise;
use crate::support::world::resume;
use crate::support::{Tree, World};

/// Publishes a folder as `it`, stopped at a step until `change` is done; returns the
/// report.
fn publish(world: &World, tree: &Tree, at: &str, change: impl FnOnce()) -> Value {
    let args = [
        "publish",
        tree.path().to_str().unwrap(),
        "--name",
        "it",
        "--json",
    ];
    let child = world.start_stopped_at(at, &args);
    change();
    let done = resume(child);
    assert!(done.status.success(), "{done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Skipped files: path and reason.
fn skipped(report: &Value) -> Vec<(String, String)> {
    let skipped = report["skipped"].as_array().unwrap().iter();
    let mut skipped: Vec<_> = skipped
        .map(|it| {
            let text = |key: &str| it[key].as_str().unwrap().to_owned();
            (text("path"), text("why"))
        })
        .collect();
    skipped.sort();
    skipped
}

#[test]
fn files_changed_after_listing_are_published_as_opened_or_skipped() {
    let world = World::new();
    let large = noise(20 << 20, 1);
    let tree = Tree::new()
        .file("grows", "line 1\n")
        .file("grows-large", "x")
        .file("shrinks", "a long text\n")
        .file("large", &large)
        .file("large-shrinks", noise(21 << 20, 2))
        .file("vanishes", "x")
        .file("becomes-a-pipe", "x")
        .file("becomes-a-folder", "x")
        .file("becomes-a-link", "x")
        .file("folder/vanishes", "x")
        .file("linked/inside", "x")
        .file("stays", "stays\n");
    let outside = Tree::new().file("inside", "outside\n");
    let at = |name: &str| tree.path().join(name);
    let report = publish(&world, &tree, "publish.folder_planned", || {
        fs::write(at("grows"), "line 1\nline 2\n").unwrap();
        fs::write(at("grows-large"), noise(12 << 20, 3)).unwrap();
        fs::write(at("shrinks"), "short\n").unwrap();
        File::options()
            .write(true)
            .open(at("large-shrinks"))
            .unwrap()
            .set_len(9 << 20)
            .unwrap();
        for name in [
            "vanishes",
            "becomes-a-pipe",
            "becomes-a-folder",
            "becomes-a-link",
        ] {
            fs::remove_file(at(name)).unwrap();
        }
        let made = Command::new("mkfifo").arg(at("becomes-a-pipe")).status();
        assert!(made.unwrap().success());
        fs::create_dir(at("becomes-a-folder")).unwrap();
        symlink("/etc/passwd", at("becomes-a-link")).unwrap();
        fs::remove_dir_all(at("folder")).unwrap();
        fs::remove_dir_all(at("linked")).unwrap();
        symlink(outside.path(), at("linked")).unwrap();
    });
    let expected = [
        ("becomes-a-folder", "vanished"),
        ("becomes-a-link", "vanished"),
        ("becomes-a-pipe", "unsupported"),
        ("folder/vanishes", "vanished"),
        ("linked/inside", "vanished"),
        ("vanishes", "vanished"),
    ];
    let expected = expected.map(|(path, why)| (path.to_owned(), why.to_owned()));
    assert_eq!(skipped(&report), expected, "{report}");
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("6 entries") && warning.contains("1 more"),
        "{warning}"
    );
    let dir = world.mount("it");
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    assert_eq!(read("grows"), b"line 1\nline 2\n");
    assert_eq!(read("shrinks"), b"short\n");
    assert_eq!(read("stays"), b"stays\n");
    assert_eq!(read("grows-large"), noise(12 << 20, 3));
    assert!(read("large") == large);
    assert_eq!(read("large-shrinks").len(), 9 << 20);
    assert!(!dir.join("vanishes").exists());
}

#[test]
fn file_resized_during_publish_is_never_torn() {
    let world = World::new();
    let tree = Tree::new().file("log", "line 1\n");
    let log = tree.path().join("log");
    publish(&world, &tree, "publish.file_opened", || {
        let mut log = File::options().append(true).open(&log).unwrap();
        log.write_all(b"line 2\n").unwrap();
    });
    let dir = world.mount("it");
    assert_eq!(
        fs::read(dir.join("log")).unwrap(),
        b"line 1\n",
        "content as opened"
    );
    world.unmount(&dir);
    publish(&world, &tree, "publish.file_opened", || {
        fs::write(&log, "new\n").unwrap();
    });
    let dir = world.mount("it");
    assert_eq!(
        fs::read(dir.join("log")).unwrap(),
        b"new\n",
        "content was read again"
    );
}

#[test]
fn unreadable_file_is_an_error_unless_skipping_is_requested() {
    let world = World::new();
    let tree = Tree::new()
        .file("fine", "fine")
        .file("secret", "x")
        .file("closed/inside", "x");
    let path = tree.path().to_str().unwrap().to_owned();
    for name in ["secret", "closed"] {
        fs::set_permissions(tree.path().join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    if File::open(tree.path().join("secret")).is_ok() {
        // Root can read everything.
        return;
    }
    let args = ["publish", &path, "--name", "it"];
    let output = world.fail(&args);
    assert!(
        output.contains("closed") && output.contains("--skip-unreadable"),
        "{output}"
    );
    let report = world.json(&[&args[..], &["--skip-unreadable"]].concat());
    let expected = [("closed", "unreadable"), ("secret", "unreadable")];
    let expected = expected.map(|(path, why)| (path.to_owned(), why.to_owned()));
    assert_eq!(skipped(&report), expected);
    let dir = world.mount("it");
    assert_eq!(fs::read(dir.join("fine")).unwrap(), b"fine");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
}
