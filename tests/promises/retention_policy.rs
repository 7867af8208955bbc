//! Retention rules come from the config file, and can be queried.

use serde_json::Value;

use crate::support::{Tree, World};

const RULES: &str = "\
[retention]
default_days = 7

[retention.activity]
high = 3
medium = 2

[[retention.rules]]
ref = \"release/*\"
keep = \"forever\"

[[retention.rules]]
path = \"build/\"
keep = 1

[[retention.rules]]
class = \"image\"
activity = \"high\"
keep = 365
";

fn explained(world: &World, args: &[&str]) -> Value {
    world.json(&[&["policy", "explain"], args].concat())
}

#[test]
fn built_in_policy_is_shown_and_valid() {
    let world = World::new();
    let shown = world.json(&["policy", "show"]);
    assert_eq!(shown["default_days"], 30);
    assert_eq!(shown["rules"][0]["ref"], "main");
    assert_eq!(shown["rules"][0]["keep"], "forever");
    assert_eq!(world.json(&["policy", "check"])["ok"], true);
    let output = world.run(&["policy", "show"]);
    assert!(
        output.contains("class image") && output.contains("90 days"),
        "{output}"
    );
    assert_eq!(explained(&world, &["photos/a.jpg"])["keep"], 90);
    assert_eq!(explained(&world, &["src/a.rs"])["keep"], 30);
}

#[test]
fn first_matching_rule_decides() {
    let world = World::new().config(RULES);
    let tree = Tree::new()
        .noise("photo.png", 50_000, 1)
        .noise("build/out.png", 50_000, 2)
        .file("src/a.rs", "fn main() {}\n")
        .commit("one");
    tree.git(&["branch", "release/1"]);
    let path = tree.path().to_str().unwrap();
    world.run(&["publish", path, "--name", "it", "--branch", "main"]);
    // A commit and a publish are two events; no rule matches few events.
    let report = explained(&world, &["photo.png", "--of", "it"]);
    assert_eq!(
        (&report["keep"], &report["activity"]),
        (&7.into(), &"medium".into()),
        "{report}"
    );
    assert_eq!(report["needed"], true);
    // A mount is another event.
    let dir = world.mount("it");
    world.unmount(&dir);
    let report = explained(&world, &["photo.png", "--of", "it"]);
    assert_eq!(
        (&report["keep"], &report["activity"]),
        (&365.into(), &"high".into()),
        "{report}"
    );
    assert_eq!(report["rule"], 3);
    let report = explained(&world, &["build/out.png", "--of", "it"]);
    assert_eq!(
        (&report["keep"], &report["rule"]),
        (&1.into(), &2.into()),
        "{report}"
    );
    assert_eq!(
        explained(&world, &["src/a.rs", "--of", "it"])["rule"],
        Value::Null
    );
    let branches = [
        "publish",
        path,
        "--name",
        "it",
        "--branch",
        "main",
        "--branch",
        "release/1",
    ];
    world.run(&branches);
    let report = explained(&world, &["build/out.png", "--of", "it"]);
    assert_eq!(report["keep"], "forever", "{report}");
    let output = world.run(&["policy", "explain", "build/out.png", "--of", "it"]);
    assert!(
        output.contains("forever") && output.contains("release/*"),
        "{output}"
    );
}

#[test]
fn invalid_and_unreachable_rules_are_reported_by_number() {
    let bad = "[[retention.rules]]\nclass = \"picture\"\nkeep = 5\n";
    let world = World::new().config(bad);
    let done = world.try_run(&["policy", "check"]);
    assert_eq!(done.status.code(), Some(1));
    let output = String::from_utf8(done.stdout).unwrap();
    assert!(
        output.contains("rule 1") && output.contains("picture"),
        "{output}"
    );
    assert!(world.fail(&["policy", "show"]).contains("picture"));
    let twice = "[[retention.rules]]\nkeep = 5\n[[retention.rules]]\npath = \"*.rs\"\nkeep = 6\n";
    let world = World::new().config(twice);
    let done = world.try_run(&["policy", "check", "--json"]);
    assert_eq!(done.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["shadowed"][0]["rule"], 2, "{report}");
    let world = World::new().config("[retention]\nkeep = 5\n");
    assert!(world.fail(&["policy", "show"]).contains("unknown field"));
}
