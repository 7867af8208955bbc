//! Garbage collection deletes all unreferenced blobs and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::support::tree::{assert_same, noise};
use crate::support::{Server, Tree, World};

/// No retention rule keeps anything.
const NO_RETENTION: &str = "[retention]\ndefault_days = 0\nrules = []\n";

/// Large enough to fill a blob.
const LARGE_FILE_LEN: usize = 10_300_000;

fn blobs(world: &World) -> BTreeSet<String> {
    let names = fs::read_dir(world.blobs()).unwrap();
    names
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[track_caller]
fn gc(world: &World, args: &[&str]) -> Value {
    world.json(&[&["gc", "--grace", "0s"], args].concat())
}

/// Number of blobs with this fate.
fn count_fate(report: &Value, fate: &str) -> usize {
    let all = report["unneeded"].as_array().unwrap();
    let of_it = |it: &&Value| it["fate"] == fate || it["fate"]["kept"] == fate;
    all.iter().filter(of_it).count()
}

fn publish(world: &World, tree: &Tree, name: &str) -> String {
    let report = world.publish(tree.path(), name);
    report["address"].as_str().unwrap().into()
}

/// A tree with one large file that fills a blob, and small ones.
fn sample(seed: u64) -> Tree {
    Tree::new()
        .noise("large", LARGE_FILE_LEN, seed)
        .noise("small/one", 300_000, seed + 1)
        .file("small/two", "text ".repeat(1000))
}

#[test]
fn gc_collects_unreferenced_blobs_and_the_head_stays_readable() {
    let world = World::new().config(NO_RETENTION);
    let tree = sample(1);
    let old = publish(&world, &tree, "it");
    fs::write(tree.path().join("large"), noise(LARGE_FILE_LEN, 9)).unwrap();
    publish(&world, &tree, "it");
    let before = blobs(&world);
    let trial = gc(&world, &["--dry-run"]);
    assert_eq!(blobs(&world), before, "a trial deletes nothing");
    assert!(count_fate(&trial, "deleted") >= 1, "{trial}");
    let report = gc(&world, &[]);
    assert_eq!(report["unneeded"], trial["unneeded"]);
    assert_eq!(report["reclaimed"], trial["reclaimed"]);
    assert!(
        report["reclaimed"]["bytes"].as_u64() >= Some(9 << 20),
        "{report}"
    );
    assert!(report["saved"].as_f64() > Some(0.0));
    assert!(blobs(&world).is_subset(&before) && blobs(&world).len() < before.len());
    assert!(world.run(&["fsck", "it"]).contains("sound"));
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    world.unmount(&dir);
    // Content that the new head shares is kept, the old head is not.
    let output = world.try_run(&["fsck", &old]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // A second run has nothing to do.
    assert_eq!(gc(&world, &[])["unneeded"], Value::Array(Vec::new()));
    // A later publish of collected content is complete.
    publish(&world, &sample(1), "again");
    assert!(world.run(&["fsck", "again"]).contains("sound"));
}

#[test]
fn retention_rules_protect_old_heads_until_they_expire() {
    let rules = "[retention]\ndefault_days = 0\n[[retention.rules]]\npath = \"large\"\nkeep = 10\n";
    let world = World::new().config(rules);
    let tree = sample(1);
    let old = publish(&world, &tree, "it");
    // A head whose blob contains only directories: its content is in the first's.
    fs::remove_file(tree.path().join("small/two")).unwrap();
    let smaller = publish(&world, &tree, "it");
    fs::write(tree.path().join("large"), noise(LARGE_FILE_LEN, 9)).unwrap();
    publish(&world, &tree, "it");
    let report = gc(&world, &[]);
    assert!(
        count_fate(&report, "rule") >= 1 && count_fate(&report, "deleted") == 0,
        "{report}"
    );
    assert!(
        report["unneeded"][0]["until"].as_u64().is_some(),
        "{report}"
    );
    // Complete: with the directories on its path.
    assert!(world.run(&["fsck", &old]).contains("sound"));
    assert!(world.run(&["fsck", &smaller]).contains("sound"));
    let world = world.config(NO_RETENTION);
    assert!(count_fate(&gc(&world, &[]), "deleted") >= 1);
}

#[test]
fn retention_protects_the_content_of_unpublished_tags() {
    let world = World::new();
    let tree = sample(1).commit("one");
    tree.git(&["tag", "v1"]);
    // A history would need it as well.
    let path = tree.path().to_str().unwrap().to_owned();
    let bare = ["publish", &path, "--name", "it", "--history", "none"];
    let tagged = world.json(&bare)["address"].as_str().unwrap().to_owned();
    fs::write(tree.path().join("large"), noise(LARGE_FILE_LEN, 9)).unwrap();
    let tree = tree.commit("two");
    tree.git(&["tag", "-d", "v1"]);
    world.run(&bare);
    let report = gc(&world, &[]);
    // The built-in rules keep it forever.
    let kept = report["unneeded"].as_array().unwrap();
    assert!(
        !kept.is_empty() && count_fate(&report, "deleted") == 0,
        "{report}"
    );
    assert!(world.run(&["fsck", &tagged]).contains("sound"));
}

#[test]
fn gc_keeps_history_that_spans_several_publishes() {
    let world = World::new().config(NO_RETENTION);
    let mut tree = Tree::new().file("text", "one\n".repeat(3000));
    for n in 0..3 {
        tree = tree
            .noise("large", LARGE_FILE_LEN, n)
            .file("text", format!("{n}\n").repeat(4000))
            .commit(&format!("number {n}"));
        publish(&world, &tree, "it");
    }
    let first = tree.git(&["rev-list", "HEAD"]);
    let first = first.lines().last().unwrap();
    gc(&world, &[]);
    let (report, sound) = super::fsck::fsck(&world, &["it"]);
    assert!(sound, "{report}");
    // The large file of the first commit is in a separate blob that only the history
    // needs.
    let dir = world.mount("it");
    let old = dir.join(format!(".walgit/commits/{first}/large"));
    assert!(fs::read(&old).unwrap() == noise(LARGE_FILE_LEN, 0));
    world.unmount(&dir);
    let lost = blobs(&world).into_iter().find(|blob| {
        let content = fs::read(world.blobs().join(blob)).unwrap();
        let start = &noise(LARGE_FILE_LEN, 0)[..64];
        content.windows(64).any(|window| window == start)
    });
    fs::remove_file(world.blobs().join(lost.unwrap())).unwrap();
    let (report, sound) = super::fsck::fsck(&world, &["it"]);
    assert!(!sound, "{report}");
    assert!(report.to_string().contains("its history"), "{report}");
}

#[test]
fn gc_keeps_recent_and_mounted_blobs() {
    let world = World::new().config(NO_RETENTION);
    let tree = sample(1);
    let old = publish(&world, &tree, "it");
    fs::write(tree.path().join("large"), noise(LARGE_FILE_LEN, 9)).unwrap();
    publish(&world, &tree, "it");
    let report = world.json(&["gc", "--grace", "1h"]);
    assert!(
        count_fate(&report, "young") >= 1 && count_fate(&report, "deleted") == 0,
        "{report}"
    );
    let dir = world.mount(&old);
    let report = gc(&world, &[]);
    assert_eq!(report["unneeded"], Value::Array(Vec::new()), "{report}");
    assert_eq!(
        fs::read(dir.join("large")).unwrap(),
        noise(LARGE_FILE_LEN, 1)
    );
    world.unmount(&dir);
    assert!(count_fate(&gc(&world, &[]), "deleted") >= 1);
}

#[test]
fn gc_collects_content_of_removed_names() {
    let world = World::new().config(NO_RETENTION);
    let (one, two) = (sample(1), sample(50));
    publish(&world, &one, "one");
    publish(&world, &two, "two");
    let shared = publish(&world, &one, "same-as-one");
    world.run(&["refs", "--remove", "two"]);
    world.run(&["refs", "--remove", "one"]);
    let report = gc(&world, &[]);
    assert!(count_fate(&report, "deleted") >= 1, "{report}");
    assert!(world.run(&["fsck", &shared]).contains("sound"));
    assert!(world.run(&["fsck", "same-as-one"]).contains("sound"));
}

#[test]
fn gc_keeps_everything_an_unreadable_head_may_need() {
    let world = World::new().config(NO_RETENTION);
    let tree = sample(1);
    let path = tree.path().to_str().unwrap().to_owned();
    world.run(&["publish", &path, "--name", "secret", "--encrypt"]);
    fs::write(tree.path().join("large"), noise(LARGE_FILE_LEN, 9)).unwrap();
    world.run(&["publish", &path, "--name", "secret"]);
    let other = sample(70);
    publish(&world, &other, "open");
    fs::write(other.path().join("large"), noise(LARGE_FILE_LEN, 71)).unwrap();
    publish(&world, &other, "open");
    // Its key is temporarily missing.
    let keys = world.path().join("data/walgit-fs/keys");
    let aside = world.path().join("aside");
    let found = find_keys(world.path());
    fs::create_dir(&aside).unwrap();
    for (at, file) in found.iter().enumerate() {
        fs::rename(file, aside.join(at.to_string())).unwrap();
    }
    assert!(!found.is_empty(), "{}", keys.display());
    let report = gc(&world, &[]);
    assert_eq!(report["refused"][0]["head"], "secret", "{report}");
    assert!(count_fate(&report, "unknown") >= 1, "{report}");
    // Blobs of another name are collected nevertheless.
    assert!(count_fate(&report, "deleted") >= 1, "{report}");
    for (at, file) in found.iter().enumerate() {
        fs::rename(aside.join(at.to_string()), file).unwrap();
    }
    assert!(world.run(&["fsck", "secret"]).contains("sound"));
    assert!(count_fate(&gc(&world, &[]), "deleted") >= 1);
    assert!(world.run(&["fsck", "secret"]).contains("sound"));
}

/// Key files of a world.
fn find_keys(state: &Path) -> Vec<PathBuf> {
    let mut pending = vec![state.join("data/walgit-fs"), state.join("config/walgit-fs")];
    let mut found = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let text = path.to_string_lossy().into_owned();
            match path.is_dir() {
                true if !text.ends_with("local") => pending.push(path),
                false if text.contains("key") => found.push(path),
                _ => {}
            }
        }
    }
    found
}

#[test]
fn killed_publish_can_resume_and_its_orphans_are_collected_later() {
    // Slow enough to be killed half-way.
    let server = Server::with(&["--bandwidth-mbit", "60"]);
    let world = World::on(&server).config(NO_RETENTION);
    let tree = (0..4).fold(Tree::new(), |tree, n| {
        tree.noise(&format!("{n}"), 9 << 20, n)
    });
    let mut publish = world
        .command(&["publish", tree.path().to_str().unwrap(), "--name", "it"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    crate::support::eventually("something is stored", || {
        fs::read_dir(server.blobs()).is_ok_and(|dir| dir.count() >= 1)
    });
    publish.kill().unwrap();
    publish.wait().unwrap();
    let left = fs::read_dir(server.blobs()).unwrap().count();
    assert!(left >= 1);
    // Within the grace period its blobs are claimed.
    let report = world.json(&["gc", "--grace", "1h"]);
    assert!(count_fate(&report, "claimed") >= 1, "{report}");
    assert_eq!(
        count_fate(&report, "deleted") + count_fate(&report, "forgotten"),
        0,
        "{report}"
    );
    // After that they are orphans.
    let report = gc(&world, &[]);
    assert!(
        count_fate(&report, "deleted") + count_fate(&report, "forgotten") >= 1,
        "{report}"
    );
    assert_eq!(report["unneeded"][0]["published"], false);
    world.publish(tree.path(), "it");
    assert!(world.run(&["fsck", "it", "--remote"]).contains("sound"));
    let report = gc(&world, &[]);
    assert_eq!(count_fate(&report, "deleted"), 0, "{report}");
}

#[test]
fn gc_killed_at_any_step_loses_nothing_and_the_next_run_completes_it() {
    let world = World::new().config(NO_RETENTION);
    let tree = Tree::new()
        .noise("small/one", 300_000, 1)
        .file("kept", "it");
    let steps = [
        "gc.marked",
        "gc.condemned",
        "gc.before_delete",
        "gc.before_delete@2",
        "gc.after_delete",
        "gc.after_delete@3",
        "gc.batch_done",
        "gc.forget",
    ];
    for (n, step) in steps.into_iter().enumerate() {
        for m in 0..4 {
            let seed = 100 + 4 * n as u64 + m;
            fs::write(tree.path().join("large"), noise(200_000, seed)).unwrap();
            publish(&world, &tree, "it");
        }
        let (name, at) = step.split_once('@').unwrap_or((step, "1"));
        let mut killed = world.command(&["gc", "--grace", "0s"]);
        killed.env("WALGIT_FS_FAULT_POINTS", format!("{name}=kill@{at}"));
        let status = killed.stdout(Stdio::null()).status().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(9), "{step} was not reached");
        assert!(world.run(&["fsck", "it"]).contains("sound"), "{step}");
        // The intent of the killed run does not block a publish.
        publish(&world, &tree, "again");
        gc(&world, &[]);
        let report = gc(&world, &[]);
        assert_eq!(
            report["unneeded"],
            Value::Array(Vec::new()),
            "{step}: {report}"
        );
        assert_eq!(report["resumed"], 0, "{step}");
        assert!(world.run(&["fsck", "it"]).contains("sound"), "{step}");
    }
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
}

#[test]
fn gc_reads_names_and_leases_once_for_any_number_of_blobs() {
    let world = World::new().config(NO_RETENTION);
    publish(&world, &Tree::new().file("kept", "it"), "it");
    let names = world.path().join("data/walgit-fs/refs/local");
    for n in 0..200 {
        fs::copy(names.join("it"), names.join(format!("it{n}"))).unwrap();
    }
    for n in 0..10_000 {
        fs::write(world.blobs().join(format!("{n:A>42}A")), "an orphan").unwrap();
    }
    let report = gc(&world, &["--unknown"]);
    assert_eq!(count_fate(&report, "deleted"), 10_000);
    assert_eq!(
        report["scans"],
        serde_json::json!({"names": 1, "leases": 1})
    );
    assert_eq!(report["heads"], 1, "names of one head walk it once");
}

#[test]
fn gc_deletes_nothing_that_concurrent_publishes_need() {
    let world = World::new().config(NO_RETENTION);
    let trees: Vec<Tree> = (0..3).map(|n| sample(n * 100)).collect();
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            for _ in 0..12 {
                gc(&world, &[]);
            }
        });
        for (n, tree) in trees.iter().enumerate() {
            let world = &world;
            scope.spawn(move || {
                for round in 0..6 {
                    // Alternates with earlier, unreferenced content.
                    let seed = (n as u64) * 100 + 10 + round % 2;
                    fs::write(tree.path().join("small/one"), noise(250_000, seed)).unwrap();
                    publish(world, tree, &format!("it-{n}"));
                }
            });
        }
        collector.join().unwrap();
    });
    for n in 0..3 {
        let output = world.run(&["fsck", &format!("it-{n}")]);
        assert!(output.contains("sound"), "{output}");
    }
}

#[test]
fn gc_keeps_foreign_blobs_unless_requested() {
    let world = World::new().config(NO_RETENTION);
    publish(&world, &sample(1), "it");
    let stranger = "A".repeat(43);
    fs::write(world.blobs().join(&stranger), b"whose is this?").unwrap();
    assert_eq!(gc(&world, &[])["unneeded"], Value::Array(Vec::new()));
    assert!(blobs(&world).contains(&stranger));
    let report = gc(&world, &["--unknown"]);
    assert_eq!(count_fate(&report, "deleted"), 1, "{report}");
    assert!(!blobs(&world).contains(&stranger));
    let server = Server::start();
    let output = World::on(&server).fail(&["gc", "--unknown"]);
    assert!(output.contains("local"), "{output}");
}

#[test]
fn gc_removes_profiles_unused_for_half_a_year() {
    let world = World::new().config("[daemon]\nidle_exit_s = 0\n");
    let tree = (0..30).fold(Tree::new(), |tree, n| {
        tree.noise(&format!("{n}"), 20_000, n)
    });
    publish(&world, &tree, "it");
    let dir = world.mount("it");
    for n in 0..30 {
        fs::read(dir.join(n.to_string())).unwrap();
    }
    world.unmount_and_wait_for_exit(&dir);
    let file = world.path().join("learned").to_str().unwrap().to_owned();
    let report = gc(&world, &[]);
    assert_eq!(
        report["cache"]["learned"],
        Value::Array(Vec::new()),
        "{report}"
    );
    world.run(&["prefetch", "export", "it", "-o", &file]);
    // Backdates the mount.
    let mounts = world.path().join("state/walgit-fs/activity/local.jsonl");
    assert!(fs::read_to_string(&mounts).unwrap().contains("\"it\""));
    fs::write(&mounts, "{\"at\":1,\"name\":\"it\"}\n").unwrap();
    let report = gc(&world, &["--dry-run"]);
    assert_eq!(report["cache"]["learned"][0], "local/it", "{report}");
    world.run(&["prefetch", "export", "it", "-o", &file]);
    gc(&world, &[]);
    world.fail(&["prefetch", "export", "it", "-o", &file]);
}
