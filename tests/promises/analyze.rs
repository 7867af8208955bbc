//! Files are classified in a folder and in a git repository alike.

use crate::support::{Tree, World};

fn sample() -> Tree {
    Tree::new()
        .file(
            "src/main.rs",
            "fn main() { println!(\"words\"); }\n".repeat(50),
        )
        .file("notes", "some words, and nothing else\n".repeat(50))
        .file("logo.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
        .noise("noise", 300_000, 7)
}

#[test]
fn each_file_gets_a_class_and_incompressible_files_are_listed() {
    let world = World::new();
    let tree = sample();
    let folder = tree.path().to_owned();
    let folder = folder.to_str().unwrap();
    let report = &world.json(&["debug", "analyze", folder, "--all"])[0];
    let class = |path: &str| {
        let files = report["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["path"] == path).unwrap();
        (file["class"].clone(), file["compressible"].clone())
    };
    assert_eq!(class("src/main.rs"), ("code (Rust)".into(), true.into()));
    assert_eq!(class("notes"), ("text".into(), true.into()));
    assert_eq!(class("logo.png").0, "image");
    assert_eq!(class("noise"), ("binary".into(), false.into()));
    assert_eq!(report["total"]["files"], 4, "{report}");
    assert_eq!(report["total"]["incompressible_bytes"], 300_016, "{report}");
    // The committed content counts, not later changes.
    let _changed = tree.commit("one").noise("notes", 5000, 8);
    let committed = &world.json(&["debug", "analyze", folder, "--all"])[0];
    assert_eq!(committed["classes"], report["classes"]);
}

#[test]
fn single_file_is_explained_and_missing_file_is_reported() {
    let world = World::new();
    let tree = sample();
    let file = tree.path().join("notes");
    let output = world.run(&["debug", "analyze", file.to_str().unwrap()]);
    assert!(
        output.contains("class") && output.contains("it begins like text"),
        "{output}"
    );
    let missing = tree.path().join("missing");
    let failed = world.fail(&["debug", "analyze", missing.to_str().unwrap()]);
    assert!(failed.contains("missing"), "{failed}");
}
