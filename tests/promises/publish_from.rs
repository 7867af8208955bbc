//! Publishing a hostile repository under another name writes nothing outside it.

use std::fs;

use serde_json::json;

use crate::support::World;
use crate::support::manifests::Commit;
use crate::support::tree::listing;

fn publish_from(world: &World, manifest: &str) -> (bool, String) {
    let from = format!("walrus://{manifest}");
    let done = world.try_run(&["publish", "--from", &from, "--name", "it"]);
    let output = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    assert!(!output.contains("panicked"), "{output}");
    (done.status.success(), output)
}

#[test]
fn escaping_paths_are_omitted_and_reported() {
    let world = World::new();
    let mut commit = Commit::new(&world.blobs())
        .file("good", b"good")
        .file("Case", b"one")
        .file("case", b"two");
    let bad = [
        "../outside",
        "/etc/passwd",
        "a/../../b",
        ".git/hooks/post-checkout",
        ".GIT/config",
        "sub/.git",
        "./x",
        "a//b",
        "nul\0byte",
        "",
        ".",
        "..",
        "dir/",
    ];
    for path in bad {
        commit = commit.alias("good", path);
    }
    let long = "n".repeat(300);
    let manifest = commit.alias("good", &long).store();
    let (fine, output) = publish_from(&world, &manifest);
    assert!(fine, "{output}");
    assert!(output.contains("left out"), "{output}");
    let names = |dir| -> Vec<String> {
        let found = listing(dir).into_iter();
        found
            .map(|(name, _)| String::from_utf8(name).unwrap())
            .collect()
    };
    let dir = world.mount("it");
    assert_eq!(names(&dir), ["Case", "case", "good"]);
    assert_eq!(fs::read(dir.join("Case")).unwrap(), b"one");
}

#[test]
fn content_that_does_not_match_its_hash_is_not_published() {
    let world = World::new();
    let good = Commit::new(&world.blobs()).file("good", b"good");
    let entry = good.entry_at("good");
    let nowhere = "A".repeat(43);
    for (field, value) in [
        ("hash", json!("00".repeat(32))),
        ("size", json!(5)),
        ("size", json!(1u64 << 50)),
        ("size", json!(u64::MAX)),
        ("size", json!(-1)),
        ("cid", json!(nowhere)),
        ("encrypted", json!(true)),
    ] {
        let mut wrong = entry.clone();
        wrong[field] = value.clone();
        let manifest = Commit::new(&world.blobs())
            .file("good", b"good")
            .entry("wrong", wrong)
            .store();
        let started = std::time::Instant::now();
        let (fine, output) = publish_from(&world, &manifest);
        assert!(started.elapsed().as_secs() < 60, "{field}: {value}");
        if fine {
            // Omitted and reported; the remaining content is correct.
            assert!(output.contains("left out"), "{field} {value}: {output}");
            let dir = world.mount("it");
            assert!(!dir.join("wrong").exists());
            world.unmount(&dir);
            world.run(&["refs", "--remove", "it"]);
        } else {
            assert!(output.contains("error: "), "{output}");
            assert!(
                world.json(&["refs"]).as_array().unwrap().is_empty(),
                "{field} {value}"
            );
        }
    }
}
