//! Costs are computed before and after publishing with the network's own formula.

use std::fs;

use serde_json::Value;
use walrus_encoding::cost::encoded_size;

use crate::support::manifests::{address_of, manifests, world_with_fixture};
use crate::support::{Tree, World};

fn sample() -> Tree {
    (0..30)
        .fold(Tree::new(), |tree, n| {
            tree.noise(&format!("some/{n}"), 1000 + n as usize, n)
        })
        .file("again/0", "the same")
        .file("again/1", "the same")
        .noise("large", 3_000_000, 99)
}

fn blobs(world: &World) -> usize {
    fs::read_dir(world.blobs()).map_or(0, |dir| dir.count())
}

#[test]
fn cost_compares_a_repository_with_blob_per_file_and_quilts() {
    let world = World::new();
    let tree = sample();
    let published = world.publish(tree.path(), "it");
    let cost = world.json(&["cost", "it", "--epochs", "3"]);
    assert_eq!(cost["now"]["billed"], published["bytes_billed"]);
    assert_eq!(cost["now"]["blobs"], published["blobs_uploaded"]);
    // Duplicates count once.
    assert_eq!(cost["files"], 32, "{cost}");
    let alone: u64 = (0..30).map(|n| encoded_size(1000 + n)).sum();
    let alone = alone + encoded_size(8) + encoded_size(3_000_000);
    assert_eq!(cost["one_blob_a_file"]["billed"], alone);
    assert_eq!(cost["one_blob_a_file"]["blobs"], 32);
    assert_eq!(cost["quilts"]["blobs"], 1);
    // Mainnet's price, unless the profile sets one.
    let month = cost["price"]["storage"].as_f64().unwrap() * 365.25 / 12.0 / 14.0;
    assert!((month - 0.023).abs() < 1e-9);
    let epoch = cost["now"]["epoch"].as_f64().unwrap();
    let total = cost["now"]["total"].as_f64().unwrap();
    assert!(epoch > 0.0 && (total - 3.0 * epoch).abs() < 1e-12);
    let output = world.run(&["cost", "it"]);
    assert!(
        output.contains("one blob a file") && output.contains("USD"),
        "{output}"
    );
}

#[test]
fn configured_price_is_used() {
    let world = World::new()
        .config("[networks.local.price]\ncurrency = \"WAL\"\nstorage = 2.0\nwrite = 10.0\n");
    let tree = sample();
    world.publish(tree.path(), "it");
    let now = &world.json(&["cost", "it", "--epochs", "5"])["now"];
    let gb = now["billed"].as_f64().unwrap() / 1e9;
    assert!((now["epoch"].as_f64().unwrap() - 2.0 * gb).abs() < 1e-9);
    assert!((now["total"].as_f64().unwrap() - 20.0 * gb).abs() < 1e-9);
    assert!(world.run(&["cost", "it"]).contains("WAL"));
}

#[test]
fn cost_of_a_path_and_dry_run_predict_the_publish() {
    let world = World::new();
    let tree = sample();
    let path = tree.path().to_str().unwrap();
    let before = world.json(&["cost", path]);
    let trial = world.json(&["publish", path, "--name", "it", "--dry-run"]);
    assert_eq!(blobs(&world), 0);
    assert_eq!(world.json(&["refs"]), serde_json::json!([]));
    let published = world.publish(tree.path(), "it");
    for figure in ["bytes_stored", "bytes_billed", "blobs_uploaded", "files"] {
        assert_eq!(trial[figure], published[figure], "{figure}");
    }
    let without_name = |mut cost: Value| {
        cost["name"].take();
        cost
    };
    let after = world.json(&["cost", "it"]);
    assert_eq!(without_name(before), without_name(after));
    // A change costs another blob.
    fs::write(tree.path().join("some/3"), "changed").unwrap();
    let trial = world.json(&["publish", path, "--name", "it", "--dry-run"]);
    assert_eq!(trial["blobs_uploaded"], 1, "{trial}");
    assert_eq!(world.json(&["refs"])[0]["address"], published["address"]);
}

#[test]
fn cost_of_a_manifest_repository_is_reported() {
    let world = world_with_fixture();
    let [first, _] = manifests("plain");
    let cost = world.json(&["cost", &address_of(&first)]);
    // Each file and the manifest are blobs already.
    assert_eq!(
        cost["now"]["blobs"].as_u64(),
        cost["one_blob_a_file"]["blobs"].as_u64().map(|n| n + 1),
        "{cost}"
    );
}

#[test]
fn cost_of_an_unknown_path_is_an_error_that_names_it() {
    let world = World::new();
    let output = world.fail(&["cost", "nothing"]);
    assert!(
        output.contains("nothing") && output.contains("published"),
        "{output}"
    );
}
