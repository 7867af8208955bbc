//! A head that many pushes have scattered is compacted, and its content is the same.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::tree::{assert_same, noise};
use crate::support::{Server, Tree, World};

/// A history of many small publishes of one repository, under the name `it`.
fn publish_history(world: &World, pushes: usize) -> Tree {
    let mut tree = (0..30).fold(Tree::new(), |tree, n| {
        tree.file(
            format!("src/{}/file{n}.rs", n % 5),
            format!("fn number_{n}() -> usize {{ {n} }}\n").repeat(20 + n),
        )
    });
    tree = tree
        .link("link", "src/0")
        .program("run.sh", "#!/bin/sh\necho hi\n")
        .file("empty", "")
        .noise("noise", 300_000, 7)
        .commit("first");
    world.publish(tree.path(), "it");
    for n in 0..pushes {
        tree = tree
            .file(
                format!("src/{}/file{}.rs", n % 5, n % 30),
                format!("fn changed_{n}() {{}}\n").repeat(40),
            )
            .file(format!("new/{n}"), noise(700, n as u64))
            .commit(&format!("push {n}"));
        world.publish(tree.path(), "it");
    }
    tree
}

fn address(world: &World) -> String {
    let refs = world.json(&["refs"]);
    let all = refs.as_array().unwrap();
    let it = all.iter().find(|it| it["name"] == "it").unwrap();
    it["address"].as_str().unwrap().to_owned()
}

fn compact(world: &World, more: &[&str]) -> Value {
    let report = world.json(&[&["compact", "it"], more].concat());
    report["heads"][0].clone()
}

/// Number of content requests to read everything with an empty cache.
fn requests(world: &World, address: &str, tree: &Path) -> usize {
    let server = Server::start();
    for blob in fs::read_dir(world.blobs()).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), server.blobs().join(blob.file_name())).unwrap();
    }
    let reader = World::on(&server);
    let dir = reader.mount(address);
    assert_same(tree, &dir);
    reader.unmount(&dir);
    server.requests("GET").len()
}

fn exported(world: &World, address: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("git");
    world.run(&["export", address, to.to_str().unwrap(), "--bare"]);
    let all = ["cat-file", "--batch-all-objects", "--batch-check"];
    crate::support::tree::git(&to, &all) + &crate::support::tree::git(&to, &["show-ref"])
}

#[test]
fn compaction_defragments_a_head_and_preserves_every_byte() {
    let world = World::new();
    let tree = publish_history(&world, 25);
    let before = address(&world);
    let history = exported(&world, &before);

    let plan = compact(&world, &["--dry-run"]);
    assert_eq!(address(&world), before, "a dry run moves nothing");
    assert_eq!(plan["plan"]["now"]["blobs"], 26);
    assert_eq!(plan["plan"]["then"]["blobs"], 1);

    let blobs = fs::read_dir(world.blobs()).unwrap().count();
    let report = compact(&world, &[]);
    let after = address(&world);
    assert_eq!(report["address"], after.as_str(), "{report}");
    assert_ne!(before, after);
    assert_eq!(fs::read_dir(world.blobs()).unwrap().count(), blobs + 1);

    let scattered = requests(&world, &before, tree.path());
    let new = requests(&world, &after, tree.path());
    let fresh = World::new();
    fresh.publish(tree.path(), "it");
    let best = requests(&fresh, &address(&fresh), tree.path());
    assert!(
        new <= best + 1 && new < scattered,
        "{scattered} {new} {best}"
    );

    assert_eq!(exported(&world, &after), history);
    world.run(&["fsck", "it", "--remote"]);
    // Only retention rules and the grace period keep old blobs.
    let fates = world.json(&["gc", "--grace", "0s"]);
    assert_eq!(fates["live_blobs"], 1);
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn push_after_compaction_stores_one_small_blob() {
    let world = World::new();
    let tree = publish_history(&world, 6);
    compact(&world, &["--force"]);
    let tree = tree.file("src/0/file0.rs", "fn again() {}\n").commit("on");
    let report = world.publish(tree.path(), "it");
    assert_eq!(report["blobs_uploaded"], 1);
    assert!(
        report["bytes_stored"].as_u64().unwrap() <= 70_000,
        "{report}"
    );
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn compaction_is_skipped_if_the_savings_are_small_or_it_ran_recently() {
    let world = World::new();
    let tree = publish_history(&world, 4);
    assert!(compact(&world, &[])["address"].is_string());
    let first = address(&world);
    assert_eq!(compact(&world, &[])["stays"]["why"], "little");
    let mut tree = tree;
    for n in 0..4 {
        tree = tree.file(format!("more/{n}"), noise(900, n)).commit("more");
        world.publish(tree.path(), "it");
    }
    let scattered = address(&world);
    assert_ne!(scattered, first);
    assert_eq!(compact(&world, &[])["stays"]["why"], "cooling");
    assert_eq!(address(&world), scattered);
    assert!(compact(&world, &["--force"])["address"].is_string());
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn compaction_respects_its_budget() {
    let server = Server::start();
    let world = World::on(&server);
    publish_history(&world, 4);
    let before = address(&world);
    let report = compact(&world, &["--spend", "0.000001"]);
    assert_eq!(report["stays"]["why"], "costs");
    assert_eq!(address(&world), before);
    let cost = report["plan"]["cost"].as_f64().unwrap();
    assert!(cost > 0.0005, "{report}");
    let report = compact(&world, &["--spend", "0.1"]);
    assert!(report["address"].is_string(), "{report}");
}

#[test]
fn compaction_keeps_a_repository_encrypted() {
    let world = World::new().with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere");
    let mut tree = Tree::new().file("a", "a secret to keep from others\n".repeat(30));
    let path = tree.path().to_str().unwrap().to_owned();
    for n in 0..4 {
        tree = tree.file(format!("b{n}"), noise(500, n));
        world.run(&["publish", &path, "--name", "it", "--encrypt"]);
    }
    let report = compact(&world, &[]);
    assert!(report["address"].is_string(), "{report}");
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    for blob in fs::read_dir(world.blobs()).unwrap() {
        let bytes = fs::read(blob.unwrap().path()).unwrap();
        let secret = b"to keep from others";
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
    }
}

#[test]
fn compaction_refuses_damaged_content() {
    let world = World::new();
    publish_history(&world, 4);
    let before = address(&world);
    // Content of the first publish, in the middle of its blob.
    let blob = fs::read_dir(world.blobs())
        .unwrap()
        .map(|it| it.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() - 100_000;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let done = world.try_run(&["compact", "it"]);
    assert_eq!(done.status.code(), Some(1));
    let output = String::from_utf8_lossy(&done.stdout);
    assert!(output.contains("corrupt"), "{output}");
    assert_eq!(address(&world), before);
}

#[test]
fn compaction_killed_at_any_step_loses_nothing_and_resumes() {
    let world = World::new();
    let tree = publish_history(&world, 3);
    let before = address(&world);
    let blobs = || fs::read_dir(world.blobs()).unwrap().count();
    let there = blobs();
    let mut after = None;
    let steps = world.kill_at_each_step(&["compact", "it", "--force"], |step| {
        world.run(&["fsck", "it", "--remote"]);
        if address(&world) == before {
            compact(&world, &["--force"]);
        }
        // The same head gives the same blob in every attempt.
        let now = address(&world);
        assert_eq!(*after.get_or_insert(now.clone()), now, "after step {step}");
        let left = fs::read_dir(world.blobs()).unwrap();
        let names = left.map(|it| it.unwrap().file_name().into_string().unwrap());
        let (temporary, blobs): (Vec<_>, Vec<_>) = names.partition(|it| it.starts_with('.'));
        assert_eq!(blobs.len(), there + 1, "after step {step}");
        assert!(temporary.len() <= 1, "{temporary:?}");
    });
    assert!(steps >= 8, "{steps} steps");
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn compaction_does_not_overwrite_a_concurrent_publish() {
    let server = Server::with(&["--latency-ms", "40"]);
    let world = World::on(&server);
    let tree = publish_history(&world, 5)
        .file("last", "the last word")
        .commit("last");
    std::thread::scope(|scope| {
        scope.spawn(|| world.try_run(&["compact", "it", "--force"]));
        scope.spawn(|| {
            // A publish whose name was moved concurrently fails, and is repeated.
            let path = tree.path().to_str().unwrap();
            let publish = ["publish", path, "--name", "it", "--force"];
            while !world.try_run(&publish).status.success() {}
        });
    });
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn daemon_runs_scheduled_compaction_and_reports_it() {
    let world = World::new().config("[compaction]\nschedule = \"1d\"\n");
    let tree = publish_history(&world, 5);
    let before = address(&world);
    let dir = world.mount(&before);
    crate::support::eventually_within(60, "the job has run", || {
        let status = world.json(&["status"]);
        let job = &status["jobs"][0];
        assert_eq!(job["name"], "compaction", "{status}");
        job["last"].as_u64() > Some(0)
    });
    assert_ne!(address(&world), before);
    let output = world.run(&["status"]);
    assert!(output.contains("job compaction: last run"), "{output}");
    assert!(output.contains("1 of 1 names compacted"), "{output}");
    assert_same(tree.path(), &dir);
    world.unmount(&dir);
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn daemon_compaction_spends_nothing_without_a_budget() {
    let server = Server::start();
    let world = World::on(&server).config("[compaction]\nschedule = \"1d\"\n");
    publish_history(&world, 5);
    let before = address(&world);
    world.mount(&before);
    crate::support::eventually_within(60, "the job has run", || {
        world.json(&["status"])["jobs"][0]["last"].as_u64() > Some(0)
    });
    assert_eq!(address(&world), before);
    let output = world.run(&["status"]);
    assert!(output.contains("0 of 1 names compacted"), "{output}");
}

#[test]
fn compaction_starts_with_the_best_ratio_of_savings_to_cost() {
    let world = World::new();
    for (name, pushes) in [("few", 3), ("many", 9), ("one", 1)] {
        let mut tree = Tree::new();
        for n in 0..pushes {
            tree = tree.file(format!("{n}"), noise(800, n));
            world.publish(tree.path(), name);
        }
    }
    let report = world.json(&["compact", "--dry-run"]);
    let names: Vec<&str> = (report["heads"].as_array().unwrap().iter())
        .map(|head| head["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["many", "few", "one"]);
    assert_eq!(report["heads"][2]["stays"]["why"], "little");
}

#[test]
fn compaction_moves_files_to_their_current_tier() {
    let world = World::new();
    let words = |word: &str| format!("{word} and other words of some length; ").repeat(16);
    let tree = Tree::new()
        .file("a/words", words("one"))
        .file("b/words", words("two"))
        .noise("c/noise", 50_000, 1);
    world.publish(tree.path(), "it");
    assert_eq!(compact(&world, &["--dry-run"])["moves"], 0);
    let world = world.config(
        "[tiers]\nweights = { size = 0, access = 1, class = 0, network = 0, cost = 0 }\n\
         access = 0.9\n",
    );
    let report = compact(&world, &[]);
    assert_eq!(report["moves"], 2, "{report}");
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    let tier = |file: &str| {
        let value = xattr::get(dir.join(file), "user.walgit.tier")
            .unwrap()
            .unwrap();
        String::from_utf8(value).unwrap()
    };
    assert_eq!(tier("a/words"), "inline");
    assert_eq!(tier("c/noise"), "chunked");
}

#[test]
fn compaction_spends_the_planned_amount() {
    let server = Server::start();
    let world = World::on(&server);
    let text = |n: u64| -> String {
        let bytes = noise(200_000, n);
        let hex = |part: &[u8]| {
            part.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        bytes.chunks(32).map(|part| hex(part) + "\n").collect()
    };
    let texts: Vec<String> = (0..40).map(text).collect();
    let mut tree = Tree::new();
    for (n, text) in texts.iter().enumerate() {
        tree = tree.file(format!("{n}"), text);
    }
    world.publish(tree.path(), "it");
    for push in 0..4 {
        for (n, text) in texts.iter().enumerate().filter(|(n, _)| n % 4 == push) {
            tree = tree.file(format!("{n}"), format!("{push}\n{text}"));
        }
        world.publish(tree.path(), "it");
    }
    let plan = compact(&world, &["--dry-run"]);
    let (cost, write) = (&plan["plan"]["cost"], &plan["plan"]["write"]);
    let spend = format!("{}", cost.as_f64().unwrap() * 1.01);
    let report = compact(&world, &["--spend", &spend]);
    assert!(report["address"].is_string(), "{report}");
    let stored = report["published"]["bytes_stored"].as_u64().unwrap();
    assert!(
        stored <= write.as_u64().unwrap().max(65_536),
        "{stored} {write}"
    );
    // The amount is recorded, so that another run cannot spend it again.
    let records = world
        .path()
        .join("state/walgit-fs/lifecycle/custom/compactions.jsonl");
    let spent: f64 = (fs::read_to_string(records).unwrap().lines())
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["cost"]
                .as_f64()
                .unwrap()
        })
        .sum();
    assert!(
        spent > 0.0 && spent <= cost.as_f64().unwrap() * 1.01,
        "{spent} {cost}"
    );
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn compaction_preserves_the_paid_epochs() {
    let server = Server::start();
    let world = World::on(&server).with("WALGIT_FS_ADMIN", &server.url);
    let mut tree = Tree::new();
    for n in 0..4 {
        tree = tree.file(format!("{n}"), noise(900, n));
        let path = tree.path().to_str().unwrap();
        let epochs = format!("{}", 3 + n);
        world.run(&["publish", path, "--name", "it", "--epochs", &epochs]);
    }
    let report = compact(&world, &[]);
    assert_eq!(report["plan"]["epochs"], 6, "{report}");
    world.run(&["debug", "epoch", "--advance", "5", "--force"]);
    assert_same(tree.path(), &world.mount("it"));
    world.run(&["fsck", "it", "--remote"]);
    // A head that has expired is reported as a failure.
    world.run(&["debug", "epoch", "--advance", "1", "--force"]);
    let done = world.try_run(&["compact", "it"]);
    assert_eq!(done.status.code(), Some(1));
    let output = String::from_utf8_lossy(&done.stdout);
    assert!(output.contains("not stored"), "{output}");
}
