//! Where a file is kept is decided by what suits it and what it costs, and told.

use std::fs;

use serde_json::Value;
use walrus_encoding::cost::encoded_size;

use crate::support::{Tree, World};

/// What is said of a file.
fn explain(world: &World, tree: &Tree, file: &str) -> Value {
    let path = tree.path().join(file);
    world.json(&["debug", "explain", path.to_str().unwrap()])
}

/// What is said of a tier.
fn of<'a>(told: &'a Value, tier: &str) -> &'a Value {
    let tiers = told["tiers"].as_array().unwrap();
    tiers.iter().find(|it| it["tier"] == tier).unwrap()
}

/// Where a file of a mount is kept.
fn kept(dir: &std::path::Path, file: &str) -> String {
    let value = xattr::get(dir.join(file), "user.walgit.tier").unwrap();
    String::from_utf8(value.unwrap()).unwrap()
}

#[test]
fn weighted_terms_add_up_to_the_tier_score() {
    let world = World::new();
    let tree = Tree::new().file("main.rs", "fn main() {}\n".repeat(200));
    let told = explain(&world, &tree, "main.rs");
    for tier in ["inline", "chunked", "walrus"] {
        let told = of(&told, tier);
        let terms = told["terms"].as_array().unwrap();
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
        assert!((sum - told["score"].as_f64().unwrap()).abs() < 1e-9);
    }
    assert_eq!(told["verdict"], "chunked");
    assert_eq!(told["known"]["access"], "default");
    assert_eq!(of(&told, "walrus")["billed"], encoded_size(2600));
    let path = tree.path().join("main.rs");
    let said = world.run(&["debug", "explain", path.to_str().unwrap()]);
    for word in [
        "size",
        "access",
        "class",
        "network",
        "cost",
        "verdict: chunked",
    ] {
        assert!(said.contains(word), "{said}");
    }
    let said = world.fail(&["debug", "explain", "/nowhere/at/all"]);
    assert!(said.contains("/nowhere/at/all"), "{said}");
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
        assert_eq!(kept(&dir, file), tier, "{file}");
    }
    // 5 MiB that do not shrink would be a blob of their own by a fixed threshold.
    let told = explain(&world, &tree, "noise-5");
    assert_eq!(told["proposed"], "walrus");
    assert_eq!(told["because"], "cost");
    assert_eq!(of(&told, "walrus")["ruled_out"], "cost");
    let (alone, packed) = (
        &of(&told, "walrus")["billed"],
        &of(&told, "chunked")["billed"],
    );
    assert!(
        alone.as_u64() > packed.as_u64().map(|packed| packed * 3 / 2),
        "{told}"
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
        // A commit has its own time; a folder that of its publish.
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
    let told = explain(&first, &tree, "a/words");
    assert_eq!(told["verdict"], "inline");
    assert_eq!(told["known"]["access"], "config file");
    let dir = first.mount("it");
    assert_eq!(kept(&dir, "a/words"), "inline");
    assert_eq!(
        fs::read(dir.join("a/words")).unwrap(),
        fs::read(tree.path().join("a/words")).unwrap()
    );
    let wrong = World::new().config("[tiers]\naccess = 2.0\n");
    let said = wrong.fail(&["refs"]);
    assert!(said.contains("access"), "{said}");
}
