//! The storage tier of a file depends on its properties and on cost, and can be
//! explained.

use std::fs;

use serde_json::Value;
use walrus_encoding::cost::encoded_size;

use crate::support::{Tree, World};

/// The explanation for a file.
fn explain(world: &World, tree: &Tree, file: &str) -> Value {
    let path = tree.path().join(file);
    world.json(&["debug", "explain", path.to_str().unwrap()])
}

/// The explanation for a tier.
fn tier_report<'a>(report: &'a Value, tier: &str) -> &'a Value {
    let tiers = report["tiers"].as_array().unwrap();
    tiers.iter().find(|it| it["tier"] == tier).unwrap()
}

/// The tier of a mounted file.
fn tier_of(dir: &std::path::Path, file: &str) -> String {
    let value = xattr::get(dir.join(file), "user.walgit.tier").unwrap();
    String::from_utf8(value.unwrap()).unwrap()
}

#[test]
fn weighted_terms_add_up_to_the_tier_score() {
    let world = World::new();
    let tree = Tree::new().file("main.rs", "fn main() {}\n".repeat(200));
    let report = explain(&world, &tree, "main.rs");
    for tier in ["inline", "chunked", "walrus"] {
        let report = tier_report(&report, tier);
        let terms = report["terms"].as_array().unwrap();
        let names: Vec<&str> = terms
            .iter()
            .map(|it| it["term"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["size", "access", "class", "network", "cost"]);
        let weights: Vec<f64> = terms
            .iter()
            .map(|it| it["weight"].as_f64().unwrap())
            .collect();
        for (weight, default) in weights.iter().zip([0.30, 0.25, 0.15, 0.10, 0.20]) {
            assert!((weight - default).abs() < 1e-9, "{weights:?}");
        }
        let sum: f64 = terms
            .iter()
            .map(|it| it["value"].as_f64().unwrap() * it["weight"].as_f64().unwrap())
            .sum();
        assert!((sum - report["score"].as_f64().unwrap()).abs() < 1e-9);
    }
    assert_eq!(report["verdict"], "chunked");
    assert_eq!(report["known"]["access"], "default");
    assert_eq!(tier_report(&report, "walrus")["billed"], encoded_size(2600));
    let path = tree.path().join("main.rs");
    let output = world.run(&["debug", "explain", path.to_str().unwrap()]);
    for word in [
        "size",
        "access",
        "class",
        "network",
        "cost",
        "verdict: chunked",
    ] {
        assert!(output.contains(word), "{output}");
    }
    let output = world.fail(&["debug", "explain", "/nowhere/at/all"]);
    assert!(output.contains("/nowhere/at/all"), "{output}");
}

#[test]
fn debug_explain_matches_publish() {
    let world = World::new();
    let tree = Tree::new()
        .file("tiny", "a few words")
        .file("text", "many words, again and again\n".repeat(1000))
        .noise("noise-5", 5 << 20, 1)
        .noise("noise-9", 9 << 20, 2)
        .noise("noise-11", 11 << 20, 3);
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    for (file, tier) in [
        ("tiny", "inline"),
        ("text", "chunked"),
        ("noise-5", "chunked"),
        ("noise-9", "walrus"),
        ("noise-11", "chunked"),
    ] {
        assert_eq!(explain(&world, &tree, file)["verdict"], tier, "{file}");
        assert_eq!(tier_of(&dir, file), tier, "{file}");
    }
    // 5 MiB of incompressible content would be a separate blob by a fixed threshold.
    let report = explain(&world, &tree, "noise-5");
    assert_eq!(report["proposed"], "walrus");
    assert_eq!(report["because"], "cost");
    assert_eq!(tier_report(&report, "walrus")["ruled_out"], "cost");
    let (alone, packed) = (
        &tier_report(&report, "walrus")["billed"],
        &tier_report(&report, "chunked")["billed"],
    );
    assert!(
        alone.as_u64() > packed.as_u64().map(|packed| packed * 3 / 2),
        "{report}"
    );
}

#[test]
fn tier_weights_are_configurable_and_equal_settings_give_equal_blobs() {
    let tree = Tree::new()
        .file(
            "a/words",
            "something of seven hundred bytes or so; ".repeat(18),
        )
        .file(
            "b/words",
            "something else, but much alike in length ".repeat(18),
        )
        // A commit has a fixed time; a folder has that of its publish.
        .commit("words");
    let inline = "[tiers]\nweights = { size = 0, access = 1, class = 0, network = 0, cost = 0 }\n\
                  access = 0.9\n";
    let usual = World::new();
    let first = World::new().config(inline);
    let second = World::new().config(inline);
    let address = |world: &World| world.publish(tree.path(), "it")["address"].clone();
    assert_eq!(address(&first), address(&second));
    assert_ne!(address(&first), address(&usual));
    assert_eq!(explain(&usual, &tree, "a/words")["verdict"], "chunked");
    let report = explain(&first, &tree, "a/words");
    assert_eq!(report["verdict"], "inline");
    assert_eq!(report["known"]["access"], "config file");
    let dir = first.mount("it");
    assert_eq!(tier_of(&dir, "a/words"), "inline");
    assert_eq!(
        fs::read(dir.join("a/words")).unwrap(),
        fs::read(tree.path().join("a/words")).unwrap()
    );
    let wrong = World::new().config("[tiers]\naccess = 2.0\n");
    let output = wrong.fail(&["refs"]);
    assert!(output.contains("access"), "{output}");
}
