//! Needed blobs are paid for before they expire; others expire.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::tree::assert_same;
use crate::support::{Server, Tree, World, eventually_within};

/// A world over a devnet that reports epochs.
fn world(server: &Server) -> World {
    World::on(server).with("WALGIT_FS_ADMIN", &server.url)
}

fn publish(world: &World, tree: &Tree, name: &str, epochs: &str) -> Value {
    let path = tree.path().to_str().unwrap();
    world.json(&[
        "publish", path, "--name", name, "--epochs", epochs, "--force",
    ])
}

fn tree() -> Tree {
    Tree::new()
        .file("a/words", "a few words\n".repeat(100))
        .noise("noise", 50_000, 1)
}

/// End epochs of the blobs in the ledger, by name.
fn end_epochs(world: &World) -> Vec<(String, u64)> {
    let rows = world.json(&["ledger"]);
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| {
        let name = row["name"].as_str().unwrap().to_owned();
        (name, row["end_epoch"].as_u64().unwrap())
    })
    .collect()
}

#[test]
fn renewal_extends_only_needed_blobs() {
    let server = Server::start();
    // No rule keeps unreferenced content.
    let world = world(&server).config("[retention]\ndefault_days = 0\nrules = []\n");
    let (kept, other) = (tree(), Tree::new().noise("other", 60_000, 2));
    publish(&world, &kept, "kept", "3");
    let forgotten = publish(&world, &other, "forgotten", "3");
    world.run(&["refs", "--remove", "forgotten"]);
    let report = world.json(&["renew", "--dry-run"]);
    assert_eq!(report["plan"]["later"], 1, "{report}");
    world.run(&["debug", "epoch", "--advance", "2"]);

    let report = world.json(&["renew", "--dry-run"]);
    let due = report["plan"]["renew"].as_array().unwrap();
    assert_eq!(due.len(), 1, "{report}");
    assert_eq!((&due[0]["end"], &due[0]["new_end"]), (&4.into(), &8.into()));
    assert_eq!(report["renewed"], 0);

    let report = world.json(&["renew"]);
    assert_eq!(report["renewed"], 1, "{report}");
    let spent = report["spent"].as_f64().unwrap();
    assert!((spent - due[0]["cost"].as_f64().unwrap()).abs() < 1e-12);
    // It is paid for, and not again.
    assert_eq!(world.json(&["renew"])["renewed"], 0);
    assert!(end_epochs(&world).contains(&("kept".into(), 8)));

    world.run(&["debug", "epoch", "--advance", "3"]);
    let reader = World::on(&server);
    let address = world.json(&["refs"])[0]["address"].clone();
    assert_same(kept.path(), &reader.mount(address.as_str().unwrap()));
    let dir = reader.mountpoint();
    let gone = forgotten["address"].as_str().unwrap();
    let output = reader.fail(&["mount", gone, dir.to_str().unwrap()]);
    assert!(output.contains("not stored"), "{output}");
}

#[test]
fn renewal_respects_its_budget_and_reports_the_rest() {
    let server = Server::start();
    let world = world(&server);
    for n in 0..3 {
        let tree = Tree::new().noise("noise", 40_000 + n, n as u64);
        publish(&world, &tree, &format!("n{n}"), "2");
    }
    let whole = world.json(&["renew", "--dry-run"]);
    let all: f64 = (whole["plan"]["renew"].as_array().unwrap().iter())
        .map(|one| one["cost"].as_f64().unwrap())
        .sum();
    let budget = format!("{}", all * 0.7);
    let done = world.try_run(&["renew", "--budget", &budget, "--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["renewed"], 2, "{report}");
    assert_eq!(report["plan"]["over_budget"].as_array().unwrap().len(), 1);
    assert!(report["spent"].as_f64().unwrap() <= all * 0.7);
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(output.contains("over the budget"), "{output}");
}

#[test]
fn renewal_stores_again_if_extension_is_unavailable() {
    let server = Server::start();
    let world = World::new().config(&format!(
        "network = \"mine\"\n[networks.mine]\naggregators = [\"{0}\"]\npublishers = [\"{0}\"]\n\
         epoch_days = 14\n",
        server.url
    ));
    let tree = tree();
    publish(&world, &tree, "it", "2");
    server.clear_requests();
    let report = world.json(&["renew", "--margin", "5", "--epochs", "9"]);
    assert_eq!(report["present"]["estimated"], true, "{report}");
    assert_eq!(report["renewed"], 1, "{report}");
    assert_eq!(server.requests("PUT").len(), 1);
    // The estimated epoch is conservative, and still 1.
    assert_eq!(end_epochs(&world), [("it".into(), 10)]);
    assert_eq!(
        world.json(&["renew", "--margin", "5", "--epochs", "9"])["renewed"],
        0
    );
}

#[test]
fn renewal_without_a_publisher_reports_the_remedy() {
    let server = Server::start();
    let reading = format!(
        "network = \"mine\"\n[networks.mine]\nepoch_days = 14\naggregators = [\"{}\"]\n",
        server.url
    );
    let world = World::new().config(&format!("{reading}publishers = [\"{}\"]\n", server.url));
    publish(&world, &tree(), "it", "2");
    let world = world.config(&reading);
    let done = world.try_run(&["renew", "--margin", "5", "--epochs", "9"]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let output = String::from_utf8_lossy(&done.stdout);
    assert!(output.contains("no publisher"), "{output}");
}

#[test]
fn configured_walrus_client_extends_blobs() {
    let server = Server::start();
    let world = World::new();
    let log = world.path().join("called");
    let client = world.path().join("walrus");
    let script = format!("#!/bin/sh\necho \"$@\" >>'{}'\n", log.display());
    fs::write(&client, script).unwrap();
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
    let world = world.config(&format!(
        "network = \"mine\"\n[networks.mine]\naggregators = [\"{0}\"]\npublishers = [\"{0}\"]\n\
         epoch_days = 14\n[renewal]\ncommand = \"{1}\"\n",
        server.url,
        client.display()
    ));
    publish(&world, &tree(), "it", "2");
    let object = world.json(&["ledger"])[0]["object_id"].clone();
    server.clear_requests();
    let report = world.json(&["renew", "--margin", "5", "--epochs", "9"]);
    assert_eq!(report["renewed"], 1, "{report}");
    assert!(server.requests("PUT").is_empty());
    let called = fs::read_to_string(&log).unwrap();
    let epochs = report["plan"]["renew"][0]["new_end"].as_u64().unwrap() - 3;
    let object = object.as_str().unwrap();
    assert_eq!(
        called.trim(),
        format!("extend --blob-obj-id {object} --epochs-extended {epochs} --json")
    );
    // A failed client is reported with its own message.
    fs::write(&client, "#!/bin/sh\necho no coins >&2\nexit 3\n").unwrap();
    let done = world.try_run(&["renew", "--margin", "20", "--epochs", "30"]);
    assert_eq!(done.status.code(), Some(1));
    let output = String::from_utf8_lossy(&done.stdout);
    assert!(output.contains("no coins"), "{output}");
}

#[test]
fn renewal_killed_at_any_step_resumes_and_records_only_paid_epochs() {
    let world = World::new();
    for n in 0..3 {
        let tree = Tree::new().noise("noise", 30_000, 100 + n);
        publish(&world, &tree, &format!("n{n}"), "2");
    }
    let paid_until = |blob: &str| {
        let meta = world
            .blobs()
            .with_file_name("meta")
            .join(format!("{blob}.json"));
        let meta: Value = serde_json::from_slice(&fs::read(meta).unwrap()).unwrap();
        meta["endEpoch"].as_u64().unwrap()
    };
    let steps = world.kill_at_each_step(&["renew"], |step| {
        for row in world.json(&["ledger"]).as_array().unwrap() {
            let paid = paid_until(row["blob"].as_str().unwrap());
            assert!(
                row["end_epoch"].as_u64() <= Some(paid),
                "after step {step}: {row}"
            );
        }
        world.run(&["renew"]);
        assert_eq!(world.json(&["renew"])["renewed"], 0, "after step {step}");
        for row in world.json(&["ledger"]).as_array().unwrap() {
            let paid = paid_until(row["blob"].as_str().unwrap());
            assert_eq!(paid, 6, "after step {step}: {row}");
        }
    });
    assert!(steps >= 8, "{steps} steps");
}

#[test]
fn lost_ledger_is_rebuilt_from_names() {
    let server = Server::start();
    let world = world(&server);
    let tree = tree();
    publish(&world, &tree, "it", "7");
    let tree = tree.noise("more", 70_000, 9);
    publish(&world, &tree, "it", "9");
    let before = world.json(&["ledger"]);
    assert_eq!(before.as_array().unwrap().len(), 2);
    let file = world.path().join("data/walgit-fs/ledger/custom.jsonl");
    fs::remove_file(&file).unwrap();
    assert_eq!(world.json(&["ledger"]).as_array().unwrap().len(), 0);
    let output = world.run(&["doctor", "--rebuild-ledger"]);
    assert!(output.contains("2 blobs"), "{output}");
    let after = world.json(&["ledger"]);
    for (a, b) in before
        .as_array()
        .unwrap()
        .iter()
        .zip(after.as_array().unwrap())
    {
        for key in ["blob", "len", "end_epoch", "object_id", "needed_by"] {
            assert_eq!(a[key], b[key], "{key}");
        }
    }
    // A second run adds nothing.
    let again = world.json(&["doctor", "--rebuild-ledger"]);
    assert_eq!(
        (&again["added"], &again["backup"]),
        (&0.into(), &serde_json::Value::Null)
    );
    // A damaged ledger is kept in addition to the new one.
    for damaged in ["not a line\n", "nor is this\n"] {
        fs::write(&file, damaged).unwrap();
        let done = world.json(&["doctor", "--rebuild-ledger"]);
        let backup = done["backup"].as_str().unwrap();
        assert_eq!(fs::read_to_string(backup).unwrap(), damaged);
    }
}

#[test]
fn daemon_renews_on_schedule_and_warns_if_it_cannot() {
    let server = Server::start();
    let scheduled = "[renewal]\nschedule = \"1d\"\nbudget = 1.0\n";
    let rich = world(&server).config(scheduled);
    let poor = world(&server).config("[renewal]\nschedule = \"1d\"\n");
    for world in [&rich, &poor] {
        publish(world, &tree(), "it", "2");
        let address = world.json(&["refs"])[0]["address"].clone();
        world.mount(address.as_str().unwrap());
        eventually_within(60, "the job has run", || {
            world.json(&["status"])["jobs"][0]["last"].as_u64() > Some(0)
        });
        if std::ptr::eq(world, &rich) {
            let output = world.run(&["status"]);
            assert!(output.contains("job renewal: last run"), "{output}");
            assert!(output.contains("1 of 1 blobs renewed"), "{output}");
            assert_eq!(end_epochs(world), [("it".into(), 6)]);
        }
    }
    // Its blob is equal and therefore paid for already; others are reported.
    publish(&poor, &Tree::new().noise("x", 20_000, 77), "x", "2");
    let done = poor.try_run(&["renew", "--budget", "0"]);
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(output.contains("over the budget"), "{output}");
}

#[test]
fn fsck_reports_expiry_and_warns_in_time() {
    let server = Server::start();
    let world = world(&server);
    publish(&world, &tree(), "it", "6");
    let output = world.run(&["fsck", "it"]);
    assert!(
        output.contains("until epoch 6 ends; it is 1 now"),
        "{output}"
    );
    world.run(&["debug", "epoch", "--advance", "4"]);
    let done = world.try_run(&["fsck", "it"]);
    assert!(done.status.success());
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(output.contains("1 blobs expire soon"), "{output}");
    world.run(&["debug", "epoch", "--advance", "3", "--force"]);
    assert_eq!(world.try_run(&["fsck", "it"]).status.code(), Some(1));
    let quiet = World::on(&server);
    publish(&quiet, &tree(), "it", "1");
    let output = quiet.run(&["fsck", "it"]);
    assert!(output.contains("does not report"), "{output}");
}

#[test]
fn epoch_server_without_the_blobs_does_not_expire_ledger_entries() {
    let (blobs, epochs) = (Server::start(), Server::start());
    let world = World::on(&blobs)
        .with("WALGIT_FS_ADMIN", &epochs.url)
        .config("[retention]\ndefault_days = 0\nrules = []\n");
    publish(&world, &tree(), "it", "4");
    publish(&world, &tree().noise("more", 50_000, 3), "it", "4");
    let report = world.json(&["gc", "--grace", "0s"]);
    for one in report["unneeded"].as_array().unwrap() {
        assert_ne!(one["fate"], "expired", "{report}");
    }
    let report = world.json(&["renew", "--dry-run"]);
    assert_eq!(
        report["plan"]["gone"].as_array().unwrap().len(),
        0,
        "{report}"
    );
    // Servers given on the command line are not those of the profile's devnet.
    let world = World::on(&blobs).with("WALGIT_FS_NETWORK", "devnet");
    let output = world.fail(&["debug", "epoch"]);
    assert!(output.contains("--admin URL"), "{output}");
}
